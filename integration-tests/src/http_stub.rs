//! Stub authorization server over HTTP: answers every check with one status, and records the
//! headers that Envoy sent.

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
    state: Arc<HttpStubState>,
    _server: JoinSet<()>,
}

#[derive(Debug)]
struct HttpStubState {
    status: StatusCode,
    asked: Mutex<Vec<HeaderMap>>,
}

// === impl HttpStub ===

impl HttpStub {
    /// Starts a stub that always answers with this status.
    ///
    /// # Panics
    /// If it is not a valid status.
    pub async fn start(status: u16) -> Self {
        let status = StatusCode::from_u16(status).expect("the status is valid");
        let state = Arc::new(HttpStubState { status, asked: Mutex::default() });
        let app = Router::new().fallback(answer).with_state(Arc::clone(&state));
        let (address, server) = serve(app).await;
        Self { address, state, _server: server }
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All values of a header of the only check, by its name in lower case.
    ///
    /// # Panics
    /// If there was no check, or more than one.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<String> {
        let asked = self.state.asked.lock().expect("the lock is not poisoned");
        assert_eq!(asked.len(), 1, "Envoy sent {} checks", asked.len());
        let values = asked[0].get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }
}

async fn answer(State(state): State<Arc<HttpStubState>>, headers: HeaderMap) -> StatusCode {
    state.asked.lock().expect("the lock is not poisoned").push(headers);
    state.status
}
