//! Tests of refresh requests: when readings begin, and which requests they serve. The clock is
//! paused unless every task waits.

use std::{future::Future, path::PathBuf};

use portcullis_runtime::drain;
use portcullis_types::duration::HumanDuration;

use super::*;

const INTERVAL: Duration = Duration::from_secs(1);

fn config() -> RefreshConfig {
    RefreshConfig {
        enabled: true,
        min_interval: HumanDuration::from_millis(1_000),
        secret_file: None,
    }
}

fn start() -> (Refresh, Resyncs, Drain) {
    let (asked, resyncs) = build(&config()).unwrap();
    let (refresh, refresher) = asked.unwrap();
    let (drain, _dead) = drain::pair();
    drain.spawn("refresher", refresher.run(drain.clone()));
    (refresh, resyncs, drain)
}

/// A request under way, once it waits.
async fn ask(refresh: &Refresh) -> std::pin::Pin<Box<dyn Future<Output = Refreshed>>> {
    let refresh = refresh.clone();
    let mut asked: std::pin::Pin<Box<dyn Future<Output = _>>> =
        Box::pin(async move { refresh.refresh(None).await });
    assert!(futures_util::poll!(&mut asked).is_pending());
    asked
}

/// Nothing happens before so much time has passed.
async fn quiet<T: std::fmt::Debug>(time: Duration, what: impl Future<Output = T>) {
    // A hair less: at the very moment it may happen.
    let time = time.saturating_sub(Duration::from_millis(2));
    let happened = tokio::time::timeout(time, what).await;
    assert!(happened.is_err(), "too early: {happened:?}");
}

#[tokio::test(start_paused = true)]
async fn all_requests_before_a_reading_share_it() {
    let (refresh, mut resyncs, _drain) = start();
    let all = [ask(&refresh).await, ask(&refresh).await, ask(&refresh).await];
    resyncs.next().await.done();
    for asked in all {
        assert_eq!(asked.await, Refreshed::Done);
    }
    quiet(INTERVAL * 10, resyncs.next()).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_during_a_reading_gets_the_next_one() {
    let (refresh, mut resyncs, _drain) = start();
    let early = ask(&refresh).await;
    let first = resyncs.next().await;
    let mut late = [ask(&refresh).await, ask(&refresh).await];
    first.done();
    assert_eq!(early.await, Refreshed::Done);
    // What was revoked between the beginning of the reading and the request may have been missed.
    quiet(INTERVAL, &mut late[0]).await;
    resyncs.next().await.done();
    for asked in late {
        assert_eq!(asked.await, Refreshed::Done);
    }
    quiet(INTERVAL * 10, resyncs.next()).await;
}

#[tokio::test(start_paused = true)]
async fn however_many_ask_there_is_one_reading_in_an_interval() {
    let (refresh, mut resyncs, _drain) = start();
    let asked = ask(&refresh).await;
    resyncs.next().await.done();
    assert_eq!(asked.await, Refreshed::Done);
    for _ in 0..3 {
        let asked = [ask(&refresh).await, ask(&refresh).await];
        quiet(INTERVAL, resyncs.next()).await;
        resyncs.next().await.done();
        for asked in asked {
            assert_eq!(asked.await, Refreshed::Done);
        }
    }
    tokio::time::sleep(INTERVAL).await;
    let asked = ask(&refresh).await;
    let begin = Instant::now();
    resyncs.next().await.done();
    assert_eq!(asked.await, Refreshed::Done);
    assert!(begin.elapsed() < INTERVAL, "after a pause no request waits");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_is_read_nevertheless() {
    let (refresh, mut resyncs, _drain) = start();
    drop(ask(&refresh).await);
    resyncs.next().await.done();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_or_does_not_answer_is_a_failure() {
    let (refresh, mut resyncs, _drain) = start();
    let asked = ask(&refresh).await;
    drop(resyncs.next().await);
    assert_eq!(asked.await, Refreshed::Failed);

    let asked = ask(&refresh).await;
    let taken = resyncs.next().await;
    assert_eq!(asked.await, Refreshed::Failed, "it never said that it was done");
    drop(taken);

    assert_eq!(refresh.refresh(None).await, Refreshed::Failed, "no source took the order");
    let asked = ask(&refresh).await;
    let order = resyncs.next().await;
    order.done();
    assert_eq!(asked.await, Refreshed::Done, "an order that is too old is not executed");
    drop(resyncs);
    assert_eq!(refresh.refresh(None).await, Refreshed::Failed, "the source is gone");
}

#[tokio::test(start_paused = true)]
async fn no_request_waits_longer_than_its_limit() {
    let (refresh, mut resyncs, _drain) = start();
    for patience in [0, 200, 2_000] {
        let begin = Instant::now();
        let asked = refresh.refresh(Some(Duration::from_millis(patience)));
        assert_eq!(asked.await, Refreshed::Failed);
        let waited = begin.elapsed().as_millis();
        let patience = u128::from(patience);
        assert!((patience..patience + 5).contains(&waited), "{waited} of {patience}");
        drop(resyncs.next().await);
    }
}

#[tokio::test(start_paused = true)]
async fn only_so_many_may_wait() {
    let (refresh, mut resyncs, _drain) = start();
    let first = ask(&refresh).await;
    let order = resyncs.next().await;
    let mut waiting = Vec::new();
    for _ in 0..WAITING_REQUESTS {
        waiting.push(ask(&refresh).await);
    }
    assert_eq!(refresh.refresh(None).await, Refreshed::Failed);
    order.done();
    assert_eq!(first.await, Refreshed::Done);
    resyncs.next().await.done();
    for asked in waiting {
        assert_eq!(asked.await, Refreshed::Done);
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_process_is_a_failure() {
    let (refresh, _resyncs, drain) = start();
    let asked = ask(&refresh).await;
    assert_eq!(drain.drain(INTERVAL).await, 0);
    assert_eq!(asked.await, Refreshed::Failed);
    assert_eq!(refresh.refresh(None).await, Refreshed::Failed);
}

#[tokio::test(start_paused = true)]
async fn without_the_setting_there_are_no_requests() {
    let (asked, mut resyncs) = build(&RefreshConfig::default()).unwrap();
    assert!(asked.is_none());
    quiet(INTERVAL * 100, resyncs.next()).await;
}

#[test]
fn a_secret_must_be_shown_if_there_is_one() {
    let permits = |config: &RefreshConfig, secret| {
        let (asked, _resyncs) = build(config).unwrap();
        asked.unwrap().0.permits(secret)
    };
    let open = config();
    assert!(permits(&open, None) && permits(&open, Some("anything")));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "s3cret\n").unwrap();
    let closed = RefreshConfig { secret_file: Some(file.path().to_owned()), ..config() };
    assert!(permits(&closed, Some("s3cret")));
    for wrong in [None, Some(""), Some("s3cre"), Some("s3cret "), Some("S3CRET")] {
        assert!(!permits(&closed, wrong), "{wrong:?}");
    }
    let missing = RefreshConfig { secret_file: Some(PathBuf::from("/nonexistent")), ..config() };
    assert!(build(&missing).unwrap_err().to_string().contains("/nonexistent"));
}
