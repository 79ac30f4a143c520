//! Owns looking whether a replica is ready, as Envoy does: by its gRPC health.

use std::{net::SocketAddr, time::Duration};

use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{Phase, Stop, ask::channel};
use crate::history::{Clock, History, Look, Span};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(15);
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
