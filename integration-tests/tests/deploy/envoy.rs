//! Tests of the Envoy configurations that we ship: Envoy accepts them, and each setting of
//! `docs/hardening.md` is in each of them.

use std::{path::PathBuf, process::Command};

use portcullis_integration_tests::places;
use serde_json::{Value, json};

use super::documents::{deploy, files, text, yaml};

/// Every file in `deploy` that is a configuration of Envoy.
fn configurations() -> Vec<PathBuf> {
    let mut files = files(&deploy(""));
    files.retain(|path| {
        path.extension().is_some_and(|extension| extension == "yaml")
            && text(path).contains("static_resources:")
    });
    files
}

/// The settings of each connection manager.
fn connection_manager() -> Value {
    json!({
        "normalize_path": true,
        "merge_slashes": true,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "strip_any_host_port": true,
        "strip_trailing_host_dot": true,
        "use_remote_address": true,
        "xff_num_trusted_hops": 0,
        "common_http_protocol_options": {"headers_with_underscores_action": "REJECT_REQUEST"},
        "max_request_headers_kb": 24,
        "request_headers_timeout": "10s",
        "stream_idle_timeout": "300s",
        "route_config": {"request_headers_to_remove": [
            "forwarded", "x-forwarded-host", "x-forwarded-prefix", "x-forwarded-server",
            "x-original-host",
        ]},
    })
}

/// The settings of each external authorization filter.
fn ext_authz() -> Value {
    json!({
        "failure_mode_allow": false,
        "status_on_error": {"code": "ServiceUnavailable"},
        "encode_raw_headers": true,
        // It refuses percent-encoded characters.
        "validate_mutations": null,
        "decoder_header_mutation_rules": {"disallow_system": true, "disallow_is_error": true},
        "clear_route_cache": false,
        "grpc_service": {"timeout": "0.2s"},
    })
}

/// The settings of `wanted` that are missing in `found`, or have another value there.
fn missing(wanted: &Value, found: &Value, place: &str) -> Vec<String> {
    match wanted {
        Value::Object(wanted) => wanted
            .iter()
            .flat_map(|(key, value)| missing(value, &found[key], &format!("{place}.{key}")))
            .collect(),
        wanted if wanted == found => Vec::new(),
        _ => vec![format!("{place}: {found}")],
    }
}

/// The names of settings.
fn names(settings: &Value) -> Vec<&str> {
    /// Messages that only hold settings.
    const HOLDERS: [&str; 3] = ["common_http_protocol_options", "grpc_service", "route_config"];
    let settings = settings.as_object().expect("settings").iter();
    settings
        .flat_map(
            |(name, value)| {
                if HOLDERS.contains(&name.as_str()) { names(value) } else { vec![name.as_str()] }
            },
        )
        .collect()
}

#[test]
fn envoy_accepts_every_configuration() {
    let configurations = configurations();
    assert_eq!(configurations.len(), 2, "{configurations:?}");
    for file in configurations {
        let output = Command::new(places::envoy())
            .args(["--mode", "validate", "--log-level", "error", "--config-path"])
            .arg(&file)
            .output()
            .expect("Envoy can be run");
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}:\n{log}", file.display());
    }
}

#[test]
fn every_configuration_has_every_setting_of_the_page() {
    for file in configurations() {
        let config = yaml(&file);
        for listener in config["static_resources"]["listeners"].as_array().unwrap() {
            let manager = &listener["filter_chains"][0]["filters"][0]["typed_config"];
            let filters = manager["http_filters"].as_array().expect("an HTTP listener");
            // A filter before it would act on requests without a decision.
            assert_eq!(filters[0]["name"], "envoy.filters.http.ext_authz", "{}", file.display());
            let lost = [
                missing(&connection_manager(), manager, ""),
                missing(&ext_authz(), &filters[0]["typed_config"], ""),
            ];
            assert_eq!(lost.concat(), Vec::<String>::new(), "{}", file.display());
        }
    }
}

#[test]
fn the_page_names_every_setting() {
    let page = text(&deploy("../docs/hardening.md"));
    let (manager, filter) = (connection_manager(), ext_authz());
    let mut settings = [names(&manager), names(&filter)].concat();
    settings.retain(|name| !page.contains(&format!("`{name}")));
    assert_eq!(settings, Vec::<&str>::new());
}
