//! Health poller: polls the readiness of a replica over gRPC health, as Envoy does, and the
//! staleness that it reports.

use std::{net::SocketAddr, time::Duration};

use portcullis_integration_tests::{admin::Admin, client::Request};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{Phase, Stop, ask::channel};
use crate::{
    history::{Age, Health, HealthSample, History},
    moment::{Clock, Span},
};

/// Between two polls of the health.
const PAUSE: Duration = Duration::from_millis(15);
/// Between two polls of the staleness.
const AGE_PAUSE: Duration = Duration::from_millis(100);
/// A replica that takes longer to answer counts as not answering.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Polls until the run is over, and once more, so that the last check also lies between two
/// samples.
pub(super) async fn run(replica: usize, address: SocketAddr, clock: Clock, stop: Stop) -> History {
    let mut client = HealthClient::new(channel(address));
    let mut history = History::default();
    loop {
        let last = *stop.borrow() == Phase::Over;
        let began = clock.now();
        let answer = client.check(HealthCheckRequest::default());
        let answer = tokio::time::timeout(TIMEOUT, answer).await;
        let health = match answer {
            Ok(Ok(answer)) if answer.get_ref().status == i32::from(ServingStatus::Serving) => {
                Health::Ready
            }
            Ok(Ok(_)) => Health::NotReady,
            Ok(Err(_)) | Err(_) => Health::NoAnswer,
        };
        history.health.push(HealthSample { replica, health, span: Span::new(began, clock.now()) });
        if last {
            return history;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Polls the staleness until the run is over. A dead replica has none.
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
