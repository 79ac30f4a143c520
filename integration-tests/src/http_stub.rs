//! Owns an authorization server over HTTP without an opinion: it answers every question with one
//! status, and keeps the headers that Envoy sent.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use tokio::task::JoinSet;

use crate::upstream::serve;

/// A running stub. It stops when this is dropped.
#[derive(Debug)]
pub struct HttpStub {
    address: SocketAddr,
    script: Arc<Script>,
    _server: JoinSet<()>,
}

#[derive(Debug)]
struct Script {
    status: StatusCode,
    asked: Mutex<Vec<HeaderMap>>,
}

// === impl HttpStub ===

impl HttpStub {
    /// Starts a stub that always answers with this status.
    ///
    /// # Panics
    /// When it is not a status.
    pub async fn start(status: u16) -> Self {
        let status = StatusCode::from_u16(status).expect("a test knows its statuses");
        let script = Arc::new(Script { status, asked: Mutex::default() });
        let app = Router::new().fallback(answer).with_state(Arc::clone(&script));
        let (address, server) = serve(app).await;
        Self { address, script, _server: server }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All values of a header of the only question, by its name in lower case.
    ///
    /// # Panics
    /// When Envoy asked never or more than once.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<String> {
        let asked = self.script.asked.lock().expect("nobody panicked");
        assert_eq!(asked.len(), 1, "Envoy asked {} times", asked.len());
        let values = asked[0].get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }
}

async fn answer(State(script): State<Arc<Script>>, headers: HeaderMap) -> StatusCode {
    script.asked.lock().expect("nobody panicked").push(headers);
    script.status
}
