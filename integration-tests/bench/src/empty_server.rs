//! Owns the yardstick: a gRPC server that answers every `Check` with OK and decides nothing.
//!
//! What it costs is what HTTP/2 and protobuf cost, so the distance to it is what deciding costs. It
//! uses the same gRPC library, allocator and runtime as Portcullis; it must never take a short cut
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

/// Flow control and streams as Portcullis' gRPC edge sets them, since they cost time.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const STREAMS: u32 = 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// Says yes.
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

/// Serves on a free port of the loopback interface, and prints the address once it accepts.
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

/// As many workers as there are cores, which is what Portcullis has.
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
