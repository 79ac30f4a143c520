//! Tests of immediate logout: a revoked token is refused on the next request.

use portcullis_integration_tests::{
    client::Request,
    portcullis::{Config, optional_route, token_route},
    token::Claims,
};

use super::Gate;

#[tokio::test]
async fn a_revoked_token_is_refused_on_the_next_request_and_no_other() {
    let routes = [token_route("api", &["/api/*"]), optional_route("optional", &["/optional"])];
    let gate = Gate::new(&Config::new(routes)).await;
    let admin = gate.portcullis.admin();
    let (mine, other) = (Claims::default(), Claims::default());
    // The same session, signed twice: a revocation applies to the id, not to the bytes.
    let (first, second) = (mine.hs256(), mine.rs256());
    let ask = |path: &str, token: &str| Request::get(path).bearer(token);
    for token in [&first, &second, &other.hs256()] {
        gate.pass(ask("/api/a", token)).await;
    }

    admin.revoke(mine.jti()).await;
    for token in [&first, &second] {
        let refused = gate.refuse(ask("/api/a", token), 403).await;
        assert_eq!(refused.text(), "token revoked");
        gate.refuse(ask("/optional", token), 403).await;
    }
    gate.pass(ask("/api/a", &other.hs256())).await;
    assert!(admin.is_revoked(mine.jti()).await && !admin.is_revoked(other.jti()).await);

    admin.restore(mine.jti()).await;
    gate.pass(ask("/api/a", &first)).await;
}
