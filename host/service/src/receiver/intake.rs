//! Intake of reports: verified with the keys of their issuer, and stored as ordinary revocations.
//!
//! A report succeeds only when its revocation is stored. What it does depends on the token alone, so a
//! repeated report changes nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use portcullis_revocation::{
    BlankTargetError, Revocation, RevokeError, RevokeOptions, Revoker, Target,
};
use portcullis_runtime::{
    drain::Drain,
    telemetry::{RateLimitedLog, ReportMetrics, ReportResult},
};
use portcullis_types::timestamp::Timestamp;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout_at},
};

use crate::token::{
    Ended, IssuerSet, KeysFetched, Report, ReportKind, ReportOutcome, ReportRefusal, Verifier,
};

/// How long a report waits for the issuer's keys and for the store, together.
const PATIENCE: Duration = Duration::from_secs(10);
/// Reports that may be under way. One goes on when its caller has left, so connections do not limit them.
const UNDERWAY: usize = 256;
/// Between two attempts to store a revocation.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// Times of issue are whole seconds at most issuers: a token of the same second is covered.
const SECOND: Duration = Duration::from_millis(999);
/// How often refusals are logged that a caller can cause again and again.
const LOG_PERIOD: Duration = Duration::from_mins(1);

/// What reports of all kinds need. Clones share the limit of reports under way.
#[derive(Debug, Clone)]
pub(super) struct IntakeDeps {
    pub(super) verifier: Verifier,
    pub(super) revoker: Revoker,
    /// How long a revocation lasts where the issuer's configuration does not say it.
    pub(super) longest_life: Duration,
    underway: Arc<Semaphore>,
}

