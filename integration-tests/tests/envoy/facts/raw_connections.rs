//! Facts: what Envoy's network filter sends about connections, and how it handles the answer.

use portcullis_integration_tests::{client::Request, upstream::Received};

use super::{Scene, allow_with, deny};

#[tokio::test]
async fn a_connection_is_described_without_http() {
    let scene = Scene::new(allow_with(Vec::new())).await;
    let response = Request::get("/").send(scene.envoy.tcp()).await;
    assert_eq!(Received::from_response(&response).target, "/");
    let attributes = scene.stub.attributes();
    assert!(attributes.request.is_none_or(|request| request.http.is_none()));
    assert!(attributes.source.is_some() && attributes.destination.is_some());
}

#[tokio::test]
async fn a_denied_connection_is_closed() {
    let scene = Scene::new(deny(403, "no", Vec::new())).await;
    Request::get("/").try_send(scene.envoy.tcp()).await.unwrap_err();
    assert_eq!((scene.stub.asked().len(), scene.upstream.requests()), (1, 0));
}
