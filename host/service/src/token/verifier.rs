//! Verifier of tokens, which remembers those that it has verified.
//!
//! It reads key sets and never writes them but for the reload task. Remembering a token saves its
//! signature check and nothing else: times are checked each time, and revocation is not checked
//! here at all.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use portcullis_runtime::boot_clock::BootInstant;
use portcullis_types::{json::JsonObject, timestamp::Timestamp};
use serde::Serialize;

use super::{
    claims::{self, VerifiedToken},
    credential::Credential,
    issuer::Issuer,
    key::KeySet,
    logout,
    memory::{Memory, TokenKey},
    parse::{self, Jws},
    remote::KeyRequests,
    report::{Ended, Report, ReportKind, ReportOutcome, ReportRefusal},
    security_event,
    verify_error::{Shown, VerifyError},
};

/// Verifies tokens. Clones share keys and memory.
#[derive(Debug, Clone)]
pub struct Verifier {
    shared: Arc<Shared>,
}

/// The issuers that a route accepts, resolved once. Of use only to the verifier that made it.
#[derive(Debug, Clone)]
pub struct IssuerSet {
    owner: Arc<Shared>,
    /// The same for every set of the same issuers, so that routes share remembered tokens.
    id: usize,
    /// Positions among the verifier's issuers.
    members: Arc<[usize]>,
}

/// The state of an issuer, for operators.
#[derive(Debug, Clone, Serialize)]
pub struct IssuerStatus {
    /// Its name in the configuration.
    pub name: String,
    /// How many keys verify its tokens.
    pub keys: usize,
    /// For how many seconds the keys that were fetched are still used if the issuer does not answer; 0
    /// if there are none. Absent where no keys are fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usable_seconds: Option<u64>,
}

/// What is known of the keys of an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeysFetched {
    /// A token with an unknown key is not one of the issuer.
    Current,
    /// The issuer has never answered, or not for too long: nothing is known of its tokens.
    Unavailable,
}

/// A route's list of issuers cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuerSetError {
    /// There is no issuer of that name.
    #[error("there is no issuer `{name}`; the configured ones are: {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// A token could belong to either of two issuers.
    #[error(
        "the issuers `{one}` and `{other}` cannot be told apart; give each its own `issuer`, or \
         make them one issuer with the keys of both"
    )]
    Ambiguous {
        /// One of them.
        one: String,
        /// The other.
        other: String,
    },
}

/// One issuer, for [`Verifier::new`].
pub(super) struct IssuerParts {
    pub(super) rules: Issuer,
    pub(super) key_set: Arc<KeySet>,
    /// About the keys that are fetched.
    pub(super) requests: Vec<KeyRequests>,
}

struct Shared {
    issuers: Vec<Issuer>,
    /// In the order of the issuers.
    requests: Vec<Vec<KeyRequests>>,
    keys: ArcSwap<Keys>,
    max_bytes: usize,
    /// How far clocks may differ.
    skew: Duration,
    /// `None` if nothing is to be remembered.
    memory: Option<Memory>,
    /// The member lists that were handed out; the position is the set's id.
    sets: Mutex<Vec<Arc<[usize]>>>,
}

/// The keys of all issuers at one time.
struct Keys {
    /// Another one after each change, so that what was verified with other keys is not found.
    generation: u64,
    /// In the order of the issuers.
    sets: Vec<Arc<KeySet>>,
}

// === impl Verifier ===

impl Verifier {
    pub(super) fn new(
        parts: Vec<IssuerParts>,
        cache_capacity: usize,
        max_bytes: usize,
        skew: Duration,
    ) -> Self {
        let memory = (cache_capacity > 0).then(|| Memory::new(cache_capacity));
        let (mut issuers, mut requests, mut key_sets) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts {
            issuers.push(part.rules);
            requests.push(part.requests);
            key_sets.push(part.key_set);
        }
        let keys = ArcSwap::from_pointee(Keys { generation: 0, sets: key_sets });
        let sets = Mutex::default();
        Self { shared: Arc::new(Shared { issuers, requests, keys, max_bytes, skew, memory, sets }) }
    }

    /// Resolves names of issuers. With no name, no token is accepted.
    ///
    /// # Errors
    /// When a name is unknown, or when a token could belong to two of the issuers.
    pub fn issuer_set(&self, names: &[String]) -> Result<IssuerSet, IssuerSetError> {
        let shared = &self.shared;
        let mut members = BTreeSet::new();
        for name in names {
            let position = shared.issuers.iter().position(|issuer| *issuer.name == **name);
            members.insert(position.ok_or_else(|| shared.unknown(name))?);
        }
        let members: Arc<[usize]> = members.into_iter().collect();
        shared.check_unambiguous(&members)?;
        // A panic between lock and unlock cannot leave a list of lists in a bad state.
        let mut sets = shared.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let id = sets.iter().position(|known| *known == members).unwrap_or(sets.len());
        if id == sets.len() {
            sets.push(Arc::clone(&members));
        }
        Ok(IssuerSet { owner: Arc::clone(shared), id, members })
    }

