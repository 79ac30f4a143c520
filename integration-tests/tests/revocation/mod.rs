//! Owns the tests of revocation with real services: what is revoked there is refused by a real Envoy.

mod feed;
mod modes;
mod postgres;
mod primary;
mod receipt;
mod relay;
mod relay_process;
mod revoke;

use std::str::FromStr;

use portcullis_integration_tests::{
    client::Request,
    portcullis::{Config, Portcullis, token_route},
    token::Claims,
};
use serde_json::Value;

/// A configuration whose only route needs a token.
fn config(mode: &str, redis: Value) -> Config {
    Config::new([token_route("all", &["/*"])])
        .with("blacklist.mode", mode)
        .with("blacklist.redis", redis)
}

/// The status with which a request with this token is answered.
async fn check(portcullis: &Portcullis, claims: &Claims) -> u16 {
    let http = portcullis.addresses().http();
    Request::get("/a").bearer(&claims.hs256()).send(http).await.status
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
