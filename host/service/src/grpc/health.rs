//! The gRPC health service, which reports readiness.
//!
//! Envoy's active health check takes a pod out of the load balancing, so this must change together
//! with readiness and not after it.

use portcullis_runtime::{drain::Drain, readiness::Readiness};
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt, wrappers::WatchStream};
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health, HealthServer},
};

/// The service that Envoy asks for. The empty name stands for the server as a whole.
const AUTHORIZATION: &str = "envoy.service.auth.v3.Authorization";

/// Answers health checks with the last state from [`follow`].
#[derive(Debug)]
pub(super) struct HealthChecks(watch::Receiver<bool>);

/// Makes the health service, and the end that [`follow`] writes to.
pub(super) fn pair(readiness: &Readiness) -> (watch::Sender<bool>, HealthServer<HealthChecks>) {
    let (serving, reader) = watch::channel(readiness.is_ready());
    (serving, HealthServer::new(HealthChecks(reader)))
}

/// Copies readiness into the health service until the drain begins. Then the service reports "not
/// serving", and every watcher's stream ends: an open stream would hold up the shutdown.
pub(super) async fn follow(serving: watch::Sender<bool>, readiness: Readiness, drain: Drain) {
    let mut ready = readiness.watch();
    let copy = async {
        loop {
            let now = *ready.borrow_and_update();
            serving.send_if_modified(|serving| std::mem::replace(serving, now) != now);
            if ready.changed().await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = copy => {}
        () = drain.stopping() => {}
    }
    serving.send_if_modified(|serving| std::mem::replace(serving, false));
}

// === impl HealthChecks ===

impl HealthChecks {
    fn of(&self, service: &str) -> Result<watch::Receiver<bool>, Status> {
        if service.is_empty() || service == AUTHORIZATION {
            Ok(self.0.clone())
        } else {
            Err(Status::not_found("no such service"))
        }
    }
}

fn response(serving: bool) -> HealthCheckResponse {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    HealthCheckResponse { status: status as i32 }
}

#[tonic::async_trait]
impl Health for HealthChecks {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let serving = *self.of(&request.get_ref().service)?.borrow();
        Ok(Response::new(response(serving)))
    }

    type WatchStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let changes = WatchStream::new(self.of(&request.get_ref().service)?);
        Ok(Response::new(Box::pin(changes.map(|serving| Ok(response(serving))))))
    }
}
