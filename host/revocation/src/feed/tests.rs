//! Tests of the feed: events of sources, in order and out of order.

use portcullis_runtime::{drain, telemetry::FeedMetrics};
use portcullis_types::{duration::HumanDuration, timestamp::Timestamp};

use super::*;
use crate::{
    blacklist::{Blacklist, Found, leased_pair, pair},
    config::Config,
    event::{Cutoff, PresentedToken},
    feed::Status,
};

fn id(name: u8) -> TokenId {
    TokenId::new(&name.to_string()).unwrap()
}

fn add(name: u8) -> Event {
    Event::Add { token_id: id(name), expires_at: None }
}

fn remove(name: u8) -> Event {
    Event::Unrevoke { token_id: id(name) }
}

fn cut_off(subject: u8) -> Event {
    Event::CutOff {
        cutoff: subject_of(subject),
        issued_before: Timestamp::MAX,
        except: None,
        expires_at: None,
    }
}

fn subject_of(name: u8) -> Cutoff {
    Cutoff::subject(None, &name.to_string()).unwrap()
}

fn has(blacklist: &Blacklist, name: u8) -> bool {
    let subject = name.to_string();
    let token = PresentedToken {
        token_id: Some(&id(name)),
        subject: Some(&subject),
        ..PresentedToken::default()
    };
    blacklist.is_blacklisted(&token, Timestamp::now())
}

fn feed(config: &Config) -> (Feed, mpsc::Sender<FeedEvent>, Blacklist, Readiness, Status) {
    let readiness = Readiness::default();
    let (writer, blacklist) = pair(Duration::ZERO);
    let (sender, events) = mpsc::channel(64);
    let (feed, published) = Feed::new((writer, blacklist.clone()), events, config, &readiness);
    let status = Status::new(blacklist.clone(), published, FeedMetrics::default());
    (feed, sender, blacklist, readiness, status)
}

/// Gives events to the core of a feed, one after the other.
fn tell(applier: &mut Applier, events: impl IntoIterator<Item = FeedEvent>) {
    for event in events {
        applier.handle(event, Instant::now());
        applier.publish(Instant::now());
    }
}

#[test]
fn ready_only_when_the_first_snapshot_is_complete() {
    let (Feed { mut applier, .. }, _sender, blacklist, readiness, status) =
        feed(&Config::default());
    let lost = || FeedEvent::Lost { why: "test", since: Instant::now() };
    let early = [
        FeedEvent::InitDone,
        FeedEvent::Apply(add(0), None),
        FeedEvent::Fresh,
        FeedEvent::Init,
        FeedEvent::InitApply(vec![add(1)]),
        lost(),
        FeedEvent::InitDone,
        FeedEvent::Init,
        FeedEvent::InitApply(vec![add(1)]),
        FeedEvent::InitApply(vec![add(2)]),
        FeedEvent::Replay,
        FeedEvent::Apply(add(3), None),
    ];
    for event in early {
        let shown = format!("{event:?}");
        tell(&mut applier, [event]);
        assert!(!readiness.is_ready() && blacklist.is_expired(), "after {shown}");
    }
    assert_eq!(status.get().state, FeedState::Replay);
    tell(&mut applier, [FeedEvent::InitDone]);
    assert!(readiness.is_ready() && !blacklist.is_expired());
    assert_eq!(status.get().state, FeedState::Live);
    assert!((0..4).all(|name| has(&blacklist, name)));
}

#[test]
fn a_resync_only_adds() {
    let (Feed { mut applier, .. }, _sender, blacklist, ..) = feed(&Config::default());
    let init = [
        FeedEvent::Init,
        FeedEvent::InitApply(vec![add(1)]),
        FeedEvent::InitApply(vec![cut_off(2)]),
    ];
    tell(&mut applier, init);
    tell(&mut applier, [FeedEvent::InitDone]);
    // The store was flushed, then half read, and contains removals, which have no place there.
    let lift = Event::LiftCutoff { cutoff: subject_of(2) };
    for snapshot in [vec![], vec![add(3)], vec![remove(1), lift]] {
        tell(
            &mut applier,
            [FeedEvent::Lost { why: "test", since: Instant::now() }, FeedEvent::Init],
        );
        tell(&mut applier, [FeedEvent::InitApply(snapshot)]);
        tell(&mut applier, [FeedEvent::InitDone]);
        assert!(has(&blacklist, 1) && has(&blacklist, 2));
    }
    assert!(has(&blacklist, 3));
}

