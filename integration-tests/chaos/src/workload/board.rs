//! Owns the tokens of a run: the questions about them, and which of them are known to be revoked.

use std::{collections::HashMap, sync::RwLock};

use envoy_types::pb::envoy::service::auth::v3::{
    AttributeContext, CheckRequest,
    attribute_context::{HttpRequest, Request},
};
use portcullis_integration_tests::token::Claims;

use crate::{
    history::{Target, Token},
    plan::Plan,
    random::Random,
};

/// What everybody knows about the tokens.
#[derive(Debug)]
pub struct Board {
    tokens: Vec<Token>,
    questions: Vec<CheckRequest>,
    names: Names,
    good: usize,
    /// Places of tokens that are revoked and acknowledged, in that order.
    revoked: RwLock<Vec<usize>>,
}

/// What things are called on the wire.
#[derive(Debug)]
pub struct Names {
    run: String,
    base: i64,
}

/// How long tokens live, in seconds. Longer than any run.
const LIFETIME: i64 = 3600;
/// How long before the run the clock of [`Token::issued_at`] begins, in seconds, so that no token
/// comes from the future.
const BEFORE: i64 = 2000;

// === impl Names ===

impl Names {
    /// Names that no other run uses: what was revoked stays so in services that live on.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let now = jiff::Timestamp::now();
        let run = format!("{seed}-{}", now.as_millisecond());
        Self { run, base: now.as_second() - BEFORE }
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

    /// When all tokens expire.
    ///
    /// # Panics
    /// When time is about to end.
    #[must_use]
    pub fn expires_at(&self) -> jiff::Timestamp {
        let seconds = self.base + BEFORE + LIFETIME;
        jiff::Timestamp::from_second(seconds).expect("an hour from now is a time")
    }

    fn sign(&self, place: usize, token: &Token) -> String {
        let issued_at = self.time(token.issued_at);
        Claims::default()
            .with("jti", self.jti(place))
            .with("sub", self.subject(token.subject))
            .with("sid", self.session(token.session))
            .with("iat", issued_at)
            .with("nbf", issued_at)
            .with("exp", self.expires_at().as_second())
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
        let questions = signed.map(|token| question(&token)).collect();
        let tokens = plan.tokens.clone();
        Self { tokens, questions, names, good: plan.good, revoked: RwLock::default() }
    }

    /// What things are called.
    #[must_use]
    pub const fn names(&self) -> &Names {
        &self.names
    }

    /// The question about a token.
    pub(super) fn question(&self, place: usize) -> CheckRequest {
        self.questions.get(place).cloned().unwrap_or_default()
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

    /// Takes notice that tokens are revoked.
    pub(super) fn revoke(&self, places: &[usize]) {
        self.revoked.write().expect("nobody panics with it").extend(places);
    }

    /// All tokens of which it is known whether they must pass.
    pub(super) fn decided(&self) -> Vec<usize> {
        let revoked = self.revoked.read().expect("nobody panics with it");
        (0..self.good).chain(revoked.iter().copied()).collect()
    }

    /// A token to ask about: good, revoked a moment ago, revoked some time ago, or any.
    pub(super) fn pick(&self, random: &mut Random) -> usize {
        let revoked = self.revoked.read().expect("nobody panics with it");
        match random.within(0..100) {
            0..50 => random.index(self.good),
            50..65 if !revoked.is_empty() => {
                revoked[revoked.len() - 1 - random.index(revoked.len().min(20))]
            }
            65..90 if !revoked.is_empty() => revoked[random.index(revoked.len())],
            // Soon to be revoked, or a young token beside a cut-off.
            _ => random.index(self.tokens.len().min(self.good + 2 * revoked.len() + 50)),
        }
    }
}

/// The question that Envoy asks about a request with a token.
fn question(token: &str) -> CheckRequest {
    let headers = HashMap::from([("authorization".to_owned(), format!("Bearer {token}"))]);
    let http = HttpRequest {
        method: "GET".to_owned(),
        path: "/".to_owned(),
        host: "api.test".to_owned(),
        scheme: "https".to_owned(),
        headers,
        ..HttpRequest::default()
    };
    let request = Request { http: Some(http), ..Request::default() };
    let attributes = AttributeContext { request: Some(request), ..AttributeContext::default() };
    CheckRequest { attributes: Some(attributes) }
}
