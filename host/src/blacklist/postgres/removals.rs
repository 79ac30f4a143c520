//! Owns the removals that were heard, until the table says whether they are true.
//!
//! Whoever may log in to the database may send notifications, whatever it may do to the table:
//! PostgreSQL knows no privileges on channels. So a removal that is heard is no more than a question.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use super::inspector::{Answer, Question};
use crate::token_id::TokenId;

/// How many questions are asked together.
const BATCH: usize = 256;

/// What the ids may take that wait for their question, in bytes: hundreds of thousands of them.
const ROOM: usize = 32 * 1024 * 1024;

/// What an id takes besides its text, roughly.
const OVERHEAD: usize = 96;

/// Removals that nothing is known of but that somebody said so.
#[derive(Debug, Default)]
pub(super) struct Removals {
    /// To be asked about, in this order.
    waiting: VecDeque<Question>,
    /// The same, to find them.
    queued: HashSet<TokenId>,
    /// What they take.
    taken: usize,
    /// Asked about, and with nothing heard of them since.
    asked: HashMap<TokenId, Arc<str>>,
    /// Whether an answer is to come.
    is_asking: bool,
}

// === impl Removals ===

impl Removals {
    /// Somebody says that this id is no longer in the table. Whether there was room to remember it.
    pub(super) fn heard(&mut self, question: Question) -> bool {
        if self.queued.contains(&question.token_id) {
            return true;
        }
        let size = question.text.len() + OVERHEAD;
        if self.taken + size > ROOM {
            return false;
        }
        self.taken += size;
        self.queued.insert(question.token_id);
        self.waiting.push_back(question);
        true
    }

    /// The id was added: what the table said of it before means nothing now.
    pub(super) fn added(&mut self, token_id: &TokenId) {
        self.asked.remove(token_id);
    }

    /// The id was read in the table: what the table says of it meanwhile may be older.
    pub(super) fn read(&mut self, token_id: TokenId) {
        if let Some(text) = self.asked.remove(&token_id) {
            self.heard(Question { token_id, text });
        }
    }

    /// What to ask now, unless an answer is to come.
    pub(super) fn next(&mut self) -> Option<Vec<Question>> {
        if self.is_asking || self.waiting.is_empty() {
            return None;
        }
        let batch: Vec<_> = self.waiting.drain(..BATCH.min(self.waiting.len())).collect();
        for Question { token_id, text } in &batch {
            self.taken -= text.len() + OVERHEAD;
            self.queued.remove(token_id);
            self.asked.insert(*token_id, Arc::clone(text));
        }
        self.is_asking = true;
        Some(batch)
    }

    /// Those of the answers that still mean something.
    pub(super) fn answered(&mut self, mut answers: Vec<Answer>) -> Vec<Answer> {
        answers.retain(|answer| self.asked.contains_key(&answer.of.token_id));
        self.asked.clear();
        self.is_asking = false;
        answers
    }
}

#[cfg(test)]
mod tests {
    use super::{super::inspector::Row, *};

    fn question(text: &str) -> Question {
        Question { token_id: TokenId::new(text).unwrap(), text: text.into() }
    }

    fn asked(removals: &mut Removals) -> Option<Vec<String>> {
        Some(removals.next()?.iter().map(|question| question.text.to_string()).collect())
    }

    fn answer(removals: &mut Removals, texts: &[&str]) -> usize {
        let answer = |text: &&str| Answer { of: question(text), row: Row::Gone };
        removals.answered(texts.iter().map(answer).collect()).len()
    }

    #[test]
    fn one_batch_is_asked_at_a_time_and_each_id_once() {
        let mut removals = Removals::default();
        assert_eq!(asked(&mut removals), None);
        for text in ["a", "b", "a"] {
            assert!(removals.heard(question(text)));
        }
        assert_eq!(asked(&mut removals), Some(vec!["a".to_owned(), "b".to_owned()]));
        removals.heard(question("a"));
        assert_eq!(asked(&mut removals), None, "an answer is to come");
        assert_eq!(answer(&mut removals, &["a", "b"]), 2);
        assert_eq!(asked(&mut removals), Some(vec!["a".to_owned()]), "it was heard again since");
    }

    #[test]
    fn an_answer_does_not_count_if_the_id_was_added_since_it_was_asked_for() {
        let mut removals = Removals::default();
        removals.heard(question("a"));
        removals.heard(question("b"));
        asked(&mut removals);
        removals.added(&question("a").token_id);
        assert_eq!(answer(&mut removals, &["a", "b"]), 1);
        assert_eq!(asked(&mut removals), None);
    }

    #[test]
    fn an_id_that_is_read_meanwhile_is_asked_about_again() {
        let mut removals = Removals::default();
        removals.heard(question("a"));
        asked(&mut removals);
        removals.read(question("a").token_id);
        removals.read(question("b").token_id);
        assert_eq!(answer(&mut removals, &["a"]), 0);
        assert_eq!(asked(&mut removals), Some(vec!["a".to_owned()]));
    }

    #[test]
    fn a_flood_of_removals_does_not_take_all_memory() {
        let mut removals = Removals::default();
        let text = "x".repeat(4096);
        let fits =
            (0..ROOM).take_while(|n| removals.heard(question(&format!("{text}{n}")))).count();
        assert!((ROOM / 4300..ROOM / 4096).contains(&fits), "{fits}");
        while asked(&mut removals).is_some() {
            answer(&mut removals, &[]);
        }
        assert_eq!(removals.taken, 0);
    }
}
