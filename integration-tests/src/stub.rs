//! Stub authorization server over gRPC: gives the answer that a test sets, and records the checks
//! from Envoy. Tests use it to find out how Envoy itself behaves.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use envoy_types::{
    ext_authz::v3::pb::{Authorization, AuthorizationServer, CheckRequest, CheckResponse},
    pb::envoy::service::auth::v3::{AttributeContext, attribute_context::HttpRequest},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// What the stub does on a check.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Answers with this message.
    With(Box<CheckResponse>),
    /// Fails the call.
    Fail(Status),
    /// Never answers.
    Silence,
}

/// A running stub. It stops when this is dropped.
#[derive(Debug)]
pub struct Stub {
    address: SocketAddr,
    service: Arc<StubService>,
    _server: JoinSet<()>,
}

#[derive(Debug)]
struct StubService {
    answer: Answer,
    asked: Mutex<Vec<CheckRequest>>,
}

// === impl Stub ===

impl Stub {
    /// Starts a stub that always gives the same answer.
    pub async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let state = Arc::new(StubService { answer, asked: Mutex::default() });
        let service = AuthorizationServer::from_arc(Arc::clone(&state));
        let mut server = JoinSet::new();
        server.spawn(async move {
            Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .expect("serving works");
        });
        Self { address, service: state, _server: server }
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The checks from Envoy, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<CheckRequest> {
        self.service.asked.lock().expect("the lock is not poisoned").clone()
    }

    /// The attributes of the only check.
    ///
    /// # Panics
    /// If there was no check, or more than one.
    #[must_use]
    pub fn attributes(&self) -> AttributeContext {
        let mut asked = self.asked();
        assert_eq!(asked.len(), 1, "Envoy sent {} checks", asked.len());
        asked.remove(0).attributes.expect("Envoy sends attributes")
    }

    /// The HTTP part of the only check.
    ///
    /// # Panics
    /// If there was no check, more than one, or one of a raw connection.
    #[must_use]
    pub fn http(&self) -> HttpRequest {
        let request = self.attributes().request.expect("Envoy describes the request");
        request.http.expect("Envoy describes an HTTP request")
    }
}

#[tonic::async_trait]
impl Authorization for StubService {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        self.asked.lock().expect("the lock is not poisoned").push(request.into_inner());
        match &self.answer {
            Answer::With(response) => Ok(Response::new(CheckResponse::clone(response))),
            Answer::Fail(status) => Err(status.clone()),
            Answer::Silence => std::future::pending().await,
        }
    }
}

// === impl Answer ===

impl From<CheckResponse> for Answer {
    fn from(response: CheckResponse) -> Self {
        Self::With(Box::new(response))
    }
}
