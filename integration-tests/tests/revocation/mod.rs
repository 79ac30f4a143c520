//! Owns the tests of revocation with real services: what is revoked there is refused by a real Envoy.

mod expiry;
mod feed;
mod modes;
mod pause;
mod postgres;
mod primary;
mod receipt;
mod relay;
pub(crate) mod relay_process;
mod removals;
mod resnapshot;
mod revoke;

use std::str::FromStr;

use portcullis_integration_tests::{
    client::Request,
    portcullis::{Config, Portcullis, token_route},
    token::Claims,
};
use serde_json::{Value, json};

/// A configuration whose only route needs a token. Its HTTP edge is not Envoy's, which is never
/// told of a fault: see [`check`]. Redis may take its time, as it does on a busy machine.
fn config(mode: &str, mut redis: Value) -> Config {
    if redis["timeout"].is_null() {
        redis["timeout"] = json!("5s");
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

/// What the metrics say, labels being part of the name.
#[expect(clippy::panic, reason = "a panic is how a test reports")]
async fn metric<T: FromStr>(portcullis: &Portcullis, name: &str) -> T {
    let metrics = portcullis.admin().metrics().await;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no metric {name}:\n{metrics}"))
}

/// What the process has written of its log.
fn is_logged(portcullis: &mut Portcullis, words: &str) -> bool {
    portcullis.process().output().contains(words)
}
