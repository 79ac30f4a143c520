//! Tests of gRPC applications: a denial reaches them as a gRPC status.

use portcullis_integration_tests::{
    grpc_client,
    portcullis::{Config, token_route},
    token::Claims,
};
use tonic::Code;

use super::Gate;

#[tokio::test]
async fn a_deny_is_a_grpc_status_with_its_reason() {
    let gate = Gate::new(&Config::new([token_route("grpc", &["/grpc.health.v1.Health/*"])])).await;
    let refused = grpc_client::call(gate.address(), None).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unauthenticated, "missing token"));

    let claims = Claims::default();
    gate.portcullis.admin().revoke(claims.jti()).await;
    let refused = grpc_client::call(gate.address(), Some(&claims.hs256())).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::PermissionDenied, "token revoked"));
    assert_eq!(gate.upstream.requests(), 0);
}
