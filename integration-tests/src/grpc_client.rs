//! gRPC call of an application's client through Envoy.

use std::net::SocketAddr;

use tonic::{Status, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};

/// Calls `grpc.health.v1.Health/Check`, with an `authorization` header if there is a token.
///
/// # Errors
/// The status that came back.
///
/// # Panics
/// When there is no connection.
pub async fn call(to: SocketAddr, token: Option<&str>) -> Result<HealthCheckResponse, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{to}")).expect("an address makes a URI");
    let channel = endpoint.connect().await.expect("Envoy accepts connections");
    let mut request = tonic::Request::new(HealthCheckRequest::default());
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().expect("a token is a header value");
        request.metadata_mut().insert("authorization", value);
    }
    HealthClient::new(channel).check(request).await.map(tonic::Response::into_inner)
}
