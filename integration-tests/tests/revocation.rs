//! Tests of revocation with real services: revoked tokens are refused.

mod clock;
mod expiry;
mod feed;
mod index;
mod logout;
mod modes;
mod nodes;
mod nodes_lost;
mod pause;
mod postgres;
mod primary;
mod probes;
mod receipt;
mod receipt_stale;
mod relay;
pub(crate) mod relay_process;
mod removals;
mod resnapshot;
mod revoke;

use std::str::FromStr;

use portcullis_integration_tests::{
    client::Request,
    eventually,
    portcullis::{Config, Portcullis, token_route},
    token::Claims,
};
use serde_json::{Value, json};

/// A configuration whose only route needs a token. Its HTTP edge is not in the mode for Envoy,
/// which gets no cause of a fault: see [`check`]. The timeouts of Redis are long, for a busy
/// machine.
fn config(mode: &str, mut redis: Value) -> Config {
    for timeout in ["timeout", "connect_timeout"] {
        if redis[timeout].is_null() {
            redis[timeout] = json!("5s");
        }
    }
    Config::new([token_route("all", &["/*"])])
        .with("http.request_from", "x-forwarded")
        .with("blacklist.mode", mode)
        .with("blacklist.redis", redis)
}

/// The status with which a request with this token is answered by a replica of [`config`].
async fn check(portcullis: &Portcullis, claims: &Claims) -> u16 {
    let request = Request::get("/auth")
        .header("X-Forwarded-Method", "GET")
        .header("X-Forwarded-Host", "api.test")
        .header("X-Forwarded-Uri", "/a");
    request.bearer(&claims.hs256()).send(portcullis.addresses().http()).await.status
}

/// The value of a metric, whose labels are part of the name.
#[expect(clippy::panic, reason = "a panic is how a test reports")]
async fn metric<T: FromStr>(portcullis: &Portcullis, name: &str) -> T {
    let metrics = portcullis.admin().metrics().await;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no metric {name}:\n{metrics}"))
}

/// Waits until the feed is in this state.
async fn reaches(portcullis: &Portcullis, state: &str) {
    eventually::holds(&format!("the feed is {state}"), || async {
        portcullis.admin().revocations().await["state"] == state
    })
    .await;
}

/// Whether the log of the process has this text.
fn is_logged(portcullis: &Portcullis, words: &str) -> bool {
    portcullis.log().contains(words)
}

/// Waits until the log of the process has this text.
async fn logs(portcullis: &Portcullis, words: &str) {
    let what = format!("the log has `{words}`");
    eventually::holds(&what, || std::future::ready(is_logged(portcullis, words))).await;
}
