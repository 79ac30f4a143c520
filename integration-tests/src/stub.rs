//! Owns an authorization server without an opinion: it answers what the test tells it to, and keeps
//! what Envoy asked. With it, tests find out how Envoy itself behaves.

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

/// What the stub does when it is asked.
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
    script: Arc<Script>,
    _server: JoinSet<()>,
}

#[derive(Debug)]
struct Script {
    answer: Answer,
    asked: Mutex<Vec<CheckRequest>>,
}

// === impl Stub ===

impl Stub {
    /// Starts a stub that always gives the same answer.
    pub async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let script = Arc::new(Script { answer, asked: Mutex::default() });
        let service = AuthorizationServer::from_arc(Arc::clone(&script));
        let mut server = JoinSet::new();
        server.spawn(async move {
            Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .expect("serving works");
        });
        Self { address, script, _server: server }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What Envoy asked, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<CheckRequest> {
        self.script.asked.lock().expect("nobody panicked").clone()
    }

    /// The attributes of the only question.
    ///
    /// # Panics
    /// When Envoy asked never or more than once.
    #[must_use]
    pub fn attributes(&self) -> AttributeContext {
        let mut asked = self.asked();
        assert_eq!(asked.len(), 1, "Envoy asked {} times", asked.len());
        asked.remove(0).attributes.expect("Envoy sends attributes")
    }

    /// The HTTP part of the only question.
    ///
    /// # Panics
    /// When Envoy asked never or more than once, or about a raw connection.
    #[must_use]
    pub fn http(&self) -> HttpRequest {
        let request = self.attributes().request.expect("Envoy describes the request");
        request.http.expect("Envoy describes an HTTP request")
    }
}

#[tonic::async_trait]
impl Authorization for Script {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        self.asked.lock().expect("nobody panicked").push(request.into_inner());
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
