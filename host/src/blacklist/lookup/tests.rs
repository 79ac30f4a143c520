//! What becomes of questions, with a store that does as it is told.

use std::sync::Mutex;

use super::*;
use crate::{blacklist::store::Applied, timestamp::Timestamp};

/// A store that holds some tokens and cut-offs, or fails.
#[derive(Default)]
struct Fake {
    tokens: Vec<&'static str>,
    parked: Mutex<Vec<&'static str>>,
    fails: bool,
    /// Whether reading what is parked fails in the middle.
    is_cut_short: bool,
    /// How many questions each batch had.
    batches: Mutex<Vec<usize>>,
}

impl Store for Fake {
    async fn ask(
        &self,
        questions: &[Question],
        _: Duration,
    ) -> Result<Vec<Vec<Event>>, StoreError> {
        self.batches.lock().unwrap().push(questions.len());
        if self.fails {
            return Err(StoreError::Moved);
        }
        let held = |question: &Question| {
            let (_, jti) = question.token_id.as_ref()?;
            self.tokens.contains(&jti.as_str()).then(|| add(jti))
        };
        Ok(questions.iter().map(|question| held(question).into_iter().collect()).collect())
    }

    async fn parked(&self, parked: &mut Parked, _: Duration) -> Result<(), StoreError> {
        parked.pretend(self.parked.lock().unwrap().drain(..).map(add));
        if self.fails || self.is_cut_short { Err(StoreError::Moved) } else { Ok(()) }
    }
}

fn add(jti: &str) -> Event {
    Event::Add { token_id: TokenId::new(jti).unwrap(), expires_at: Some(Timestamp::MAX) }
}

fn question(jti: &str) -> (Question, oneshot::Receiver<Answer>) {
    let (answer, answered) = oneshot::channel();
    let token_id = Some((TokenId::new(jti).unwrap(), jti.to_owned()));
    (Question { token_id, cutoffs: Vec::new(), answer }, answered)
}

fn desk(mode: Mode) -> (Desk, mpsc::Receiver<FeedEvent>) {
    let config = "redis: { url: 'redis://store' }";
    let config: crate::blacklist::Config = serde_saphyr::from_str(config).unwrap();
    let (feed, events) = mpsc::channel(64);
    let (redis, parked) = (config.redis.unwrap(), SharedParked::default());
    (Desk::new(mode, &redis, parked, feed, RedisMetrics::default()), events)
}

/// Answers `jtis` in one batch, and returns the answers with what was put on the set before.
async fn answer(
    desk: &mut Desk,
    events: &mut mpsc::Receiver<FeedEvent>,
    store: &Fake,
    jtis: &[&str],
) -> (Vec<Result<Vec<Event>, AskError>>, Vec<Event>) {
    let (mut batch, answers): (Vec<_>, Vec<_>) = jtis.iter().map(|jti| question(jti)).unzip();
    let mut applied = Vec::new();
    {
        let answering = desk.answer(&mut batch, store);
        tokio::pin!(answering);
        loop {
            tokio::select! {
                biased;
                () = &mut answering => break,
                Some(FeedEvent::Apply(event, Some(ack))) = events.recv() => {
                    applied.push(event);
                    ack.send(Applied::Added).unwrap();
                }
            }
        }
    }
    let mut received = Vec::new();
    for answer in answers {
        received.push(answer.await.unwrap());
    }
    (received, applied)
}

#[tokio::test]
async fn what_is_parked_is_on_the_set_before_there_is_an_answer() {
    let (mut desk, mut events) = desk(Mode::Authoritative);
    let store = Fake { tokens: vec!["a"], parked: Mutex::new(vec!["p"]), ..Fake::default() };
    let (answers, applied) = answer(&mut desk, &mut events, &store, &["a", "b", "p"]).await;
    assert_eq!(answers, [Ok(vec![add("a")]), Ok(vec![]), Ok(vec![])]);
    assert_eq!(applied, [add("p")], "what the store holds is answered, not kept");
    assert_eq!(*store.batches.lock().unwrap(), [3]);
}

