//! Owns looking at the replicas: whether they are ready, by their gRPC health, as Envoy does, and how
//! old they say that their sets may be.

use std::{net::SocketAddr, time::Duration};

use portcullis_integration_tests::{admin::Admin, client::Request};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{Phase, Stop, ask::channel};
use crate::history::{Age, Clock, History, Look, Span};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(15);
/// Between two questions for the age.
const AGE_PAUSE: Duration = Duration::from_millis(100);
/// Who takes longer to say so is not ready.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Looks until it is told to stop, and once more: what happened last lies between two looks, too.
pub(super) async fn run(replica: usize, address: SocketAddr, clock: Clock, stop: Stop) -> History {
    let mut client = HealthClient::new(channel(address));
    let mut history = History::default();
    loop {
        let last = *stop.borrow() == Phase::Over;
        let began = clock.now();
        let answer = client.check(HealthCheckRequest::default());
        let answer = tokio::time::timeout(TIMEOUT, answer).await;
        let ready = matches!(answer, Ok(Ok(response))
            if response.get_ref().status == i32::from(ServingStatus::Serving));
        history.looks.push(Look { replica, ready, span: Span::new(began, clock.now()) });
        if last {
            return history;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks for the age of the set until it is told to stop. A dead replica has none.
pub(super) async fn ages(replica: usize, admin: Admin, clock: Clock, stop: Stop) -> History {
    let mut history = History::default();
    while *stop.borrow() < Phase::Over {
        let summary = admin.try_call(Request::get("/v1/revocations"));
        let summary = tokio::time::timeout(TIMEOUT, summary).await;
        if let Ok(Ok(summary)) = summary
            && summary.status == 200
            && let Some(millis) = summary.json()["staleness_ms"].as_u64()
        {
            let staleness = Duration::from_millis(millis);
            history.ages.push(Age { replica, at: clock.now(), staleness });
        }
        tokio::time::sleep(AGE_PAUSE).await;
    }
    history
}
