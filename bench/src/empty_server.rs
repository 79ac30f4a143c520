//! Baseline server: a gRPC server that answers every `Check` with OK and decides nothing.
//!
//! Its cost is that of HTTP/2 and protobuf, so the difference to it is the cost of the decision. It
//! uses the same gRPC library, allocator and runtime as Portcullis, and must not take a short cut
//! that Portcullis cannot take.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    process::ExitCode,
    time::Duration,
};

use envoy_types::pb::{
    envoy::service::auth::v3::{
        CheckRequest, CheckResponse, OkHttpResponse,
        authorization_server::{Authorization, AuthorizationServer},
        check_response::HttpResponse,
    },
    google::rpc::Status as RpcStatus,
};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Flow control and streams as in Portcullis' gRPC edge, because they cost time.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const STREAMS: u32 = 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// Allows every request.
struct Empty;

#[tonic::async_trait]
impl Authorization for Empty {
    async fn check(
        &self,
        _request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        Ok(Response::new(CheckResponse {
            status: Some(RpcStatus::default()),
            http_response: Some(HttpResponse::OkResponse(OkHttpResponse::default())),
            ..CheckResponse::default()
        }))
    }
}

/// Serves on a free loopback port, and prints the address once it accepts connections.
async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let incoming = incoming.with_nodelay(Some(true));
    let mut stdout = io::stdout();
    writeln!(stdout, "{}", incoming.local_addr()?)?;
    stdout.flush()?;
    let service = AuthorizationServer::new(Empty);
    let mut server = Server::builder()
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    Ok(server.add_service(service).serve_with_incoming(incoming).await?)
}

/// One worker per core, as in Portcullis.
#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("empty-server: {error}");
            ExitCode::FAILURE
        }
    }
}
