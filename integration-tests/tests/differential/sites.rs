//! Sites that receive the requests: the configurations of Portcullis and Envoy, and the readers of
//! what arrives.

use portcullis_integration_tests::{portcullis::Config, wire::RawRequest};
use serde_json::{Value, json};

use super::{
    generate,
    random::{Random, Run},
    readers::{self, Reader},
};

/// One Portcullis with the Envoys in front of it that agree with its settings.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) name: &'static str,
    kind: Kind,
    settings: Vec<(&'static str, Value)>,
    pub(super) proxies: Vec<Proxy>,
}

/// How an Envoy reads a request.
#[derive(Debug, Clone)]
pub(super) struct Proxy {
    pub(super) name: &'static str,
    pub(super) manager: Value,
    pub(super) ignores_ports: bool,
}

/// The part that varies, and its readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The whole request; for readers that are case-sensitive.
    Exact,
    /// The whole request; for a reader that ignores case and a trailing slash.
    Folding,
    /// The host; for Envoy, which selects a virtual host.
    VirtualHosts,
}

/// The hosts that need a token.
const GUARDED: [&str; 4] = ["admin.test", "127.0.0.1", "[::1]", "xn--mnchen-3ya.example"];

pub(super) fn all() -> Vec<Site> {
    let site = |name, kind, settings, proxies| Site { name, kind, settings, proxies };
    let hosts = |name, port: &str, proxies| {
        site(name, Kind::VirtualHosts, vec![("hosts.port", json!(port))], proxies)
    };
    vec![
        site(
            "exact",
            Kind::Exact,
            vec![],
            vec![
                proxy("exact, as sent", json!({}), false),
                proxy("exact, normalised", normalising("UNESCAPE_AND_FORWARD"), false),
                proxy("exact, escaped slashes refused", normalising("REJECT_REQUEST"), true),
                proxy("exact, host stripped", stripping(), false),
            ],
        ),
        site(
            "folding",
            Kind::Folding,
            vec![("paths.ignore_case", json!(true))],
            vec![
                proxy("folding, as sent", json!({}), false),
                proxy("folding, normalised", normalising("UNESCAPE_AND_FORWARD"), true),
            ],
        ),
        hosts(
            "virtual hosts, port matched",
            "match",
            vec![proxy("port matched", json!({}), false)],
        ),
        hosts(
            "virtual hosts, port ignored",
            "ignore",
            vec![proxy("port ignored", json!({}), true)],
        ),
        // Safe with every proxy, so only the settings are shared.
        hosts(
            "virtual hosts, strict before matching",
            "strict",
            vec![proxy("strict, port matched", json!({}), false)],
        ),
        hosts(
            "virtual hosts, strict before ignoring",
            "strict",
            vec![proxy("strict, port ignored", json!({}), true)],
        ),
        hosts(
            "virtual hosts, strict before stripping",
            "strict",
            vec![proxy("strict, host stripped", stripping(), false)],
        ),
    ]
}

fn proxy(name: &'static str, manager: Value, ignores_ports: bool) -> Proxy {
    Proxy { name, manager, ignores_ports }
}

fn normalising(escaped_slashes: &str) -> Value {
    json!({
        "normalize_path": true,
        "merge_slashes": true,
        "path_with_escaped_slashes_action": escaped_slashes,
    })
}

fn stripping() -> Value {
    json!({"strip_any_host_port": true, "strip_trailing_host_dot": true})
}

fn route(name: &str, matches: &Value, needs_token: bool) -> Value {
    let mut route = json!({
        "name": name,
        "match": matches,
        "token": if needs_token { "required" } else { "ignored" },
        "allow_without_policy": true,
    });
    if needs_token {
        route["identity_headers"] = json!({"x-user-id": ["sub"]});
    }
    route
}

// === impl Site ===

impl Site {
    /// The servers whose readings count.
    pub(super) fn readers(&self) -> Vec<Reader> {
        match self.kind {
            Kind::Exact => readers::EXACT.to_vec(),
            Kind::Folding => [readers::FOLDING].into_iter().chain(readers::EXACT).collect(),
            Kind::VirtualHosts => vec![readers::PROXY],
        }
    }

    /// The configuration of its Portcullis.
    pub(super) fn config(&self) -> Config {
        let routes = match self.kind {
            Kind::Exact | Kind::Folding => vec![
                route("hosts", &json!({"hosts": GUARDED}), true),
                route("paths", &json!({"paths": ["/admin", "/admin/*", "/exact"]}), true),
                route("writes", &json!({"methods": ["POST", "PUT", "PATCH", "DELETE"]}), true),
                route("public", &json!({}), false),
            ],
            // The same virtual hosts, once with one that is public and once with one that is not.
            Kind::VirtualHosts => vec![
                route("named", &json!({"hosts": ["named.test"], "paths": ["/named/*"]}), false),
                route("not named", &json!({"paths": ["/named/*"]}), true),
                route("guarded", &json!({"hosts": ["admin.test"], "paths": ["/guarded/*"]}), true),
                route("not guarded", &json!({"paths": ["/guarded/*"]}), false),
            ],
        };
        let mut config =
            Config::new(routes).with("cors.allowed_origins", json!(["https://app.test"]));
        for (key, value) in &self.settings {
            config = config.with(key, value.clone());
        }
        config
    }

    /// The domains of the virtual hosts, and the names of the servers behind them.
    pub(super) fn servers(&self) -> &'static [(&'static str, &'static str)] {
        match self.kind {
            Kind::Exact | Kind::Folding => &[("*", "all")],
            Kind::VirtualHosts => {
                &[("named.test", "named"), ("admin.test", "guarded"), ("*", "rest")]
            }
        }
    }

    /// The requests to send.
    pub(super) fn requests(&self, run: Run) -> Vec<RawRequest> {
        let mut random = Random::new(run.seed);
        let (generate, count): (fn(&mut Random) -> RawRequest, _) = match self.kind {
            Kind::Exact | Kind::Folding => (generate::request, run.requests),
            Kind::VirtualHosts => (generate::request_for_host, run.requests / 4),
        };
        (0..count).map(|_| generate(&mut random)).collect()
    }
}
