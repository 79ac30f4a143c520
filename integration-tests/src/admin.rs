//! Client of Portcullis' admin API.

use std::{io, net::SocketAddr};

use serde_json::{Value, json};

use crate::client::{Request, Response};

/// The admin API of one Portcullis, with its token.
#[derive(Debug, Clone)]
pub struct Admin {
    address: SocketAddr,
    token: String,
}

impl Admin {
    /// The API at `address`.
    #[must_use]
    pub fn new(address: SocketAddr, token: &str) -> Self {
        Self { address, token: token.to_owned() }
    }

    /// Adds a token id to the blacklist, for ever. It is in effect when this returns.
    ///
    /// # Panics
    /// When Portcullis refuses.
    pub async fn revoke(&self, jti: &str) {
        let event = json!({"jti": jti}).to_string();
        let request =
            Request::post("/v1/revocations", event).header("Content-Type", "application/json");
        let response = self.call(request).await;
        assert!((200..300).contains(&response.status), "{} {}", response.status, response.text());
    }

    /// Removes a token id from the blacklist.
    ///
    /// # Panics
    /// When Portcullis refuses.
    pub async fn restore(&self, jti: &str) {
        let response = self.call(Request::new("DELETE", &format!("/v1/revocations/{jti}"))).await;
        assert_eq!(response.status, 204, "{}", response.text());
    }

    /// Whether a token id is on the blacklist.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn is_revoked(&self, jti: &str) -> bool {
        let response = self.call(Request::get(&format!("/v1/revocations/{jti}"))).await;
        match response.status {
            200 => true,
            404 => false,
            status => panic!("{status} {}", response.text()),
        }
    }

    /// The expiry of a token id on the blacklist, in seconds since 1970.
    ///
    /// # Panics
    /// When it is not on the blacklist, or has no expiry.
    pub async fn until(&self, jti: &str) -> i64 {
        let answer = self.call(Request::get(&format!("/v1/revocations/{jti}"))).await.json();
        answer["until"].as_i64().unwrap_or_else(|| panic!("no time: {answer}"))
    }

    /// The number of entries and the state of the blacklist.
    pub async fn revocations(&self) -> Value {
        self.call(Request::get("/v1/revocations")).await.json()
    }

    /// Reloads the policies.
    pub async fn reload(&self) -> Response {
        self.call(Request::new("POST", "/v1/policies/reload")).await
    }

    /// The issuers and their keys.
    pub async fn issuers(&self) -> Value {
        self.call(Request::get("/v1/issuers")).await.json()
    }

    /// The policies and their revisions.
    pub async fn policies(&self) -> Value {
        self.call(Request::get("/v1/policies")).await.json()
    }

    /// The metrics, in Prometheus' text format.
    pub async fn metrics(&self) -> String {
        self.call(Request::get("/metrics")).await.text()
    }

    /// Calls with the token, where an answer is not certain.
    ///
    /// # Errors
    /// When there is no response.
    pub async fn try_call(&self, request: Request) -> io::Result<Response> {
        request.bearer(&self.token).try_send(self.address).await
    }

    /// Calls with the token.
    pub async fn call(&self, request: Request) -> Response {
        request.bearer(&self.token).send(self.address).await
    }
}
