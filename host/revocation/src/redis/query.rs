//! Queries for the entries of tokens and cut-offs, in one round trip.

use std::{collections::HashMap, future::Future, time::Duration};

use portcullis_types::token_id::TokenId;

use super::{
    Delivery, Redis,
    ask::Patience,
    entries::{self, Wanted},
    error::StoreError,
};
use crate::event::{Cutoff, Event, Unrevocation, UnrevocationTarget};

/// The store as seen by a batch of lookups. It is Redis except in tests.
pub(crate) trait AskStore: Sync {
    /// The revocations in the store for each of `queries`.
    ///
    /// # Errors
    /// When the store does not answer within `limit`.
    fn ask(
        &self,
        queries: &[&Query],
        limit: Duration,
    ) -> impl Future<Output = Result<Vec<Vec<Event>>, StoreError>> + Send;
}

/// One token to look up.
pub(crate) struct Query {
    /// The token's id, with its text as it occurs in the keys of the store.
    pub(crate) token_id: Option<(TokenId, String)>,
    /// The cut-offs that would cover it.
    pub(crate) cutoffs: Vec<Cutoff>,
}

// === impl Redis ===

impl AskStore for Redis {
    /// Keys that occur in several of `queries` are read once.
    async fn ask(
        &self,
        queries: &[&Query],
        limit: Duration,
    ) -> Result<Vec<Vec<Event>>, StoreError> {
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut wanted: Vec<Wanted> = Vec::new();
        let mut place = |(token_id, key): (Option<TokenId>, String)| {
            *places.entry(key.clone()).or_insert_with(|| {
                wanted.push(Wanted { key, token_id });
                wanted.len() - 1
            })
        };
        let keys = self.keys();
        let asked_for: Vec<Vec<usize>> = queries
            .iter()
            .map(|query| {
                let token = query.token_id.as_ref();
                let token = token.map(|(id, jti)| (Some(*id), keys.token(jti)));
                let cutoffs = query.cutoffs.iter();
                let cutoffs = cutoffs.map(|cutoff| (None, keys.cutoff(*cutoff)));
                token.into_iter().chain(cutoffs).map(&mut place).collect()
            })
            .collect();
        let held = entries::read(keys, &wanted, &Patience { redis: self, limit }).await?;
        let events = |places: Vec<usize>| {
            places.into_iter().filter_map(|place| held.get(place).copied().flatten()).collect()
        };
        Ok(asked_for.into_iter().map(events).collect())
    }
}

impl Redis {
    /// Which of the revocations that `unrevocations` end are gone. Only a server that has just been
    /// verified as the primary is queried.
    ///
    /// # Errors
    /// When the store does not answer within `limit`.
    pub(crate) async fn are_gone(
        &self,
        unrevocations: &[Unrevocation],
        limit: Duration,
    ) -> Result<Vec<bool>, StoreError> {
        let keys = self.keys();
        let mut commands = redis::pipe();
        for unrevocation in unrevocations {
            commands.cmd("EXISTS").arg(match &unrevocation.target {
                UnrevocationTarget::Token(_, jti) => keys.token(jti),
                UnrevocationTarget::Cutoff(cutoff) => keys.cutoff(*cutoff),
            });
        }
        let there: Vec<bool> = self.send(&commands, limit, Delivery::CONFIRMED).await?;
        if there.len() != unrevocations.len() {
            return Err(StoreError::nonsense());
        }
        Ok(there.into_iter().map(|there| !there).collect())
    }
}