/// Takes reports of one kind.
#[derive(Debug)]
pub(super) struct Intake {
    deps: IntakeDeps,
    kind: ReportKind,
    issuers: IssuerSet,
    metrics: ReportMetrics,
    /// Limits the lines about each cause, by the issuer that has signed the report.
    lines: Mutex<BTreeMap<(String, &'static str), RateLimitedLog>>,
}

/// A report is not effective.
#[derive(Debug, thiserror::Error)]
pub(super) enum IntakeError {
    #[error("{0}")]
    BadRequest(&'static str),
    #[error("the token is not acceptable: {}", .0.cause().detail())]
    Token(ReportRefusal),
    #[error("the token has a blank name")]
    Blank(#[from] BlankTargetError),
    #[error("too many reports are under way; repeat the request later")]
    Overloaded,
    #[error("the keys of the issuer are not known; repeat the request later")]
    NoKeys,
    #[error("the revocation is not stored, or that is unknown; repeat the request later")]
    NotStored(Option<RevokeError>),
}

// === impl IntakeDeps ===

impl IntakeDeps {
    pub(super) fn new(verifier: Verifier, revoker: Revoker, longest_life: Duration) -> Self {
        Self { verifier, revoker, longest_life, underway: Arc::new(Semaphore::new(UNDERWAY)) }
    }
}

// === impl Intake ===

impl Intake {
    pub(super) fn new(
        deps: IntakeDeps,
        kind: ReportKind,
        issuers: IssuerSet,
        metrics: ReportMetrics,
    ) -> Self {
        Self { deps, kind, issuers, metrics, lines: Mutex::default() }
    }

    /// Handles a report to its end, even if the caller stops waiting.
    pub(super) async fn handle(
        self: Arc<Self>,
        token: String,
        drain: &Drain,
    ) -> Result<(), IntakeError> {
        let metrics = self.metrics.clone();
        let turn = Arc::clone(&self.deps.underway).try_acquire_owned();
        let work = async move {
            let outcome = match &turn {
                Ok(_) => self.take(&token).await,
                Err(_) => Err(IntakeError::Overloaded),
            };
            self.note(&outcome);
            outcome.map(drop)
        };
        // Nothing comes of a task that panicked.
        drain.finish(work).await.unwrap_or_else(|| {
            metrics.count(ReportResult::Failed);
            Err(IntakeError::NotStored(None))
        })
    }

    /// Refuses a request without a token. Returns the error.
    pub(super) fn refuse(&self, cause: &'static str) -> IntakeError {
        let refused = Err(IntakeError::BadRequest(cause));
        self.note(&refused);
        IntakeError::BadRequest(cause)
    }

    /// Resolves when the revocation is stored.
    async fn take(&self, token: &str) -> Result<Report, IntakeError> {
        let deadline = Instant::now() + PATIENCE;
        let report = self.verify(token, deadline).await?;
        if let ReportOutcome::Ends(all) = &report.event.outcome {
            for ended in all {
                self.store(&self.revocation(&report, ended)?, deadline).await?;
            }
        }
        Ok(report)
    }

    async fn verify(&self, token: &str, deadline: Instant) -> Result<Report, IntakeError> {
        let keys = &self.deps.verifier;
        let verify = || keys.verify_report(self.kind, token, &self.issuers, Timestamp::now());
        match verify() {
            Err(error) if error.cause().may_lack_key() && keys.fetches_keys() => {}
            report => return report.map_err(IntakeError::Token),
        }
        let fetching = timeout_at(deadline, keys.fetch_keys(token, &self.issuers));
        match (fetching.await, verify()) {
            (_, Ok(report)) => Ok(report),
            (Err(_) | Ok(KeysFetched::Unavailable), Err(error)) if error.cause().may_lack_key() => {
                Err(IntakeError::NoKeys)
            }
            (_, Err(error)) => Err(IntakeError::Token(error)),
        }
    }

    /// The revocation of all tokens that the report ends. It lasts for as long as they can live.
    fn revocation(&self, report: &Report, ended: &Ended) -> Result<Revocation, BlankTargetError> {
        let issuer = Some(report.issuer.as_str());
        let until = Timestamp::from_secs(report.event.at.as_secs()).plus(SECOND);
        let lasts = report.lasts.unwrap_or(self.deps.longest_life);
        let end = match ended {
            Ended::Subject(_) => until.plus(lasts),
            // A report that comes late ends tokens of the session that were issued meanwhile, too.
            Ended::Token(_) | Ended::Session(_) => until.max(Timestamp::now()).plus(lasts),
        };
        let (target, until) = match ended {
            Ended::Token(jti) => (Target::token(jti)?, until),
            // Whenever a token with it is issued: by an offline session, for instance.
            Ended::Session(id) => (Target::session(issuer, id)?, end),
            // The subject may log in again at once.
            Ended::Subject(name) => (Target::subject(issuer, name)?, until),
        };
        let revocation = Revocation::revoke(target, until).expires_at(Some(end));
        Ok(revocation.reason(Some(self.reason(report))))
    }

    /// Stores a revocation. Retries until the deadline, because few issuers do.
    async fn store(&self, revocation: &Revocation, deadline: Instant) -> Result<(), IntakeError> {
        // A session has ended for good, and the issuer's clock may be ahead, as its tokens show.
        let options = RevokeOptions { wait: None, future: true };
        let mut cause = None;
        let storing = async {
            loop {
                match self.deps.revoker.revoke(revocation, options).await {
                    Ok(_) => return Ok(()),
                    Err(error @ RevokeError::Write { .. }) => cause = Some(error),
                    Err(error) => return Err(IntakeError::NotStored(Some(error))),
                }
                sleep(RETRY_PAUSE).await;
            }
        };
        let stored = timeout_at(deadline, storing).await;
        stored.unwrap_or(Err(IntakeError::NotStored(cause)))
    }

    fn reason(&self, report: &Report) -> String {
        match self.kind {
            ReportKind::Logout => "back-channel logout".to_owned(),
            ReportKind::SecurityEvent => format!("security event: {}", report.event.name),
        }
    }

    /// Counts and logs what became of a report.
    fn note(&self, outcome: &Result<Report, IntakeError>) {
        let error = match outcome {
            Ok(report) => return self.note_report(report),
            Err(error) => error,
        };
        let result = error.result();
        self.metrics.count(result);
        let issuer = match error {
            IntakeError::Token(ReportRefusal::Rejected { issuer, .. }) => issuer,
            _ => "",
        };
        let Some(suppressed) = self.admit(issuer, error.code()) else { return };
        let report = self.kind.section();
        match error {
            IntakeError::NotStored(Some(cause)) => {
                tracing::error!(report, error = %cause, suppressed, "report is not stored, or that is unknown");
            }
            IntakeError::Token(ReportRefusal::Rejected { issuer, .. }) => {
                let hint = "see the settings of this issuer";
                tracing::error!(report, issuer, %error, suppressed, hint, "report is not effective");
            }
            _ if result == ReportResult::Unproven => {
                tracing::warn!(report, %error, suppressed, "request without a genuine report refused");
            }
            _ => tracing::error!(report, %error, suppressed, "report is not effective"),
        }
    }

    fn note_report(&self, report: &Report) {
        let (issuer, event) = (&report.issuer_name, report.event.name);
        let kind = self.kind.section();
        let result = match &report.event.outcome {
            ReportOutcome::Ends(ended) => {
                let ended: Vec<_> = ended.iter().map(Ended::kind).collect();
                let ended = ended.join(" ");
                tracing::info!(report = kind, issuer, event, ended, "report stored");
                ReportResult::Stored
            }
            ReportOutcome::Nothing => {
                tracing::info!(report = kind, issuer, event, "report received that ends no token");
                ReportResult::Ignored
            }
            ReportOutcome::Unmatched => {
                let hint = "its subject identifier has no name that access tokens have; see docs/tokens.md";
                if let Some(suppressed) = self.admit(issuer, "unmatched") {
                    tracing::error!(
                        report = kind,
                        issuer,
                        event,
                        suppressed,
                        hint,
                        "report is not effective"
                    );
                }
                ReportResult::Unmatched
            }
        };
        self.metrics.count(result);
    }

    /// Whether to log a cause. What a token says of itself makes no other cause.
    fn admit(&self, issuer: &str, code: &'static str) -> Option<u64> {
        // A map of plain values is never half-changed.
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.entry((issuer.to_owned(), code)).or_default().admit(code, LOG_PERIOD)
    }
}

// === impl IntakeError ===

impl IntakeError {
    pub(super) const fn result(&self) -> ReportResult {
        match self {
            Self::NotStored(_) | Self::NoKeys | Self::Overloaded => ReportResult::Failed,
            Self::Blank(_) | Self::Token(ReportRefusal::Rejected { .. }) => ReportResult::Rejected,
            Self::BadRequest(_) | Self::Token(ReportRefusal::Unproven(_)) => ReportResult::Unproven,
        }
    }

    /// A stable code.
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(cause) => cause,
            Self::Token(refusal) => refusal.cause().code(),
            Self::Blank(_) => "blank",
            Self::Overloaded => "overloaded",
            Self::NoKeys => "no_keys",
            Self::NotStored(_) => "not_stored",
        }
    }
}
