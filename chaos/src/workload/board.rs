//! Tokens of a run, shared by all tasks: the check requests for them, and which are known to be
//! revoked.

use std::{
    collections::{BTreeSet, HashMap},
    sync::RwLock,
    time::Duration,
};

use envoy_types::pb::envoy::service::auth::v3::{
    AttributeContext, CheckRequest,
    attribute_context::{HttpRequest, Request},
};
use portcullis_integration_tests::token::Claims;

use crate::{
    history::{Target, Token},
    moment::Moment,
    plan::Plan,
    random::Random,
};

/// What all tasks know about the tokens.
#[derive(Debug)]
pub struct Board {
    tokens: Vec<Token>,
    /// Their expiries in whole seconds, as in their claims.
    expiries: Vec<jiff::Timestamp>,
    requests: Vec<CheckRequest>,
    names: Names,
    good: usize,
    /// Places of tokens that were revoked or unrevoked, in the order of the acknowledgements.
    revoked: RwLock<Vec<usize>>,
}

/// Names of tokens, subjects and sessions on the wire.
#[derive(Debug)]
pub struct Names {
    run: String,
    /// In milliseconds.
    now: i64,
    base: i64,
}

/// How long tokens live, in seconds. Longer than any run.
const LIFETIME: i64 = 3600;
/// How long before the run the clock of [`Token::issued_at`] begins, in seconds, so that no token
/// comes from the future.
const BEFORE: i64 = 2000;

// === impl Names ===

impl Names {
    /// Names that are unique to this run: revocations of earlier runs stay in services that are
    /// reused.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let now = jiff::Timestamp::now();
        let run = format!("{seed}-{}", now.as_millisecond());
        Self { run, now: now.as_millisecond(), base: now.as_second() - BEFORE }
    }

    /// The id of a token.
    #[must_use]
    pub fn jti(&self, place: usize) -> String {
        format!("jti-{}-{place}", self.run)
    }

    /// A subject.
    #[must_use]
    pub fn subject(&self, subject: usize) -> String {
        format!("sub-{}-{subject}", self.run)
    }

    /// A session.
    #[must_use]
    pub fn session(&self, session: usize) -> String {
        format!("sid-{}-{session}", self.run)
    }

    /// A time of issue, in Unix seconds.
    #[must_use]
    pub const fn time(&self, issued_at: i64) -> i64 {
        self.base + issued_at
    }

    /// The expiry of tokens that do not expire during the run.
    #[must_use]
    pub fn expires_at(&self) -> jiff::Timestamp {
        self.second(BEFORE + LIFETIME)
    }

    /// When a token expires.
    #[must_use]
    pub fn expiry_of(&self, token: &Token) -> jiff::Timestamp {
        let Some(expires) = token.expires else { return self.expires_at() };
        let life = i64::try_from(expires.since_begin().as_secs()).unwrap_or(LIFETIME);
        self.second(BEFORE + life)
    }

    /// # Panics
    /// If the second is out of range.
    fn second(&self, number: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(self.base + number).expect("the second is in range")
    }

    /// A token with the exact moment of its expiry: claims have whole seconds.
    fn dated(&self, token: &Token) -> Token {
        let expires = token.expires.map(|_| {
            let left = self.expiry_of(token).as_millisecond() - self.now;
            Moment::after(Duration::from_millis(u64::try_from(left).unwrap_or_default()))
        });
        Token { expires, ..*token }
    }

    fn sign(&self, place: usize, token: &Token) -> String {
        let issued_at = self.time(token.issued_at);
        Claims::default()
            .with("jti", self.jti(place))
            .with("sub", self.subject(token.subject))
            .with("sid", self.session(token.session))
            .with("iat", issued_at)
            .with("nbf", issued_at)
            .with("exp", self.expiry_of(token).as_second())
            .hs256()
    }
}

// === impl Board ===

impl Board {
    /// The tokens of a plan, signed.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let names = Names::new(plan.seed);
        let signed = plan.tokens.iter().enumerate().map(|(place, token)| names.sign(place, token));
        let requests = signed.map(|token| request(&token)).collect();
        // From the plan: a dated token has lost the fraction of its last second.
        let expiries = plan.tokens.iter().map(|token| names.expiry_of(token)).collect();
        let tokens = plan.tokens.iter().map(|token| names.dated(token)).collect();
        Self { tokens, expiries, requests, names, good: plan.good, revoked: RwLock::default() }
    }

    /// The names on the wire.
    #[must_use]
    pub const fn names(&self) -> &Names {
        &self.names
    }

    /// The tokens, each with the moment at which it expires. The run begins now.
    #[must_use]
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// When a token expires.
    pub(super) fn expiry(&self, place: usize) -> jiff::Timestamp {
        self.expiries.get(place).copied().unwrap_or_else(|| self.names.expires_at())
    }

    /// The check request for a token.
    pub(super) fn request(&self, place: usize) -> CheckRequest {
        self.requests.get(place).cloned().unwrap_or_default()
    }

    /// The tokens that a revocation covers.
    pub(super) fn covered(&self, target: Target) -> Vec<usize> {
        if let Target::Token(place) = target {
            return vec![place];
        }
        let tokens = self.tokens.iter().enumerate();
        tokens
            .filter(|(place, token)| target.covers(*place, token))
            .map(|(place, _)| place)
            .collect()
    }

    /// Records that tokens are revoked or unrevoked.
    pub(super) fn note(&self, places: &[usize]) {
        self.revoked.write().expect("the lock is not poisoned").extend(places);
    }

    /// All tokens whose correct answer is known.
    pub(super) fn decided(&self) -> Vec<usize> {
        let revoked = self.revoked.read().expect("the lock is not poisoned");
        let decided: BTreeSet<_> = (0..self.good).chain(revoked.iter().copied()).collect();
        decided.into_iter().collect()
    }

    /// A token to check: good, revoked recently, revoked earlier, or any.
    pub(super) fn pick(&self, random: &mut Random) -> usize {
        let revoked = self.revoked.read().expect("the lock is not poisoned");
        match random.within(0..100) {
            0..50 => random.index(self.good),
            50..65 if !revoked.is_empty() => {
                revoked[revoked.len() - 1 - random.index(revoked.len().min(20))]
            }
            65..90 if !revoked.is_empty() => revoked[random.index(revoked.len())],
            // Soon to be revoked, or issued just after a cut-off.
            _ => random.index(self.tokens.len().min(self.good + 2 * revoked.len() + 50)),
        }
    }
}

/// The check that Envoy sends for a request with a token.
fn request(token: &str) -> CheckRequest {
    let headers = HashMap::from([("authorization".to_owned(), format!("Bearer {token}"))]);
    let http = HttpRequest {
        method: "GET".to_owned(),
        path: "/".to_owned(),
        host: "api.test".to_owned(),
        scheme: "https".to_owned(),
        headers,
        ..HttpRequest::default()
    };
    let request = Some(Request { http: Some(http), ..Request::default() });
    let attributes = AttributeContext { request, ..AttributeContext::default() };
    CheckRequest { attributes: Some(attributes) }
}
