//! Queries to the binary: its configuration, metrics and reason codes.

use std::{path::Path, process::Output};

use portcullis_integration_tests::portcullis;
use serde_json::Value;

/// Runs it and returns its output.
pub(super) fn run(arguments: &[&str], variables: &[(String, String)]) -> Output {
    let mut command = portcullis::command();
    command.args(arguments).envs(variables.iter().cloned());
    command.output().expect("the binary can be run")
}

/// Panics unless the binary understands these arguments: a command, and options that it has.
pub(super) fn assert_understands(arguments: &[String], place: &Path) {
    let (command, options) = arguments.split_first().expect("a command");
    let help = run(&[command, "--help"], &[]);
    let text = String::from_utf8_lossy(&help.stdout);
    assert!(help.status.success(), "{}: there is no command `{command}`", place.display());
    for option in options.iter().filter(|option| option.starts_with('-')) {
        let has_it = text.split_whitespace().any(|word| word == option);
        assert!(has_it, "{}: `{command}` has no option `{option}`:\n{text}", place.display());
    }
}

/// The default of a key, such as `grpc.listen`.
pub(super) fn default_of(key: &str) -> String {
    let schema = run(&["config", "schema"], &[]);
    let schema: Value = serde_json::from_slice(&schema.stdout).expect("the schema is JSON");
    let mut properties = &schema["properties"];
    let mut place = &Value::Null;
    for part in key.split('.') {
        place = &properties[part];
        // A section that may be left out is a reference or nothing.
        let reference = if place["$ref"].is_null() { &place["anyOf"][0] } else { place };
        let name = reference["$ref"].as_str().unwrap_or_default();
        properties = &schema["$defs"][name.trim_start_matches("#/$defs/")]["properties"];
    }
    let default = place["default"].as_str();
    default.unwrap_or_else(|| panic!("`{key}` has no default in the schema")).to_owned()
}

/// The port of a configuration's address, or of the default.
pub(super) fn port(config: &Value, section: &str) -> u16 {
    let default = default_of(&format!("{section}.listen"));
    let address = config[section]["listen"].as_str().unwrap_or(&default);
    address.parse::<std::net::SocketAddr>().expect("an address").port()
}

/// The seconds of a configuration's duration, or of the default.
pub(super) fn seconds(config: &Value, section: &str, key: &str) -> u64 {
    let default = default_of(&format!("{section}.{key}"));
    parse_seconds(config[section][key].as_str().unwrap_or(&default))
}

/// Whole seconds, as in `5s`.
pub(super) fn parse_seconds(text: &str) -> u64 {
    let seconds = text.strip_suffix('s').and_then(|number| number.parse().ok());
    seconds.unwrap_or_else(|| panic!("{text} is not whole seconds"))
}
