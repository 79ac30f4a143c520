//! Tests of lookups, with a scripted store.

use std::sync::Mutex;

use portcullis_types::{timestamp::Timestamp, token_id::TokenId};

use super::*;
use crate::{
    blacklist::Applied,
    outbox_reader::{self, NewEntries, tests::Fake as Outbox},
};

/// A store that holds some tokens and cut-offs, or fails.
#[derive(Default)]
struct Fake {
    tokens: Vec<&'static str>,
    fails: bool,
    /// How many lookups each batch had.
    batches: Mutex<Vec<usize>>,
}

impl AskStore for Fake {
    async fn ask(&self, queries: &[&Query], _: Duration) -> Result<Vec<Vec<Event>>, StoreError> {
        self.batches.lock().unwrap().push(queries.len());
        if self.fails {
            return Err(StoreError::Moved);
        }
        let held = |query: &Query| {
            let (_, jti) = query.token_id.as_ref()?;
            self.tokens.contains(&jti.as_str()).then(|| add(jti))
        };
        Ok(queries.iter().map(|query| held(query).into_iter().collect()).collect())
    }
}

fn add(jti: &str) -> Event {
    Event::Add { token_id: TokenId::new(jti).unwrap(), expires_at: Some(Timestamp::MAX) }
}

fn request(jti: &str) -> (LookupRequest, oneshot::Receiver<Answer>) {
    let (answer, answered) = oneshot::channel();
    let token_id = Some((TokenId::new(jti).unwrap(), jti.to_owned()));
    (LookupRequest { query: Query { token_id, cutoffs: Vec::new() }, answer }, answered)
}

/// A desk that has the entries of `outbox` put on the set.
fn batcher_with(mode: Mode, outbox: &Outbox) -> (Batcher, mpsc::Receiver<FeedEvent>) {
    let config = "redis: { url: 'redis://store', timeout: 5s }";
    let config: crate::config::Config = serde_saphyr::from_str(config).unwrap();
    let (feed, events) = mpsc::channel(64);
    let (outbox, mut entries) = outbox_reader::tests::start(outbox);
    let source = feed.clone();
    let (drain, _) = portcullis_runtime::drain::pair();
    drain.spawn("source", async move {
        while let Some(NewEntries { last, applied, .. }) = entries.recv().await {
            source.send(FeedEvent::Apply(last, Some(applied))).await.unwrap();
        }
    });
    let limit = config.redis.unwrap().timeout.get();
    (Batcher { mode, limit, outbox, feed, metrics: RedisMetrics::default() }, events)
}

fn batcher(mode: Mode) -> (Batcher, mpsc::Receiver<FeedEvent>) {
    batcher_with(mode, &Outbox::new([]))
}

/// Answers `jtis` in one batch, and returns the answers with what was put on the set before.
async fn answer(
    batcher: &mut Batcher,
    events: &mut mpsc::Receiver<FeedEvent>,
    store: &Fake,
    jtis: &[&str],
) -> (Vec<Result<Vec<Event>, AskError>>, Vec<Event>) {
    let (mut batch, answers): (Vec<_>, Vec<_>) = jtis.iter().map(|jti| request(jti)).unzip();
    let mut applied = Vec::new();
    {
        let answering = batcher.answer(&mut batch, store);
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
    let (mut batcher, mut events) = batcher_with(Mode::Authoritative, &Outbox::new([add("p")]));
    let store = Fake { tokens: vec!["a"], ..Fake::default() };
    let (answers, applied) = answer(&mut batcher, &mut events, &store, &["a", "b", "p"]).await;
    assert_eq!(answers, [Ok(vec![add("a")]), Ok(vec![]), Ok(vec![])]);
    assert_eq!(applied, [add("p")], "what the store holds is answered, not kept");
    assert_eq!(*store.batches.lock().unwrap(), [3]);
}

#[tokio::test]
async fn what_is_found_on_a_miss_is_kept() {
    let (mut batcher, mut events) = batcher(Mode::RedisOnMiss);
    let store = Fake { tokens: vec!["a"], ..Fake::default() };
    let (answers, applied) = answer(&mut batcher, &mut events, &store, &["a", "b"]).await;
    assert_eq!(answers, [Ok(vec![add("a")]), Ok(vec![])]);
    assert_eq!(applied, [add("a")]);
}

#[tokio::test]
async fn where_the_store_is_always_asked_nothing_is_kept() {
    let (mut batcher, mut events) = batcher_with(Mode::RedisAlways, &Outbox::new([add("p")]));
    let store = Fake { tokens: vec!["a"], ..Fake::default() };
    let (answers, applied) = answer(&mut batcher, &mut events, &store, &["a", "p"]).await;
    assert_eq!(answers, [Ok(vec![add("a")]), Ok(vec![])]);
    assert_eq!(applied, []);
}

#[tokio::test]
async fn outbox_events_read_before_an_error_count() {
    let outbox = Outbox::new([add("p")]).failing();
    let (mut batcher, mut events) = batcher_with(Mode::Authoritative, &outbox);
    let store = Fake { fails: true, ..Fake::default() };
    let (answers, applied) = answer(&mut batcher, &mut events, &store, &["a"]).await;
    assert_eq!((answers, applied), (vec![Err(AskError::NoAnswer)], vec![add("p")]));
}

#[tokio::test]
async fn an_unread_outbox_leaves_only_misses_in_doubt() {
    let outbox = Outbox::new([add("p")]).failing();
    let (mut batcher, mut events) = batcher_with(Mode::Authoritative, &outbox);
    let store = Fake { tokens: vec!["a"], ..Fake::default() };
    for _ in 0..3 {
        let (answers, _) = answer(&mut batcher, &mut events, &store, &["a", "b"]).await;
        assert_eq!(answers, [Ok(vec![add("a")]), Err(AskError::NoAnswer)]);
    }
}

#[tokio::test]
async fn a_question_whose_asker_is_gone_is_not_asked() {
    let (mut batcher, _events) = batcher(Mode::RedisAlways);
    let store = Fake::default();
    let (gone, answered) = request("a");
    drop(answered);
    batcher.answer(&mut vec![gone], &store).await;
    assert_eq!(*store.batches.lock().unwrap(), [0; 0]);
}

#[tokio::test]
async fn the_outbox_is_applied_first_and_what_is_found_is_an_answer() {
    for (pending, jti, expected) in [
        (vec!["p"], "b", Err(AskError::NoAnswer)),
        (vec!["p"], "a", Ok(vec![add("a")])),
        (vec![], "a", Ok(vec![add("a")])),
    ] {
        let outbox = Outbox::new(pending.into_iter().map(add));
        let (mut batcher, events) = batcher_with(Mode::RedisOnMiss, &outbox);
        drop(events);
        let store = Fake { tokens: vec!["a"], ..Fake::default() };
        let (request, answered) = request(jti);
        batcher.answer(&mut vec![request], &store).await;
        assert_eq!(answered.await.unwrap(), expected);
    }
}

#[tokio::test]
async fn more_questions_than_can_wait_are_refused() {
    let (sender, _questions) = mpsc::channel(1);
    let lookups = LookupClient { requests: sender, metrics: RedisMetrics::default() };
    let token_id = TokenId::new("j").unwrap();
    let token =
        PresentedToken { token_id: Some(&token_id), jti: Some("j"), ..PresentedToken::default() };
    let waiting = lookups.ask(&token);
    tokio::pin!(waiting);
    assert!(futures_util::poll!(&mut waiting).is_pending());
    assert_eq!(lookups.ask(&token).await, Err(AskError::Overloaded));
}
