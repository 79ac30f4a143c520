//! Micro benchmarks: the cost of each step of a decision, on one thread and without a network.
//!
//! They use the library as the binary does, with the configurations of the servers. A step with a
//! wrong answer ends the run.

use std::{
    fmt,
    hint::black_box,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use portcullis::{
    authorizer::{self, Authorize as _, Authorizer, Recorder, Revocation},
    config::{Config, Env},
    grpc,
    policy::{self, Budget, Identity, Input, Policies},
    token::{self, Credential, IssuerSet, VerifiedToken, Verifier},
};
use portcullis_revocation::{Blacklist, BlacklistWriter, Event, Found, PresentedToken, Reliance};
use portcullis_runtime::telemetry::{DecisionLog, Metrics};
use portcullis_types::{
    attributes::{Attributes, HttpAttributes, Peer},
    decision::Verdict,
    timestamp::Timestamp,
    token_id::TokenId,
};

use crate::{
    config::{Files, Variant, WriteError},
    request::{Check, HOST, PATH},
    revocations::{FIRST_VALID, token_id},
    series::Series,
};

/// How long each step is repeated.
const WINDOW: Duration = Duration::from_secs(1);
/// Writes to the blacklist per second while it is read.
const WRITES_PER_SECOND: u32 = 10_000;
/// Token ids that are looked up: more than fit into a processor's caches.
const LOOKUPS: u64 = 1 << 18;
/// The deadline of the policy; far more than it needs.
const DEADLINE: Duration = Duration::from_secs(1);

/// The cost of one step.
pub(crate) struct Step {
    /// The name of the step.
    pub(crate) name: &'static str,
    /// The median, in nanoseconds.
    pub(crate) ns: f64,
}

/// A step could not be measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MicroError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("cannot set up {0}: {1}")]
    Setup(&'static str, String),
    #[error("{0} gave a wrong answer")]
    Wrong(&'static str),
}

/// One configuration of Portcullis, as a library.
struct Subject {
    authorizer: Authorizer,
    verifier: Verifier,
    issuers: IssuerSet,
    policies: Policies,
    /// The writer of the blacklist.
    _writer: BlacklistWriter,
}

/// Measures every step.
pub(crate) fn measure(
    files: &Files,
    checks: &[Check],
    entries: u64,
) -> Result<Vec<Step>, MicroError> {
    let default = Subject::new(&files.configuration(Variant::Default)?)?;
    let forgetful = Subject::new(&files.configuration(Variant::VerifyEachTime)?)?;
    let fresh = Subject::new(&files.configuration(Variant::FreshInstance)?)?;
    let requests = checks.iter().map(request).collect::<Result<Vec<_>, _>>()?;
    let [valid, revoked] = lookup(entries)?;
    Ok(vec![
        valid,
        revoked,
        decode(checks)?,
        verify("verify, remembered", &default, &requests)?,
        verify("verify, RS256", &forgetful, &requests)?,
        evaluate("policy, warm", &default, &requests)?,
        evaluate("policy, fresh", &fresh, &requests)?,
        authorize("authorize", &default, &requests)?,
    ])
}

/// Looks up token ids while others are written: ids that are not in the set, as in nearly all
/// requests, and ids that are in it.
fn lookup(entries: u64) -> Result<[Step; 2], MicroError> {
    let id = |n| TokenId::new(&token_id(n)).map_err(setup("a token id"));
    let (mut writer, blacklist) = portcullis_revocation::pair(Duration::ZERO);
    for n in 0..entries {
        writer.apply(Event::Add { token_id: id(n)?, expires_at: None });
    }
    writer.set_reliance(Reliance::Final);
    let ids =
        |id_of: &dyn Fn(u64) -> u64| (0..LOOKUPS).map(id_of).map(id).collect::<Result<Vec<_>, _>>();
    let valid = ids(&|n| FIRST_VALID + n)?;
    // A stride that is coprime to the size visits the whole set.
    let revoked = ids(&|n| n * 514_229 % entries)?;
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| keep_writing(&mut writer, &stop, &written));
        let begun = Instant::now();
        let look_up = |name, ids: &[TokenId], expected| {
            let mut ids = ids.iter().cycle();
            repeat(name, 256, || find(&blacklist, ids.next()) == expected)
        };
        let steps = [
            look_up("lookup, valid", &valid, Found::Clear),
            look_up("lookup, revoked", &revoked, Found::Revoked),
        ];
        stop.store(true, Ordering::Relaxed);
        let wanted = begun.elapsed().as_secs_f64() * f64::from(WRITES_PER_SECOND);
        #[expect(clippy::cast_precision_loss, reason = "seconds' worth of writes")]
        if (written.load(Ordering::Relaxed) as f64) < wanted * 0.9 {
            return Err(setup("the blacklist")("the writer cannot keep up"));
        }
        let [valid, revoked] = steps;
        Ok([valid?, revoked?])
    })
}

