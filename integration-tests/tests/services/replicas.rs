//! Tests of a group of replicas of Portcullis.

use portcullis_integration_tests::{
    client::Request,
    portcullis::{Config, Replicas, public_route, token_route},
};

#[tokio::test]
async fn a_killed_replica_restarts_on_its_ports_beside_the_others() {
    let config = Config::new([public_route("all", &["/*"])]);
    let mut replicas = Replicas::start(3, &config).await;
    let (grpc, http) = (replicas.grpc(), replicas.http());
    let ask = async |index: usize| Request::get("/").try_send(http[index]).await;

    replicas.kill(1);
    assert!(ask(1).await.is_err() && !replicas.get(1).is_ready().await);
    for index in [0, 2] {
        assert_eq!(ask(index).await.unwrap().status, 200);
    }
    replicas.restart(1).await;
    assert_eq!(ask(1).await.unwrap().status, 200);
    assert_eq!((replicas.grpc(), replicas.http()), (grpc, http.clone()));

    // Only this one, and only until its next start.
    replicas.relaunch(2, |config| config.with("routes", vec![token_route("all", &["/*"])])).await;
    replicas.get_mut(2).ready().await;
    assert_eq!(ask(2).await.unwrap().status, 401);
    replicas.restart(2).await;
    assert_eq!(ask(2).await.unwrap().status, 200);
}
