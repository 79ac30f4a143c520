//! The assembly: configuration in, running service out, and the orderly end.
//!
//! With `main`, the only place that assumes the process to be its own (signals, exit).

mod announce;
mod relay;

use std::{future::pending, path::Path, sync::Arc, time::Duration};

pub use announce::{AnnounceError, Announcement};
use portcullis_revocation as revocation;
use portcullis_runtime::{
    drain::{self, DeadTasks, Drain, TaskDied},
    listen::{self, BindError},
    readiness::Readiness,
    telemetry::{DecisionLog, DroppedLines, Edge, Metrics},
};
use portcullis_types::secret::{ReadSecretError, Secret};
pub use relay::run_relay;
use tokio::signal::unix::{SignalKind, signal};
use tracing::field::display;

use crate::{
    admin,
    authorizer::{self, Authorizer, Recorder, RouteError},
    config::Config,
    grpc, http,
    policy::{self, Reload},
    receiver::{self, Receiver, ReceiverEdge, ReceiverError, ReceiverSections},
    token,
};

/// The service cannot start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A key or an issuer is unusable.
    #[error(transparent)]
    Token(#[from] token::TokenBuildError),
    /// A policy cannot be loaded.
    #[error(transparent)]
    Policy(#[from] policy::PolicyBuildError),
    /// A route contradicts itself.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The sources of revocations contradict each other, or cannot be used.
    #[error(transparent)]
    Blacklist(#[from] revocation::BuildError),
    /// The receiver would accept no logout, or could not store it.
    #[error(transparent)]
    Receiver(#[from] ReceiverError),
    /// The relay's sections are missing or unusable.
    #[error(transparent)]
    Relay(#[from] revocation::RelayBuildError),
    /// The admin token cannot be read.
    #[error("`admin.token_file`: {0}")]
    AdminToken(#[from] ReadSecretError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The addresses cannot be written down.
    #[error(transparent)]
    Announce(#[from] AnnounceError),
    /// Signals cannot be received.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
    /// There is no thread for a task.
    #[error("cannot start a thread: {0}; raise the limit of threads, or of memory")]
    Thread(#[from] std::io::Error),
    /// A task that must never end has ended.
    #[error(transparent)]
    Died(#[from] TaskDied),
    /// The start has panicked.
    #[error("the start failed: {0}; this is a fault of Portcullis, please report it")]
    Panicked(tokio::task::JoinError),
}

/// Everything that is built from the configuration before an address is opened.
struct Built {
    authorizer: Authorizer,
    verifier: token::Verifier,
    keys: token::KeyReloader,
    feed: revocation::Feed,
    tasks: revocation::Tasks,
    revocations: revocation::Revoker,
    replica: Option<String>,
    feed_status: revocation::Status,
    blacklist: revocation::Blacklist,
    receiver: Option<Receiver>,
    policies: policy::Policies,
    reload: Reload,
    reloader: policy::PolicyReloader,
    admin_token: Option<Secret>,
    metrics: Arc<Metrics>,
}

/// Checks everything that can be checked without opening an address or starting a task.
///
/// # Errors
/// As [`run`].
pub fn check(config: &Config) -> Result<(), RunError> {
    build(config, &Readiness::default()).map(drop)
}

/// What the configuration leaves open although it can be used: settings with a risk that should have
/// been taken on purpose.
#[must_use]
pub fn warnings(config: &Config) -> Vec<String> {
    [token::warnings(&config.issuers), receiver::warnings(receiver_sections(config))].concat()
}

/// Serves until SIGTERM or SIGINT. `dropped_lines` are those of the log, `announce` names a file to
/// write the addresses to; `ready` runs once the service is ready, and must not block.
///
/// # Errors
/// When it cannot start, or could not end in an orderly way.
pub async fn run(
    config: &Config,
    dropped_lines: DroppedLines,
    announce: Option<&Path>,
    ready: impl FnOnce(&Announcement),
) -> Result<(), RunError> {
    let readiness = Readiness::default();
    let starting = readiness.block("starting");
    let mut signals = Signals::new().map_err(RunError::Signals)?;
    let (drain, mut dead) = drain::pair();
    let (announcement, reload) = tokio::select! {
        started = start_all(config, dropped_lines, announce, &readiness, &drain) => started?,
        // A volume that hangs may keep it from ever starting.
        () = signals.end() => return Ok(()),
    };
    for warning in warnings(config) {
        tracing::warn!("{warning}");
    }
    drop(starting);
    let becoming_ready = async {
        wait_until_ready(&readiness).await;
        let Announcement { grpc, http, admin, receiver } = &announcement;
        let [http, receiver] = [http, receiver].map(|address| address.map(display));
        tracing::info!(%grpc, http, %admin, receiver, "ready");
        ready(&announcement);
        pending().await
    };
    // A source that never answers must not keep the process from being stopped.
    let ended = tokio::select! {
        ended = signals.wait(&mut dead, &reload) => ended,
        never = becoming_ready => never,
    };
    let _draining = readiness.block("draining");
    if ended.is_ok() {
        tracing::info!("draining");
        signals.grace(config.shutdown.grace.get()).await;
    }
    let unfinished = drain.drain(config.shutdown.timeout.get()).await;
    ended?;
    if unfinished > 0 {
        // A peer that connected and never spoke holds its edge up, and is no failure of ours.
        tracing::warn!(unfinished, "stopped with tasks still running after `shutdown.timeout`");
        return Ok(());
    }
    tracing::info!("stopped");
    Ok(())
}

/// Builds everything, opens the addresses and starts the tasks. Keys and policies are read on a
/// thread that no other part needs.
async fn start_all(
    config: &Config,
    dropped_lines: DroppedLines,
    announce: Option<&Path>,
    readiness: &Readiness,
    drain: &Drain,
) -> Result<(Announcement, Reload), RunError> {
    let building = (config.clone(), readiness.clone());
    let built = blocking(move || build(&building.0, &building.1)).await??;
    built.metrics.report_dropped_lines(dropped_lines);
    let reload = built.reload.clone();
    let announcement = start(config, built, readiness, drain).await?;
    if let Some(path) = announce {
        let (announcement, path) = (announcement.clone(), path.to_owned());
        blocking(move || announcement.write(&path)).await??;
    }
    Ok((announcement, reload))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RunError> {
    tokio::task::spawn_blocking(work).await.map_err(RunError::Panicked)
}

fn build(config: &Config, readiness: &Readiness) -> Result<Built, RunError> {
    let metrics = Arc::new(Metrics::new(&authorizer::reason_codes()));
    let admin_token = config.admin.token_file.as_deref().map(Secret::read).transpose()?;
    let skew = config.blacklist.skew.get();
    let (verifier, keys) = token::build(&config.issuers, &config.tokens, skew)?;
    let possession = token::possession(&config.issuers, &config.tokens)?;
    if possession.remembered_proofs().is_some() {
        let proofs = possession.clone();
        metrics.report_remembered_proofs(move || proofs.remembered_proofs().unwrap_or_default());
    }
    let keys = keys.report_to(&metrics.keys()).block(readiness);
    let uses = authorizer::policy_uses(&config.routes);
    let (policies, reload, reloader) =
        policy::build(&config.policy_host, &config.policies, &uses, &metrics)?;
    let revocation =
        revocation::build(&config.blacklist, config.longest_leeway(), readiness, &metrics)?;
    let revocation::RevocationParts {
        blacklist,
        feed,
        revocations,
        status,
        lookups,
        refresh,
        tasks,
        replica,
    } = revocation;
    let receiver = receiver::build(receiver_sections(config), &verifier, &revocations, &metrics)?;
    let size = blacklist.clone();
    metrics.report_blacklist_size(move || size.len());
    let ready = readiness.clone();
    metrics.report_ready(move || ready.is_ready());
    let recorder = Recorder::new(Arc::clone(&metrics), DecisionLog::new(&config.log));
    let authorizer_config = authorizer::PipelineConfig {
        routes: config.routes.clone(),
        hosts: config.hosts,
        paths: config.paths.clone(),
        cors: config.cors.clone(),
        denials: config.denials.clone(),
        request_limits: config.request_limits,
    };
    let revocation = authorizer::Revocation { blacklist: blacklist.clone(), lookups, refresh };
    let tokens = (verifier.clone(), possession);
    let authorizer = authorizer::build(authorizer_config, tokens, revocation, &policies, recorder)?;
    Ok(Built {
        authorizer,
        verifier,
        keys,
        feed,
        tasks,
        revocations,
        replica,
        feed_status: status,
        blacklist,
        receiver,
        policies,
        reload,
        reloader,
        admin_token,
        metrics,
    })
}

const fn receiver_sections(config: &Config) -> ReceiverSections<'_> {
    ReceiverSections {
        receiver: config.receiver.as_ref(),
        issuers: &config.issuers,
        blacklist: &config.blacklist,
    }
}

/// Opens the addresses and starts the tasks.
async fn start(
    config: &Config,
    built: Built,
    readiness: &Readiness,
    drain: &Drain,
) -> Result<Announcement, RunError> {
    let grpc = grpc::bind(&config.grpc).await?;
    let http = http::bind(&config.http).await?;
    let admin = admin::bind(&config.admin).await?;
    let receiver = match built.receiver {
        Some(receiver) => Some(receiver.bind().await?),
        None => None,
    };
    let announcement = Announcement {
        grpc: grpc.local_addr(),
        http: http.as_ref().map(http::HttpEdge::local_addr),
        admin: admin.local_addr(),
        receiver: receiver.as_ref().map(ReceiverEdge::local_addr),
    };
    let limits = listen::share_descriptors(listen::Limits {
        grpc: as_limit(config.grpc.max_connections),
        http: http.as_ref().map_or(0, |_| as_limit(config.http.max_connections)),
        admin: as_limit(config.admin.max_connections),
        receiver: config.receiver.as_ref().map_or(0, |config| as_limit(config.max_connections)),
    });
    let connections = built.metrics.connections();
    let grpc = grpc.limited(limits.grpc, connections.edge(Edge::Grpc));
    let http = http.map(|http| http.limited(limits.http, connections.edge(Edge::Http)));
    let admin = admin.limited(limits.admin, connections.edge(Edge::Admin));
    let receiver = receiver
        .map(|receiver| receiver.limited(limits.receiver, connections.edge(Edge::Receiver)));
    let authorizer = Arc::new(built.authorizer);
    drain.spawn("key reloader", built.keys.run(drain.clone()));
    drain.spawn("token sweep", token::forget_expired(built.verifier.clone(), drain.clone()));
    let (feed, tasks) = (built.feed, built.tasks);
    // Checks take all the time they can get; what keeps the set current must not wait for them.
    drain.spawn_on_thread("blacklist", move |drain| {
        drain.spawn("blacklist feed", feed.run(drain.clone()));
        tasks.spawn(drain);
    })?;
    drain.spawn("policy epoch waker", built.policies.epoch_waker().run(drain.clone()));
    drain.spawn("policy reloader", built.reloader.run(drain.clone()));
    let admin_state = admin::AdminState {
        token: built.admin_token,
        readiness: readiness.clone(),
        metrics: built.metrics,
        verifier: built.verifier,
        policies: built.policies,
        reload: built.reload,
        revocations: built.revocations,
        replica: built.replica,
        feed: built.feed_status,
        blacklist: built.blacklist,
    };
    drain.spawn("admin edge", admin.serve(admin_state, drain.clone()));
    drain.spawn("grpc edge", grpc.serve(Arc::clone(&authorizer), readiness.clone(), drain.clone()));
    if let Some(receiver) = receiver {
        drain.spawn("receiver", receiver.serve(drain.clone()));
    }
    if let Some(http) = http {
        drain.spawn("http edge", http.serve(authorizer, drain.clone()));
    }
    Ok(announcement)
}

fn as_limit(connections: u32) -> usize {
    usize::try_from(connections).unwrap_or(usize::MAX)
}

async fn wait_until_ready(readiness: &Readiness) {
    let mut watch = readiness.watch();
    // The sender lives in `readiness`, which outlives this call.
    let _ = watch.wait_for(|ready| *ready).await;
}

/// The signals that the process listens to.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Until the process is told to end, or a task has died; SIGHUP reloads policies.
    async fn wait(&mut self, dead: &mut DeadTasks, reload: &Reload) -> Result<(), TaskDied> {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Ok(()),
                _ = self.interrupt.recv() => return Ok(()),
                died = dead.next() => return Err(died),
                // Nothing is waited for here, or the other signals would not be received meanwhile.
                Some(()) = self.hangup.recv() => reload.request(),
            }
        }
    }

    /// Until the process is told to end.
    async fn end(&mut self) {
        tokio::select! {
            Some(()) = self.terminate.recv() => {}
            Some(()) = self.interrupt.recv() => {}
            else => pending().await,
        }
    }

    /// Waits for `grace`, or for a second signal that asks to end.
    async fn grace(&mut self, grace: Duration) {
        // Either way the drain comes next.
        let _ = tokio::time::timeout(grace, self.end()).await;
    }
}