    /// Verifies a token: its form, its signature with a key of the issuer among `issuers` that it
    /// names, and its claims.
    ///
    /// # Errors
    /// When the token is not acceptable at `now`, for whatever reason.
    pub fn verify(
        &self,
        token: &str,
        issuers: &IssuerSet,
        now: Timestamp,
    ) -> Result<Arc<VerifiedToken>, VerifyError> {
        let shared = &self.shared;
        self.check_owner(issuers)?;
        if token.len() > shared.max_bytes {
            return Err(VerifyError::TooLarge(shared.max_bytes));
        }
        // The same keys throughout, even if they are replaced meanwhile.
        let keys = shared.keys.load();
        let Some(memory) = &shared.memory else {
            return shared.verify(token, issuers, &keys, now).map(Arc::new);
        };
        let key = TokenKey::new(token, issuers.id, keys.generation);
        if let Some(verified) = memory.get(&key) {
            verified.check_times(now, shared.skew)?;
            return Ok(verified);
        }
        let verified = Arc::new(shared.verify(token, issuers, &keys, now)?);
        memory.insert(key, Arc::clone(&verified));
        Ok(verified)
    }

    /// The issuers whose reports of this kind are accepted.
    ///
    /// # Errors
    /// When a report could belong to two of them.
    pub fn report_issuers(&self, kind: ReportKind) -> Result<IssuerSet, IssuerSetError> {
        let issuers = self.shared.issuers.iter();
        let accepting = issuers.filter(|issuer| issuer.report_rules(kind).is_some());
        let names: Vec<String> = accepting.map(|issuer| issuer.name.to_string()).collect();
        self.issuer_set(&names)
    }

    /// Verifies a report of one of the `issuers`, which are those of [`Verifier::report_issuers`].
    ///
    /// # Errors
    /// When the report is not acceptable at `now`, for whatever reason.
    pub fn verify_report(
        &self,
        kind: ReportKind,
        token: &str,
        issuers: &IssuerSet,
        now: Timestamp,
    ) -> Result<Report, ReportRefusal> {
        let shared = &self.shared;
        self.check_owner(issuers).map_err(ReportRefusal::Unproven)?;
        let keys = shared.keys.load();
        let signed = shared.verify_signature(token, issuers, &keys);
        let (jws, issuer) = signed.map_err(ReportRefusal::Unproven)?;
        let is_report = match kind {
            ReportKind::Logout => logout::check_event(&jws.claims),
            ReportKind::SecurityEvent => security_event::check_event(&jws.claims),
        };
        is_report.map_err(ReportRefusal::Unproven)?;
        let admitted = issuer.admit_report(kind, jws, now, shared.skew);
        let mut report = admitted.map_err(|cause| {
            let issuer = issuer.name.to_string();
            ReportRefusal::Rejected { issuer, cause }
        })?;
        // A token is revoked by its `jti` alone, which a token of another issuer may have, too.
        if let ReportOutcome::Ends(ended) = &mut report.event.outcome
            && shared.issuers.len() > 1
        {
            ended.retain(|ended| !matches!(ended, Ended::Token(_)));
            if ended.is_empty() {
                report.event.outcome = ReportOutcome::Unmatched;
            }
        }
        Ok(report)
    }

    /// Whether keys of some issuer are fetched.
    #[must_use]
    pub fn fetches_keys(&self) -> bool {
        self.shared.requests.iter().any(|requests| !requests.is_empty())
    }

    /// Has the keys of the token's issuer fetched once more, if they are fetched at all and that was
    /// not done just now, and resolves when they are in use. For a token that was refused for want of
    /// its key ([`VerifyError::may_lack_key`]).
    pub async fn fetch_keys(&self, token: &str, issuers: &IssuerSet) -> KeysFetched {
        let shared = &self.shared;
        let issuer = parse::split(token, shared.max_bytes)
            .and_then(|jws| shared.choose_issuer(issuers, &jws.claims).map(|(place, _)| place));
        let requests = issuer.ok().and_then(|position| shared.requests.get(position));
        let requests = requests.map_or(&[] as &[_], Vec::as_slice);
        join_all(requests.iter().map(KeyRequests::fetch)).await;
        if requests.iter().any(|source| source.usable_until().is_none()) {
            KeysFetched::Unavailable
        } else {
            KeysFetched::Current
        }
    }

    /// The state of all issuers, in order.
    #[must_use]
    pub fn status(&self) -> Vec<IssuerStatus> {
        let keys = self.shared.keys.load();
        let (now, none) = (BootInstant::now(), BootInstant::START);
        let parts = self.shared.issuers.iter().zip(&keys.sets).zip(&self.shared.requests);
        let status = |((issuer, set), requests): ((&Issuer, &Arc<KeySet>), &Vec<KeyRequests>)| {
            let until = requests.iter().map(|source| source.usable_until().unwrap_or(none)).min();
            IssuerStatus {
                name: issuer.name.to_string(),
                keys: set.len(),
                usable_seconds: until.map(|until| until.since(now).as_secs()),
            }
        };
        parts.map(status).collect()
    }

    /// The names of all issuers, in order.
    #[must_use]
    pub fn issuer_names(&self) -> Vec<String> {
        self.shared.issuers.iter().map(|issuer| issuer.name.to_string()).collect()
    }

