//! Tests of the wall clock of one process: a Portcullis uses the clock that a test sets, and no
//! other process does.

use portcullis_integration_tests::{
    client::Request,
    eventually,
    portcullis::{Config, Portcullis, token_route},
    token,
    wall_clock::WallClock,
};

/// Longer than the lifetime of a token.
const AHEAD: i64 = 3600;

#[tokio::test]
async fn a_set_clock_is_used_at_once_and_so_is_its_reset() {
    let folder = tempfile::tempdir().unwrap();
    let clock = WallClock::new(folder.path(), "clock");
    let config =
        Config::new([token_route("all", &["/*"])]).with("http.request_from", "x-forwarded");
    let portcullis = Portcullis::start(&clock.apply(config)).await;
    let token = token::good();
    let answered = async |status: u16| {
        eventually::holds("the clock is read", || async {
            let request = Request::get("/auth")
                .header("X-Forwarded-Method", "GET")
                .header("X-Forwarded-Host", "api.test")
                .header("X-Forwarded-Uri", "/a");
            let response = request.bearer(&token).send(portcullis.addresses().http()).await;
            response.status == status
        })
        .await;
    };
    answered(200).await;
    clock.set(AHEAD);
    answered(401).await;
    clock.set(-AHEAD);
    answered(401).await;
    clock.set(0);
    answered(200).await;
}
