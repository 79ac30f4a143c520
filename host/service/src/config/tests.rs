//! Tests of the configuration: a file and variables, and the messages for mistakes in them.

use std::os::unix::ffi::OsStringExt;

use super::*;

fn parse(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    super::parse(text, Path::new("portcullis.yaml"), &Env::new(env.iter().copied()))
        .map_err(|error| error.to_string())
}

#[test]
fn an_empty_file_is_the_default_configuration() {
    for text in ["", "# nothing\n", "{}"] {
        assert!(parse(text, &[]).unwrap().routes.is_empty(), "{text:?}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_known_ones() {
    let error = parse("routes:\n- name: a\n  token: required\n  polcy: x\n", &[]).unwrap_err();
    assert!(error.contains("portcullis.yaml: `routes[0].polcy`"), "{error}");
    assert!(error.contains("policy"), "{error}");
}

#[test]
fn a_wrong_value_is_refused_with_the_fix() {
    let error = parse("shutdown: {grace: 5}", &[]).unwrap_err();
    assert!(error.contains("shutdown.grace"), "{error}");
    let error = parse("shutdown: {grace: 5x}", &[]).unwrap_err();
    assert!(error.contains("such as 250ms"), "{error}");
}

#[test]
fn a_duration_of_zero_is_refused_where_it_would_lame_or_end_the_process() {
    for (section, key) in [
        ("grpc", "read_timeout"),
        ("grpc", "keepalive_interval"),
        ("grpc", "keepalive_timeout"),
        ("http", "timeout"),
        ("http", "idle_timeout"),
        ("tokens", "key_reload_interval"),
        ("policy_host", "reload_interval"),
        ("policy_host", "reload_timeout"),
        ("policy_host", "configure_deadline"),
        ("blacklist", "sweep_interval"),
    ] {
        let error = parse(&format!("{section}: {{{key}: 0s}}"), &[]).unwrap_err();
        assert!(error.contains(&format!("`{section}.{key}`: must be longer")), "{error}");
    }
    let zero = "shutdown: {grace: 0s, timeout: 0s}\nblacklist: {skew: 0s, max_staleness: 0s}";
    parse(zero, &[]).unwrap();
}

#[test]
fn broken_yaml_is_refused_with_the_line() {
    let error = parse("grpc:\n  listen: [", &[]).unwrap_err();
    assert!(error.contains("portcullis.yaml: not valid YAML"), "{error}");
}

#[test]
fn the_environment_wins_over_the_file() {
    let text = "shutdown: {grace: 1s}\nroutes: [{name: a, token: ignored, deadline: 5ms}]";
    let env = [("PORTCULLIS__SHUTDOWN__GRACE", "2s"), ("PORTCULLIS__ROUTES__0__DEADLINE", "7ms")];
    let config = parse(text, &env).unwrap();
    assert_eq!(config.shutdown.grace.to_string(), "2s");
    assert_eq!(config.routes[0].deadline.to_string(), "7ms");
}

#[test]
fn a_wrong_variable_is_named() {
    let error = parse("", &[("PORTCULLIS__SHUTDOWN__GRACE", "soon")]).unwrap_err();
    assert!(error.contains("environment variable PORTCULLIS__SHUTDOWN__GRACE"), "{error}");
    let error = parse("", &[("PORTCULLIS__SHUTDWN__GRACE", "1s")]).unwrap_err();
    assert!(error.contains("PORTCULLIS__SHUTDWN__GRACE"), "{error}");
}

#[test]
fn a_variable_is_text_where_text_is_needed() {
    let env = |name: &'static str, value: &'static str| [(name, value)];
    for value in ["off", "1234", "@foo", "null", "a: b: c", "[x"] {
        let config = parse("", &env("PORTCULLIS__LOG__FILTER", value)).unwrap();
        assert_eq!(config.log.filter, value);
    }
    let config = parse("", &env("PORTCULLIS__LOG__FILTER", "'off'")).unwrap();
    assert_eq!(config.log.filter, "off");
    let error = parse("", &env("PORTCULLIS__LOG__ALLOWED_ONE_IN", "[x")).unwrap_err();
    assert!(error.contains("it is text, and a whole number is needed; as YAML, "), "{error}");
    let error = parse("log: {filter: off}", &[]).unwrap_err();
    assert!(error.contains("`log.filter`") && error.contains("put it in quotes"), "{error}");
    let error = parse("grpc: {listen: 'localhost:9191'}", &[]).unwrap_err();
    assert!(error.contains("`grpc.listen`") && error.contains("127.0.0.1:9191"), "{error}");
}

#[test]
fn a_variable_of_a_route_is_named() {
    let text = "routes: [{name: a, token: ignored}]";
    let error = parse(text, &[("PORTCULLIS__ROUTES__0__DEADLINE", "soon")]).unwrap_err();
    assert!(error.starts_with("environment variable PORTCULLIS__ROUTES__0__DEADLINE"), "{error}");
}

#[test]
fn a_variable_that_is_not_text_is_refused() {
    let wrong = std::ffi::OsString::from_vec(b"b\xffd".to_vec());
    for (name, value) in [
        ("PORTCULLIS__LOG__FILTER".into(), wrong.clone()),
        (std::ffi::OsString::from_vec(b"PORTCULLIS__\xff".to_vec()), "a".into()),
    ] {
        let env = Env::from_os([(name, value)]);
        let error = super::parse("", Path::new("portcullis.yaml"), &env).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with("environment variable PORTCULLIS__"), "{error}");
        assert!(error.contains("UTF-8"), "{error}");
    }
    let others = Env::from_os([("OTHER".into(), wrong)]);
    assert!(super::parse("", Path::new("portcullis.yaml"), &others).is_ok());
}

#[test]
fn a_key_that_would_be_ignored_is_refused_with_its_place() {
    let error = parse("blacklist: {while_stale: serve}", &[]).unwrap_err();
    assert!(error.starts_with("portcullis.yaml: `blacklist.while_stale`: "), "{error}");
    let variable = "PORTCULLIS__BLACKLIST__WHILE_STALE";
    let error = parse("", &[(variable, "serve")]).unwrap_err();
    assert!(error.starts_with(&format!("environment variable {variable}: ")), "{error}");
    for body in ["token_revokd: a", "policy_denied: a", "allowed: a"] {
        let error = parse(&format!("denials: {{bodies: {{{body}}}}}"), &[]).unwrap_err();
        assert!(error.contains("`denials.bodies`: "), "{error}");
        assert!(error.contains("token_revoked"), "{error}");
    }
    parse("denials: {bodies: {token_revoked: no more}}", &[]).unwrap();
}

#[test]
fn variables_that_kubernetes_makes_up_are_not_ours() {
    let env = [("PORTCULLIS_PORT", "tcp://10.0.0.1:9191"), ("PORTCULLIS_SERVICE_HOST", "10.0.0.1")];
    assert!(parse("", &env).is_ok());
}