    /// Where the tokens of the issuer are in a request; nowhere for an unknown one.
    #[must_use]
    pub fn token_from(&self, issuer: &str) -> &[Credential] {
        let found = self.shared.issuers.iter().find(|known| *known.name == *issuer);
        found.map_or(&[], |issuer| &issuer.token_from)
    }

    /// How often keys were replaced since the start.
    #[cfg(test)]
    pub(super) fn key_generation(&self) -> u64 {
        self.shared.keys.load().generation
    }

    /// How many verified tokens are remembered.
    #[cfg(test)]
    pub(super) fn cached_tokens(&self) -> usize {
        self.shared.memory.as_ref().map_or(0, Memory::len)
    }

    /// How much memory is reserved for them.
    #[cfg(test)]
    pub(super) fn cached_bytes(&self) -> u64 {
        self.shared.memory.as_ref().map_or(0, Memory::bytes)
    }

    /// Forgets the remembered tokens that have expired.
    pub fn forget_expired(&self, now: Timestamp) {
        if let Some(memory) = &self.shared.memory {
            memory.forget_expired(now);
        }
    }

    /// Another verifier's positions and ids mean nothing here.
    fn check_owner(&self, issuers: &IssuerSet) -> Result<(), VerifyError> {
        if Arc::ptr_eq(&self.shared, &issuers.owner) {
            return Ok(());
        }
        Err(VerifyError::UnknownIssuer(Shown::default()))
    }

    /// Replaces the key set of the issuer at this position. For the reload task, the only writer.
    pub(super) fn replace_key_set(&self, position: usize, set: &Arc<KeySet>) {
        let current = self.shared.keys.load();
        let mut sets = current.sets.clone();
        if let Some(slot) = sets.get_mut(position) {
            *slot = Arc::clone(set);
        }
        let generation = current.generation + 1;
        self.shared.keys.store(Arc::new(Keys { generation, sets }));
        // Nothing finds the tokens of earlier generations any more, so let them go.
        if let Some(memory) = &self.shared.memory {
            memory.clear();
        }
    }
}

// === impl IssuerSet ===

impl IssuerSet {
    /// Whether both are the same issuers.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.id == other.id && Arc::ptr_eq(&self.owner, &other.owner)
    }

    /// Whether no token is accepted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

// === impl Shared ===

impl Shared {
    fn verify(
        &self,
        token: &str,
        issuers: &IssuerSet,
        keys: &Keys,
        now: Timestamp,
    ) -> Result<VerifiedToken, VerifyError> {
        let (jws, issuer) = self.verify_signature(token, issuers, keys)?;
        issuer.admit(jws, now, self.skew)
    }

    /// The parts of a token, and the issuer among `issuers` that has signed it.
    fn verify_signature<'t>(
        &self,
        token: &'t str,
        issuers: &IssuerSet,
        keys: &Keys,
    ) -> Result<(Jws<'t>, &Issuer), VerifyError> {
        let jws = parse::split(token, self.max_bytes)?;
        let (position, issuer) = self.choose_issuer(issuers, &jws.claims)?;
        // Only this issuer's keys: two issuers may well use the same key ids.
        keys.sets
            .get(position)
            .map_or(Err(VerifyError::UnknownKey(Shown::default())), |set| set.verify(&jws))?;
        Ok((jws, issuer))
    }

    /// The issuer that has the token's `iss`, or else the one that does not care.
    fn choose_issuer(
        &self,
        issuers: &IssuerSet,
        claims: &JsonObject,
    ) -> Result<(usize, &Issuer), VerifyError> {
        let iss = claims::text(claims, "iss")?;
        let mut careless = None;
        for position in issuers.members.iter().copied() {
            let Some(issuer) = self.issuers.get(position) else { continue };
            match issuer.iss.as_deref() {
                None => careless = Some((position, issuer)),
                expected if expected == iss => return Ok((position, issuer)),
                Some(_) => {}
            }
        }
        careless.ok_or_else(|| match iss {
            None if !issuers.is_empty() => VerifyError::MissingClaim("iss".into()),
            iss => VerifyError::UnknownIssuer(Shown::or_absent(iss)),
        })
    }

    fn check_unambiguous(&self, members: &[usize]) -> Result<(), IssuerSetError> {
        let mut issuers: Vec<&Issuer> =
            members.iter().filter_map(|position| self.issuers.get(*position)).collect();
        issuers.sort_by_key(|issuer| &issuer.iss);
        let mut pairs = issuers.iter().zip(issuers.iter().skip(1));
        match pairs.find(|(one, other)| one.iss == other.iss) {
            None => Ok(()),
            Some((one, other)) => Err(IssuerSetError::Ambiguous {
                one: one.name.to_string(),
                other: other.name.to_string(),
            }),
        }
    }

    fn unknown(&self, name: &str) -> IssuerSetError {
        let known: Vec<&str> = self.issuers.iter().map(|issuer| &*issuer.name).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        IssuerSetError::Unknown { name: name.to_owned(), known }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("issuers", &self.issuers).finish_non_exhaustive()
    }
}
