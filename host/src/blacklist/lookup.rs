//! Owns asking the store about tokens that the local set does not know.
//!
//! Many requests may ask at once: questions wait while one batch is on its way, and go together with
//! the next. A store that does not answer is left alone for a while.

use std::fmt;

use tokio::sync::{mpsc, oneshot};

use super::{cutoff::Cutoff, event::Event, store::Presented};
use crate::token_id::TokenId;

/// Asks the store. Clones ask the same one.
#[derive(Debug, Clone)]
pub struct Lookups {
    questions: mpsc::Sender<Question>,
}

/// The store did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It failed, or took longer than `blacklist.redis.timeout`.
    #[error("the store did not answer")]
    NoAnswer,
    /// It has failed too often lately to be asked now.
    #[error("the store is not asked because it has not answered lately")]
    BreakerOpen,
    /// More questions wait than can be answered.
    #[error("too many questions wait for the store")]
    Overloaded,
}

/// One token to ask about.
pub(super) struct Question {
    /// The token's id, with the text that the store has in its keys.
    pub(super) token_id: Option<(TokenId, String)>,
    /// The cut-offs that would cover it.
    pub(super) cutoffs: Vec<Cutoff>,
    /// Where the answer goes: what the store holds of all these.
    pub(super) answer: oneshot::Sender<Result<Vec<Event>, AskError>>,
}

// === impl Lookups ===

impl Lookups {
    pub(super) const fn new(questions: mpsc::Sender<Question>) -> Self {
        Self { questions }
    }

    /// What the store holds against `token`.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn ask(&self, token: &Presented<'_>) -> Result<Vec<Event>, AskError> {
        let (answer, answered) = oneshot::channel();
        let token_id = token.token_id.zip(token.jti).map(|(id, jti)| (*id, jti.to_owned()));
        let question = Question { token_id, cutoffs: token.cutoffs().collect(), answer };
        self.questions.try_send(question).map_err(|_| AskError::Overloaded)?;
        answered.await.map_err(|_| AskError::NoAnswer)?
    }
}

// === impl Question ===

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("cutoffs", &self.cutoffs).finish_non_exhaustive()
    }
}
