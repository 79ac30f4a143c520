//! Owns the test that Envoy accepts the configurations that we ship.

use std::process::Command;

use portcullis_integration_tests::places;

use super::documents::deploy;

#[test]
fn envoy_accepts_every_configuration() {
    for file in ["envoy/envoy.yaml", "compose/envoy.yaml"] {
        let output = Command::new(places::envoy())
            .args(["--mode", "validate", "--log-level", "error", "--config-path"])
            .arg(deploy(file))
            .output()
            .expect("Envoy can be run");
        assert!(output.status.success(), "{file}:\n{}", String::from_utf8_lossy(&output.stderr));
    }
}