#[test]
fn entries_of_a_snapshot_last_until_their_expiry_is_read() {
    let (Feed { mut applier, .. }, _sender, blacklist, ..) = feed(&Config::default());
    let expiry = Timestamp::from_secs(Timestamp::now().as_secs() + 60);
    let settled = Event::Add { token_id: id(6), expires_at: Some(expiry) };
    tell(
        &mut applier,
        [
            FeedEvent::Init,
            FeedEvent::InitIds(vec![id(5), id(6)]),
            FeedEvent::InitExpiries(vec![settled, remove(5), add(7)]),
            FeedEvent::InitDone,
        ],
    );
    let week = Timestamp::now().plus(Duration::from_hours(7 * 24));
    let until = |name| blacklist.until(&id(name)).unwrap();
    assert!(until(5) > week && until(5) < Timestamp::MAX, "nothing is held for ever");
    assert_eq!((until(6), until(7)), (expiry, Timestamp::MAX));
}

#[test]
fn a_live_set_is_trusted_while_its_lease_lasts() {
    let redis = "redis: { url: 'redis://store' }\nrabbitmq: { url: 'amqp://broker' }";
    let config: Config = serde_saphyr::from_str(redis).unwrap();
    let readiness = Readiness::default();
    let (writer, blacklist) = leased_pair(Duration::ZERO, config.lease_terms());
    let (_sender, events) = mpsc::channel(1);
    let (Feed { mut applier, .. }, _) =
        Feed::new((writer, blacklist.clone()), events, &config, &readiness);
    let found = || blacklist.find(&PresentedToken::default(), Timestamp::now());
    let lease = |secs| FeedEvent::Lease(BootInstant::now().plus(Duration::from_secs(secs)));
    tell(&mut applier, [lease(60), FeedEvent::Init]);
    assert_eq!(found(), Found::Unreliable, "a lease alone is worth nothing");
    tell(&mut applier, [FeedEvent::InitDone]);
    assert_eq!(found(), Found::Clear);
    tell(&mut applier, [lease(0)]);
    assert_eq!(found(), Found::Unknown { or_deny: true });
}

#[test]
fn after_a_pause_the_store_must_answer_until_the_set_is_complete_again() {
    let redis = "redis: { url: 'redis://store' }\nrabbitmq: { url: 'amqp://broker' }";
    let config: Config = serde_saphyr::from_str(redis).unwrap();
    let (writer, blacklist) = leased_pair(Duration::ZERO, config.lease_terms());
    writer.renew(BootInstant::NEVER);
    let (_sender, events) = mpsc::channel(1);
    let parts = (writer, blacklist.clone());
    let (Feed { mut applier, .. }, _) = Feed::new(parts, events, &config, &Readiness::default());
    let found = || blacklist.find(&PresentedToken::default(), Timestamp::now());
    let lost = || FeedEvent::Lost { why: "broker gone", since: Instant::now() };
    let complete = || [FeedEvent::Init, FeedEvent::InitDone];
    tell(&mut applier, complete());
    assert_eq!(found(), Found::Clear);
    tell(&mut applier, [lost()]);
    assert_eq!(found(), Found::Unknown { or_deny: false }, "nothing was paused");
    tell(&mut applier, [FeedEvent::Paused]);
    assert_eq!(found(), Found::Unknown { or_deny: true });
    tell(&mut applier, [FeedEvent::Unbound]);
    assert_eq!(found(), Found::Unknown { or_deny: true }, "it may have begun before the pause");
    tell(&mut applier, complete());
    assert_eq!(found(), Found::Clear);
    tell(&mut applier, [lost()]);
    assert_eq!(found(), Found::Unknown { or_deny: false });
    // Before what follows is published.
    applier.handle(FeedEvent::Paused, Instant::now());
    assert_eq!(found(), Found::Unknown { or_deny: true });
}

#[test]
fn an_expired_feed_denies_until_it_is_back_and_keeps_its_entries() {
    let config = Config { max_staleness: HumanDuration::from_millis(30_000), ..Config::default() };
    let (Feed { mut applier, .. }, _sender, blacklist, readiness, status) = feed(&config);
    tell(&mut applier, [FeedEvent::Init, FeedEvent::InitApply(vec![add(1)]), FeedEvent::InitDone]);
    let lost_at = Instant::now();
    applier.handle(FeedEvent::Lost { why: "broker gone", since: lost_at }, lost_at);
    let at = |millis| lost_at + Duration::from_millis(millis);
    applier.publish(at(29_999));
    assert_eq!(status.get().state, FeedState::Stale);
    assert_eq!(status.get().lost, Some("broker gone"));
    assert!(readiness.is_ready() && !blacklist.is_expired());
    assert_eq!(applier.publish(at(30_000)), None, "it does not expire twice");
    assert_eq!(status.get().state, FeedState::Expired);
    assert!(!readiness.is_ready() && blacklist.is_expired());
    applier.handle(FeedEvent::Fresh, at(31_000));
    applier.publish(at(31_000));
    assert!(readiness.is_ready() && !blacklist.is_expired());
    applier.publish(at(61_000));
    applier.handle(FeedEvent::Init, at(62_000));
    applier.publish(at(62_000));
    assert!(!readiness.is_ready() && blacklist.is_expired(), "connected is not complete");
    applier.handle(FeedEvent::InitDone, at(63_000));
    applier.publish(at(63_000));
    assert!(readiness.is_ready() && !blacklist.is_expired());
    assert!(has(&blacklist, 1));
}

