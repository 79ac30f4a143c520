//! Tests of authorities as clients send them, and of host patterns as operators write them.

use proptest::prelude::*;

use super::*;
use crate::authorizer::pattern::Pattern;

const PORTS: [PortMatching; 3] = [PortMatching::Strict, PortMatching::Ignore, PortMatching::Match];

fn config(port: PortMatching) -> HostsConfig {
    HostsConfig { port, trailing_dot: TrailingDot::Refuse }
}

fn compiled(pattern: &str, port: PortMatching) -> Result<String, String> {
    let pattern: Pattern = pattern.parse().unwrap();
    let compiled = compile(&pattern, config(port));
    compiled.map(|pattern| pattern.to_string()).map_err(std::borrow::Cow::into_owned)
}

#[test]
fn a_host_has_one_name() {
    for (authority, name) in [
        ("API.example.com:8443", "api.example.com"),
        ("api.example.com.", "api.example.com"),
        ("api.example.com.:80", "api.example.com"),
        ("XN--MNCHEN-3YA.example", "xn--mnchen-3ya.example"),
        ("a_b-c.example", "a_b-c.example"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("localhost", "localhost"),
        ("1a", "1a"),
        ("[::1]:80", "[::1]"),
        ("[0:0:0:0:0:0:0:1]", "[::1]"),
        ("[2001:DB8::A]", "[2001:db8::a]"),
        ("[::ffff:127.0.0.1]", "[::ffff:127.0.0.1]"),
    ] {
        assert_eq!(read_host(authority, HostsConfig::default()).unwrap().name(), name);
    }
}

#[test]
fn an_authority_without_a_reading_is_refused_with_the_cause() {
    use MalformedHost as Cause;
    let long_label = "a".repeat(64);
    let long_name = format!("{}a", "a.".repeat(127));
    for (authority, cause) in [
        ("", Cause::Empty),
        (".", Cause::Empty),
        (":80", Cause::Empty),
        ("user@admin.test", Cause::UserInfo),
        ("user:password@admin.test:80", Cause::UserInfo),
        ("admin%2etest", Cause::Encoded),
        ("a.test,b.test", Cause::List),
        ("a.test, b.test", Cause::List),
        ("münchen.example", Cause::NotAscii),
        ("admin.test/x", Cause::Character),
        ("admin test", Cause::Character),
        ("admin.test\0", Cause::Character),
        ("admin..test", Cause::EmptyLabel),
        (".admin.test", Cause::EmptyLabel),
        ("admin.test..", Cause::EmptyLabel),
        (&long_label, Cause::LongLabel),
        (&long_name, Cause::TooLong),
        ("127.1", Cause::Ipv4),
        ("0x7f.1", Cause::Ipv4),
        ("2130706433", Cause::Ipv4),
        ("01.2.3.4", Cause::Ipv4),
        ("1.2.3.4.5", Cause::Ipv4),
        ("256.1.1.1", Cause::Ipv4),
        ("a.0x1", Cause::Ipv4),
        ("a.0X", Cause::Ipv4),
        ("a.1.", Cause::Ipv4),
        ("[::1", Cause::Ipv6),
        ("[::1]x", Cause::Ipv6),
        ("[[::1]]", Cause::Ipv6),
        ("[[::1]:80", Cause::Ipv6),
        ("[127.0.0.1]", Cause::Ipv6),
        ("[v1.a]", Cause::Ipv6),
        ("[fe80::1%eth0]", Cause::Zone),
        ("::1", Cause::Colons),
        ("a.test:80:80", Cause::Colons),
        ("a.test:", Cause::Port),
        ("a.test:abc", Cause::Port),
        ("a.test:443x", Cause::Port),
        ("a.test:0", Cause::Port),
        ("a.test:080", Cause::Port),
        ("a.test:+80", Cause::Port),
        ("a.test:65536", Cause::Port),
        ("a.test:80 ", Cause::Port),
        ("[::1]:", Cause::Port),
    ] {
        for port in PORTS {
            assert_eq!(read_host(authority, config(port)), Err(cause), "{authority}");
        }
    }
}

#[test]
fn what_is_compared_follows_the_setting_for_ports() {
    use PortMatching::{Ignore, Match, Strict};
    for (port, authority, matched, as_sent) in [
        (Strict, "A.test", "a.test", None),
        (Strict, "a.test:80", "a.test", Some("a.test:80")),
        (Strict, "A.test:80", "a.test", Some("a.test:80")),
        (Strict, "a.test.:80", "a.test", Some("a.test:80")),
        (Strict, "[0::1]", "[::1]", Some("[0::1]")),
        (Strict, "[0::1]:80", "[::1]", Some("[0::1]:80")),
        (Strict, "[::1]:80", "[::1]", Some("[::1]:80")),
        (Ignore, "a.test:80", "a.test", None),
        (Ignore, "[0::1]:80", "[::1]", Some("[0::1]")),
        (Match, "A.test:80", "a.test:80", None),
        (Match, "a.test", "a.test", None),
        (Match, "[0::A]:80", "[::a]:80", Some("[0::a]:80")),
    ] {
        let config = HostsConfig { port, trailing_dot: TrailingDot::Ignore };
        let host = read_host(authority, config).unwrap();
        assert_eq!((host.matched(), host.as_sent()), (matched, as_sent), "{port:?} {authority}");
        assert!(!host.has_trailing_dot());
    }
}

#[test]
fn a_pattern_is_brought_into_the_form_of_hosts() {
    use PortMatching::{Match, Strict};
    for (port, pattern, expected) in [
        (Strict, "*", "*"),
        (Strict, "API.example.com", "api.example.com"),
        (Strict, "*.Example.com", "*.example.com"),
        (Strict, "*example.com", "*example.com"),
        (Strict, "api.*", "api.*"),
        (Strict, "api*", "api*"),
        (Strict, "münchen.example", "xn--mnchen-3ya.example"),
        (Strict, "*.München.example", "*.xn--mnchen-3ya.example"),
        (Strict, "münchen.*", "xn--mnchen-3ya.*"),
        (Strict, "10.0.*", "10.0.*"),
        (Strict, "*.0.1", "*.0.1"),
        (Strict, "[::1]", "[::1]"),
        (Strict, "[2001:db8:*", "[2001:db8:*"),
        (Strict, "*:1]", "*:1]"),
        (Match, "api.example.com:8443", "api.example.com:8443"),
        (Match, "[::1]:8443", "[::1]:8443"),
        (Match, "*.example.com:8443", "*.example.com:8443"),
        (Match, "*:8443", "*:8443"),
        (Match, "api.example.com:*", "api.example.com:*"),
    ] {
        assert_eq!(compiled(pattern, port).as_deref(), Ok(expected), "{pattern}");
    }
}

#[test]
fn a_pattern_that_no_host_matches_is_refused_with_the_remedy() {
    for (pattern, remedy) in [
        ("admin.test:8443", "set `hosts.port: match`"),
        ("*.test:8443", "set `hosts.port: match`"),
        ("admin.test.", "write `admin.test`"),
        ("https://admin.test", "without scheme and path"),
        ("/admin", "without scheme and path"),
        ("::1", "write `[::1]`"),
        ("[0::1]", "write `[::1]`"),
        ("a b", "has a character"),
        ("user@a.test", "user information"),
        ("a%2etest", "percent-encoded"),
        ("a..test", "empty label"),
        ("127.1", "four decimal numbers"),
        (".admin*", "empty label"),
        ("*..test", "empty label"),
        ("*.test.", "empty label"),
        ("*mün.test", "put the star before or after a dot"),
        ("mün*", "put the star before or after a dot"),
        ("*.01", "ends in a number"),
        ("*.0x7f", "ends in a number"),
        ("*x.1", "ends in a number"),
        ("*.2.3.4.5", "ends in a number"),
        ("*::1", "IPv6 address in brackets"),
        ("::*", "IPv6 address in brackets"),
        ("a,b*", "has a label that no host has"),
    ] {
        let parsed: Pattern = pattern.parse().unwrap();
        let refused = compile(&parsed, HostsConfig::default()).unwrap_err();
        assert!(refused.contains(remedy), "{pattern}: {refused}");
    }
    for pattern in ["admin.test:0", "a.test:x*", "a.test:99999*", "*:080", ":80*", "*.a:x"] {
        let parsed: Pattern = pattern.parse().unwrap();
        assert!(compile(&parsed, config(PortMatching::Match)).is_err(), "{pattern}");
    }
}

/// Text out of the pieces that authorities are made of.
fn authorities() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,12}",
        "[a-cA-C0-9x.:@%,_-]{0,12}(:[0-9]{1,6})?",
        "\\[[0-9a-fA-F:.]{0,16}\\](:[0-9]{1,5})?",
        "([a-z]{1,3}\\.){1,3}[a-z]{1,3}\\.?(:[0-9]{1,5})?",
        "([0-9]{1,3}\\.){3}[0-9]{1,3}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// The canonical name of whatever is accepted is accepted, and stays what it is.
    #[test]
    fn an_accepted_authority_is_canonical(authority in authorities()) {
        for port in PORTS {
            let Ok(host) = read_host(&authority, config(port)) else { continue };
            prop_assert!(!host.name().is_empty());
            prop_assert!(!host.name().ends_with('.'));
            prop_assert!(!host.name().bytes().any(|byte| byte.is_ascii_uppercase()));
            for text in [host.name(), host.matched()] {
                let again = read_host(text, config(port)).unwrap();
                prop_assert_eq!(again.name(), host.name());
                prop_assert_eq!(again.as_sent().filter(|_| text == host.name()), None);
            }
        }
    }

    /// A pattern that stands for one host is accepted exactly if that host has this name.
    #[test]
    fn a_pattern_for_one_host_is_accepted_if_a_host_has_this_name(text in authorities()) {
        let exact = Pattern::Exact(text.to_ascii_lowercase());
        let Ok(compiled) = compile(&exact, config(PortMatching::Match)) else { return Ok(()) };
        let name = compiled.text().unwrap().to_owned();
        let host = read_host(&name, config(PortMatching::Match)).unwrap();
        prop_assert!(compiled.matches(host.matched()), "{}", name);
    }

    /// Whatever part of a host a pattern is made of, it is accepted.
    #[test]
    fn a_part_of_a_host_is_a_pattern(authority in authorities(), at in 1..8_usize) {
        let Ok(host) = read_host(&authority, config(PortMatching::Match)) else { return Ok(()) };
        let matched = host.matched();
        let Some((start, end)) = matched.split_at_checked(at) else { return Ok(()) };
        let start = compile(&Pattern::Prefix(start.to_owned()), config(PortMatching::Match));
        prop_assert!(start.as_ref().is_ok_and(|start| start.matches(matched)), "{:?}", start);
        if !end.is_empty() {
            let end = compile(&Pattern::Suffix(end.to_owned()), config(PortMatching::Match));
            prop_assert!(end.as_ref().is_ok_and(|end| end.matches(matched)), "{:?}", end);
        }
    }
}
