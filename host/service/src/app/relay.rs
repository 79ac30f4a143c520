//! The assembly of `portcullis relay`, which runs as a separate process.

use portcullis_revocation::Relay;
use portcullis_runtime::{
    drain,
    listen::{self, Limits},
    readiness::Readiness,
    telemetry::{DroppedLines, Edge, RelayMetrics},
};
use tokio::signal::unix::{SignalKind, signal};

use super::{RunError, as_limit};
use crate::{admin, config::Config};

/// Moves events from the outbox to the broker until SIGTERM or SIGINT. `dropped_lines` are those of
/// the log.
///
/// # Errors
/// When it cannot start, or could not end in an orderly way.
pub async fn run_relay(config: &Config, dropped_lines: DroppedLines) -> Result<(), RunError> {
    let readiness = Readiness::default();
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let metrics = RelayMetrics::new(Some(dropped_lines));
    let relay = Relay::build(&config.blacklist, metrics.clone(), &readiness)?;
    let admin = admin::bind(&config.admin).await?;
    let limit = as_limit(config.admin.max_connections);
    let limits = listen::share_descriptors(Limits { grpc: 0, http: 0, admin: limit, receiver: 0 });
    let admin = admin.limited(limits.admin, metrics.connections().edge(Edge::Admin));
    tracing::info!(admin = %admin.local_addr(), "relay starting");
    let (drain, mut dead) = drain::pair();
    let router = admin::relay_router(readiness.clone(), metrics);
    drain.spawn("admin edge", admin.serve_router(router, drain.clone()));
    drain.spawn("relay", relay.run(drain.clone()));
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        died = dead.next() => Err(died),
    };
    let _draining = readiness.block("draining");
    let unfinished = drain.drain(config.shutdown.timeout.get()).await;
    ended?;
    if unfinished > 0 {
        tracing::warn!(unfinished, "stopped with tasks still running after `shutdown.timeout`");
    } else {
        tracing::info!("stopped");
    }
    Ok(())
}