fn find(blacklist: &Blacklist, token_id: Option<&TokenId>) -> Found {
    let presented = PresentedToken { token_id, ..PresentedToken::default() };
    blacklist.find(black_box(&presented), Timestamp::from_secs(0))
}

/// Adds and removes token ids at a fixed rate until it is stopped.
fn keep_writing(writer: &mut BlacklistWriter, stop: &AtomicBool, written: &AtomicU64) {
    const AT_ONCE: u32 = 10;
    let pause = Duration::from_secs(1) * AT_ONCE / WRITES_PER_SECOND;
    let mut due = Instant::now();
    for n in (FIRST_VALID * 2..).step_by(AT_ONCE as usize / 2) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        for id in (n..).take(AT_ONCE as usize / 2) {
            let Ok(token_id) = TokenId::new(&token_id(id)) else { return };
            writer.apply(Event::Add { token_id, expires_at: None });
            writer.apply(Event::Unrevoke { token_id });
        }
        written.fetch_add(u64::from(AT_ONCE), Ordering::Relaxed);
        due += pause;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// Decodes the message of a call.
fn decode(checks: &[Check]) -> Result<Step, MicroError> {
    let mut checks = checks.iter().cycle();
    repeat("decode", 16, || {
        checks.next().is_some_and(|check| black_box(grpc::decode(check.message())).is_ok())
    })
}

/// Verifies the token of a request.
fn verify(
    name: &'static str,
    subject: &Subject,
    requests: &[Attributes],
) -> Result<Step, MicroError> {
    let mut requests = requests.iter().cycle();
    repeat(name, 16, || {
        requests.next().is_some_and(|request| black_box(subject.verify(request)).is_some())
    })
}

/// Evaluates the policy for a request.
fn evaluate(
    name: &'static str,
    subject: &Subject,
    requests: &[Attributes],
) -> Result<Step, MicroError> {
    let handle = subject.policies.handle("rules", "api");
    let handle = handle.ok_or_else(|| setup(name)("there is no policy"))?;
    let request = requests.first().ok_or_else(|| setup(name)("there is no request"))?;
    let token = subject.verify(request).ok_or(MicroError::Wrong(name))?;
    let http = request.http.as_ref().ok_or(MicroError::Wrong(name))?;
    let input = input(request, http, &token);
    repeat(name, 16, || {
        let evaluation = handle.evaluate(black_box(&input), Budget::new(DEADLINE, None));
        let outcome = evaluation.now_or_never().map(|evaluation| evaluation.outcome);
        matches!(outcome, Some(Ok((Verdict::Allow(_), _))))
    })
}

/// The whole pipeline: route, token, blacklist, policy, guard, and the record.
fn authorize(
    name: &'static str,
    subject: &Subject,
    requests: &[Attributes],
) -> Result<Step, MicroError> {
    let mut requests = requests.iter().cycle();
    repeat(name, 16, || {
        let decision = requests.next().map(|request| subject.authorizer.authorize(request, None));
        let decision = decision.and_then(FutureExt::now_or_never);
        decision.is_some_and(|decision| black_box(decision).is_allowed())
    })
}

/// Repeats `step`, which returns whether it succeeded, `at_once` times between two reads of the
/// clock.
fn repeat(
    name: &'static str,
    at_once: u32,
    mut step: impl FnMut() -> bool,
) -> Result<Step, MicroError> {
    let begun = Instant::now();
    let mut samples = Vec::new();
    while begun.elapsed() < WINDOW {
        let start = Instant::now();
        let well = (0..at_once).all(|_| step());
        samples.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(at_once));
        if !well {
            return Err(MicroError::Wrong(name));
        }
    }
    Ok(Step { name, ns: Series::new(samples).median() })
}