#[tokio::test]
async fn what_is_found_on_a_miss_is_kept() {
    let (mut desk, mut events) = desk(Mode::RedisOnMiss);
    let store = Fake { tokens: vec!["a"], ..Fake::default() };
    let (answers, applied) = answer(&mut desk, &mut events, &store, &["a", "b"]).await;
    assert_eq!(answers, [Ok(vec![add("a")]), Ok(vec![])]);
    assert_eq!(applied, [add("a")]);
}

#[tokio::test]
async fn where_the_store_is_always_asked_nothing_is_kept() {
    let (mut desk, mut events) = desk(Mode::RedisAlways);
    let store = Fake { tokens: vec!["a"], parked: Mutex::new(vec!["p"]), ..Fake::default() };
    let (answers, applied) = answer(&mut desk, &mut events, &store, &["a", "p"]).await;
    assert_eq!(answers, [Ok(vec![add("a")]), Ok(vec![])]);
    assert_eq!(applied, []);
}

#[tokio::test]
async fn what_could_be_read_of_the_parked_events_counts_although_the_store_failed_then() {
    let (mut desk, mut events) = desk(Mode::Authoritative);
    let store = Fake { parked: Mutex::new(vec!["p"]), fails: true, ..Fake::default() };
    let (answers, applied) = answer(&mut desk, &mut events, &store, &["a"]).await;
    assert_eq!((answers, applied), (vec![Err(AskError::NoAnswer)], vec![add("p")]));
}

#[tokio::test]
async fn parked_events_that_are_too_many_leave_only_those_in_doubt_of_whom_nothing_was_found() {
    let (mut desk, mut events) = desk(Mode::Authoritative);
    let store = Fake {
        tokens: vec!["a"],
        parked: Mutex::new(vec!["p"]),
        is_cut_short: true,
        ..Fake::default()
    };
    for _ in 0..3 {
        let (answers, _) = answer(&mut desk, &mut events, &store, &["a", "b"]).await;
        assert_eq!(answers, [Ok(vec![add("a")]), Err(AskError::NoAnswer)]);
    }
}

#[tokio::test]
async fn a_question_whose_asker_is_gone_is_not_asked() {
    let (mut desk, _events) = desk(Mode::RedisAlways);
    let store = Fake::default();
    let (gone, answered) = question("a");
    drop(answered);
    desk.answer(&mut vec![gone], &store).await;
    assert_eq!(*store.batches.lock().unwrap(), [0; 0]);
}

#[tokio::test]
async fn what_is_parked_must_take_effect_and_what_is_found_is_an_answer_anyhow() {
    for (parked, jti, expected) in [
        (vec!["p"], "b", Err(AskError::NoAnswer)),
        (vec!["p"], "a", Ok(vec![add("a")])),
        (vec![], "a", Ok(vec![add("a")])),
    ] {
        let (mut desk, events) = desk(Mode::RedisOnMiss);
        drop(events);
        let parked = Mutex::new(parked);
        let store = Fake { tokens: vec!["a"], parked, ..Fake::default() };
        let (question, answered) = question(jti);
        desk.answer(&mut vec![question], &store).await;
        assert_eq!(answered.await.unwrap(), expected);
    }
}

#[tokio::test]
async fn more_questions_than_can_wait_are_refused() {
    let (sender, _questions) = mpsc::channel(1);
    let lookups = Lookups { questions: sender, metrics: RedisMetrics::default() };
    let token_id = TokenId::new("j").unwrap();
    let token = Presented { token_id: Some(&token_id), jti: Some("j"), ..Presented::default() };
    let waiting = lookups.ask(&token);
    tokio::pin!(waiting);
    assert!(futures_util::poll!(&mut waiting).is_pending());
    assert_eq!(lookups.ask(&token).await, Err(AskError::Overloaded));
}