#[test]
fn a_stale_set_needs_lookups_once_it_is_too_old() {
    let redis = "redis: { url: 'redis://store' }\nrabbitmq: { url: 'amqp://broker' }";
    let (Feed { mut applier, .. }, _sender, blacklist, ..) =
        feed(&serde_saphyr::from_str(redis).unwrap());
    tell(&mut applier, [FeedEvent::Init, FeedEvent::InitDone]);
    let lost_at = Instant::now();
    let at = |secs| lost_at + Duration::from_secs(secs);
    applier.handle(FeedEvent::Lost { why: "broker gone", since: lost_at }, lost_at);
    applier.handle(FeedEvent::Fresh, at(29));
    let found = |or_deny| Found::Unknown { or_deny };
    assert_eq!(applier.publish(at(29)), Some(at(30)), "although nothing more is heard");
    assert_eq!(blacklist.find(&PresentedToken::default(), Timestamp::now()), found(false));
    assert_eq!(applier.publish(at(30)), Some(at(59)));
    assert_eq!(blacklist.find(&PresentedToken::default(), Timestamp::now()), found(true));
    assert_eq!(applier.publish(at(59)), None);
    assert_eq!(blacklist.find(&PresentedToken::default(), Timestamp::now()), Found::Unreliable);
}

#[tokio::test]
async fn a_source_that_ends_is_a_source_that_is_lost() {
    let config = Config { max_staleness: HumanDuration::from_millis(1), ..Config::default() };
    let (feed, sender, blacklist, readiness, mut status) = feed(&config);
    let (drain, mut dead) = drain::pair();
    drain.spawn("blacklist feed", feed.run(drain.clone()));
    sender.send(FeedEvent::Init).await.unwrap();
    sender.send(FeedEvent::InitDone).await.unwrap();
    status.reached(FeedState::Live).await;
    drop(sender);
    status.reached(FeedState::Expired).await;
    assert!(!readiness.is_ready() && blacklist.is_expired());
    assert_eq!(status.get().lost, Some("the source ended"));
    let quiet = tokio::time::timeout(Duration::from_millis(1), dead.next()).await;
    assert!(quiet.is_err(), "the task itself lives on");
    assert_eq!(drain.drain(Duration::from_secs(5)).await, 0);
}

#[tokio::test]
async fn expired_entries_are_swept_while_events_flow() {
    let config = Config { sweep_interval: HumanDuration::from_millis(1), ..Config::default() };
    let (feed, sender, blacklist, ..) = feed(&config);
    let (drain, _dead) = drain::pair();
    drain.spawn("blacklist feed", feed.run(drain.clone()));
    let gone = Event::Add { token_id: id(1), expires_at: Some(Timestamp::from_secs(0)) };
    for event in [gone, add(2)] {
        let (ack, applied) = oneshot::channel();
        sender.send(FeedEvent::Apply(event, Some(ack))).await.unwrap();
        assert_eq!(applied.await, Ok(Applied::Added));
    }
    let swept = async {
        while blacklist.len() > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), swept).await.unwrap();
    assert!(has(&blacklist, 2));
    assert_eq!(drain.drain(Duration::from_secs(5)).await, 0);
}

#[tokio::test]
async fn deleted_rows_are_gone_when_their_reading_is_applied() {
    let (feed, sender, blacklist, ..) = feed(&Config::default());
    let (drain, _dead) = drain::pair();
    drain.spawn("feed", feed.run(drain.clone()));
    let (settle, settled) = oneshot::channel();
    let events = [
        FeedEvent::Init,
        FeedEvent::Apply(add(1), None),
        FeedEvent::Apply(add(2), None),
        FeedEvent::BeginReading,
        FeedEvent::InitApply(vec![add(2)]),
        FeedEvent::Apply(add(3), None),
        FeedEvent::EndReading,
        FeedEvent::InitDone,
        FeedEvent::Barrier(settle),
    ];
    for event in events {
        sender.send(event).await.unwrap();
    }
    settled.await.unwrap();
    assert_eq!([1, 2, 3].map(|name| has(&blacklist, name)), [false, true, true]);
    assert_eq!(drain.drain(Duration::from_secs(5)).await, 0);
}

#[tokio::test]
async fn what_was_sent_before_the_drain_is_applied() {
    let (feed, sender, blacklist, ..) = feed(&Config::default());
    let (drain, _dead) = drain::pair();
    sender.send(FeedEvent::Apply(add(1), None)).await.unwrap();
    assert_eq!(drain.drain(Duration::ZERO).await, 0);
    feed.run(drain).await;
    assert!(has(&blacklist, 1));
}

#[tokio::test]
async fn a_feed_that_never_runs_leaves_nothing_to_rely_on() {
    let (feed, _sender, blacklist, ..) = feed(&Config::default());
    drop(feed);
    assert!(blacklist.is_expired());
}