/// The request of a call.
fn request(check: &Check) -> Result<Attributes, MicroError> {
    grpc::decode(check.message()).map_err(|reason| setup("a request")(reason.code()))
}

fn input<'a>(
    request: &'a Attributes,
    http: &'a HttpAttributes,
    token: &'a VerifiedToken,
) -> Input<'a> {
    const NO_PEER: &Peer = &Peer {
        address: String::new(),
        port: 0,
        principal: String::new(),
        certificate: String::new(),
    };
    Input {
        route: "api",
        method: &http.method,
        scheme: &http.scheme,
        host: HOST,
        path: PATH,
        raw_path: &http.path,
        query: None,
        headers: &http.headers,
        header_view: http.header_view,
        context: &request.context_extensions,
        metadata: &request.metadata,
        identity: Some(Identity {
            claims: token.claims(),
            subject: token.subject(),
            issuer: token.issuer(),
            token_id: token.jti(),
            scopes: token.scopes(),
            expires_at: token.expires_at().map(Timestamp::as_secs),
        }),
        source: NO_PEER,
        body: None,
    }
}

fn setup<E: fmt::Display>(what: &'static str) -> impl Fn(E) -> MicroError {
    move |error| MicroError::Setup(what, error.to_string())
}

// === impl Subject ===

impl Subject {
    /// Builds what the configuration in `file` describes, as the process does.
    fn new(file: &Path) -> Result<Self, MicroError> {
        let config =
            portcullis::config::read(file, &Env::default()).map_err(setup("the configuration"))?;
        let metrics = Arc::new(Metrics::new(&authorizer::reason_codes()));
        let skew = config.blacklist.skew.get();
        let (verifier, _) =
            token::build(&config.issuers, &config.tokens, skew).map_err(setup("the keys"))?;
        let possession = token::possession(&config.issuers, &config.tokens)
            .map_err(setup("the proofs of possession"))?;
        let issuers = verifier.issuer_set(&verifier.issuer_names()).map_err(setup("the issuer"))?;
        let uses = authorizer::policy_uses(&config.routes);
        let (policies, ..) = policy::build(&config.policy_host, &config.policies, &uses, &metrics)
            .map_err(setup("the policy"))?;
        let (mut writer, blacklist) = portcullis_revocation::pair(Duration::ZERO);
        writer.set_reliance(Reliance::Final);
        let revocation = Revocation { blacklist, lookups: None, refresh: None };
        let recorder = Recorder::new(metrics, DecisionLog::new(&config.log));
        let Config { routes, hosts, paths, cors, denials, request_limits, .. } = config;
        let authorizer = authorizer::build(
            authorizer::PipelineConfig { routes, hosts, paths, cors, denials, request_limits },
            (verifier.clone(), possession),
            revocation,
            &policies,
            recorder,
        )
        .map_err(setup("the routes"))?;
        Ok(Self { authorizer, verifier, issuers, policies, _writer: writer })
    }

    /// The token of `request`, verified.
    fn verify(&self, request: &Attributes) -> Option<Arc<VerifiedToken>> {
        let http = request.http.as_ref()?;
        let token = Credential::default().token(http).ok()?;
        self.verifier.verify(token, &self.issuers, Timestamp::now()).ok()
    }
}
