//! Upstream service behind Envoy: echoes each request as it arrived, and counts the requests.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Query, State},
    http::{HeaderMap, Method, Uri},
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, task::JoinSet};

use crate::client::Response;

/// A running upstream. It stops when this is dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    _server: JoinSet<()>,
}

/// A request as the upstream received it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// Method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Header fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body, if it is UTF-8.
    pub body: String,
}

// === impl Upstream ===

impl Upstream {
    /// Starts it.
    pub async fn start() -> Self {
        let requests = Arc::new(AtomicUsize::new(0));
        let app = Router::new().fallback(echo).with_state(Arc::clone(&requests));
        let (address, server) = serve(app).await;
        Self { address, requests, _server: server }
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The number of requests that have reached it.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

/// Serves on a free port of loopback until the second is dropped.
pub(crate) async fn serve(app: Router) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let address = listener.local_addr().expect("a listener has an address");
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, app).await.expect("accepting works") });
    (address, server)
}

async fn echo(
    State(requests): State<Arc<AtomicUsize>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Json<Received> {
    requests.fetch_add(1, Ordering::Relaxed);
    Json(Received {
        method: method.to_string(),
        target: uri.to_string(),
        headers: headers
            .iter()
            .map(|(name, value)| {
                (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

// === impl Received ===

impl Received {
    /// The request that led to `response`.
    ///
    /// # Panics
    /// When the response is not the upstream's.
    #[must_use]
    pub fn from_response(response: &Response) -> Self {
        assert_eq!(response.status, 200, "not the upstream's answer: {}", response.text());
        serde_json::from_value(response.json()).expect("the upstream answers in its format")
    }

    /// All values of a header, by its name in lower case.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(field, _)| field == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// A header as an application behind CGI, WSGI, Rack or PHP reads it: letters, digits and
    /// underscores make its name, values of one name are joined with commas, and blanks around them
    /// are gone.
    #[must_use]
    pub fn folded(&self, name: &str) -> Option<String> {
        let fold = |name: &str| name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        let values = self.headers.iter().filter(|(field, _)| fold(field) == fold(name));
        let values: Vec<_> = values.map(|(_, value)| value.trim()).collect();
        (!values.is_empty()).then(|| values.join(","))
    }

    /// All values of a parameter of the query, as applications decode it.
    ///
    /// # Panics
    /// When the target is no URI, or its query cannot be decoded.
    #[must_use]
    pub fn parameters(&self, name: &str) -> Vec<String> {
        let target: Uri = self.target.parse().expect("the target is a URI");
        let Query(all) = Query::<Vec<(String, String)>>::try_from_uri(&target)
            .expect("the query can be decoded");
        all.into_iter().filter(|(key, _)| key == name).map(|(_, value)| value).collect()
    }
}
