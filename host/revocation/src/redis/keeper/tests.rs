//! Tests of the keeper and its callers, over TCP with a scripted peer.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::join_all;
use tokio::net::TcpListener;

use super::*;
use crate::redis::{
    Delivery, Redis,
    fake::{Fake, Kept},
};

/// Much more than any step here takes: a caller that fails sooner has not waited.
const LONG: Duration = Duration::from_mins(1);

const SHORT: Duration = Duration::from_millis(50);

/// An address at which nothing listens.
async fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Resolves when there is a connection, and returns it.
async fn up(redis: &Redis) -> Arc<RedisLink> {
    let mut states = redis.inner.links.states.subscribe();
    let state = states.wait_for(|state| matches!(state, ConnectionState::Up(_))).await.unwrap();
    match &*state {
        ConnectionState::Up(link) => Arc::clone(link),
        _ => unreachable!(),
    }
}

/// Has what was last seen of the primary count no more.
async fn forget_looks(redis: &Redis) {
    let began = Instant::now().checked_sub(CONFIRMED_FOR).unwrap();
    up(redis).await.checks.send_replace(PrimaryCheck { began, found: Ok(()) });
}

async fn confirmed_write(redis: &Redis) -> Result<(), StoreError> {
    let mut commands = redis::pipe();
    commands.cmd("SET").arg("key").arg("value").ignore();
    redis.send(&commands, LONG, Delivery::BLOCKING_CONFIRMED).await
}

#[tokio::test]
async fn many_callers_share_two_connections() {
    let fake = Fake::start().await;
    let kept = Kept::at(fake.address, "");
    let pings = join_all((0..100).map(|_| kept.redis.ping(LONG))).await;
    assert!(pings.into_iter().all(|ping| ping == Ok(())));
    assert_eq!(fake.connections(), 2);
    assert!(kept.redis.metrics().is_up());
}

#[tokio::test]
async fn without_a_connection_callers_fail_at_once_and_with_its_cause() {
    let kept = Kept::at(nowhere().await, "");
    for _ in 0..100 {
        let ping = kept.redis.ping(LONG).await;
        assert!(matches!(ping, Err(StoreError::Connect { .. })), "{ping:?}");
    }
    assert!(!kept.redis.metrics().is_up());
}

#[tokio::test]
async fn a_caller_waits_for_a_connection_no_longer_than_its_limit() {
    let fake = Fake::start().await;
    fake.change(|script| script.is_silent = true);
    let address = fake.address;
    let kept = Kept::start(&format!("url: 'redis://{address}', connect_timeout: 1h"));
    assert_eq!(kept.redis.ping(SHORT).await, Err(StoreError::Timeout(SHORT)));
    fake.change(|script| script.is_silent = false);
    assert_eq!(kept.redis.ping(LONG).await, Ok(()));
}

#[tokio::test]
async fn a_broken_connection_is_reopened_and_a_read_is_retried() {
    let fake = Fake::start().await;
    let kept = Kept::at(fake.address, "");
    for connections in [2, 4, 6] {
        assert_eq!(kept.redis.ping(LONG).await, Ok(()));
        assert_eq!(fake.connections(), connections);
        fake.cut();
    }
}

#[tokio::test]
async fn a_silent_redis_times_out_one_caller_and_is_used_again_later() {
    let fake = Fake::start().await;
    let kept = Kept::at(fake.address, "");
    up(&kept.redis).await;
    fake.change(|script| script.is_silent = true);
    assert_eq!(kept.redis.ping(SHORT).await, Err(StoreError::Timeout(SHORT)));
    for _ in 0..100 {
        assert!(kept.redis.ping(LONG).await.is_err());
    }
    fake.change(|script| script.is_silent = false);
    up(&kept.redis).await;
    assert_eq!(kept.redis.ping(LONG).await, Ok(()));
}

#[tokio::test]
async fn a_half_open_connection_is_retired_without_any_caller() {
    let fake = Fake::start().await;
    let kept = Kept::at(fake.address, "");
    let link = up(&kept.redis).await;
    fake.change(|script| script.is_silent = true);
    kept.redis.inner.links.replaced(&link).await;
}

#[tokio::test]
async fn a_blocking_command_delays_no_other() {
    let fake = Fake::start().await;
    let kept = Kept::at(fake.address, "");
    fake.change(|script| script.holds_wait = true);
    let mut commands = redis::pipe();
    commands.cmd("WAIT").arg(1).arg(0).ignore();
    let waiting = kept.redis.send::<()>(&commands, LONG, Delivery::BLOCKING);
    tokio::pin!(waiting);
    let pings = async {
        while fake.commands("WAIT").is_empty() {
            assert_eq!(kept.redis.ping(LONG).await, Ok(()));
        }
        kept.redis.ping(LONG).await
    };
    tokio::select! {
        _ = &mut waiting => panic!("it is held"),
        ping = pings => assert_eq!(ping, Ok(())),
    }
    fake.change(|script| script.holds_wait = false);
    assert_eq!(waiting.await, Ok(()));
}

#[tokio::test]
async fn callers_whose_commands_wait_do_not_use_up_each_others_time() {
    let fake = Fake::start().await;
    let kept = Kept::at(fake.address, "");
    let link = up(&kept.redis).await;
    let _turn = kept.redis.inner.links.turn(LONG).await.unwrap();
    let waited =
        kept.redis.send::<()>(redis::pipe().cmd("WAIT").ignore(), SHORT, Delivery::BLOCKING).await;
    assert_eq!(waited, Err(StoreError::Timeout(SHORT)));
    assert!(Arc::ptr_eq(&link, &up(&kept.redis).await), "the connection is not to blame");
}

#[tokio::test]
async fn a_primary_that_was_replaced_takes_no_more_writes_and_is_left() {
    let (old, new) = (Fake::start().await, Fake::start().await);
    let sentinels = [
        Fake::sentinel(old.address).await,
        Fake::sentinel(old.address).await,
        Fake::sentinel(old.address).await,
    ];
    let kept = Kept::by(&sentinels);
    assert_eq!(confirmed_write(&kept.redis).await, Ok(()));
    assert_eq!(old.commands("SET").len(), 1);
    // It calls itself the primary still.
    for sentinel in &sentinels[1..] {
        sentinel.name("127.0.0.1", new.address.port());
    }
    forget_looks(&kept.redis).await;
    assert_eq!(confirmed_write(&kept.redis).await, Err(StoreError::Moved));
    assert_eq!(confirmed_write(&kept.redis).await, Ok(()));
    assert_eq!((old.commands("SET").len(), new.commands("SET").len()), (1, 1));
}

#[tokio::test]
async fn a_primary_replaced_during_wait_acknowledges_nothing() {
    let (old, new) = (Fake::start().await, Fake::start().await);
    let sentinel = Fake::sentinel(old.address).await;
    let kept = Kept::by(std::slice::from_ref(&sentinel));
    let link = up(&kept.redis).await;
    old.change(|script| script.holds_wait = true);
    let mut commands = redis::pipe();
    commands.cmd("WAIT").arg(1).arg(0).ignore();
    let replaced = async {
        sentinel.name("127.0.0.1", new.address.port());
        kept.redis.inner.links.replaced(&link).await;
        old.change(|script| script.holds_wait = false);
    };
    let writing = kept.redis.send::<()>(&commands, LONG, Delivery::BLOCKING_CONFIRMED);
    let (written, ()) = tokio::join!(writing, replaced);
    assert_eq!(written, Err(StoreError::Moved));
}

/// Takes the quorum away. Returns whether a read came through while the primary was in doubt: on a
/// busy machine the doubt may be over by then.
async fn reads_without_a_quorum() -> bool {
    let primary = Fake::start().await;
    let sentinels = [Fake::sentinel(primary.address).await, Fake::sentinel(primary.address).await];
    let kept = Kept::by(&sentinels);
    let link = up(&kept.redis).await;
    sentinels[0].change(|script| script.names = None);
    forget_looks(&kept.redis).await;
    let doubted = Instant::now();
    let written = confirmed_write(&kept.redis).await;
    assert!(matches!(written, Err(StoreError::NoPrimary { .. })), "{written:?}");
    let read = kept.redis.ping(LONG).await;
    let was_in_doubt = doubted.elapsed() < CHECK_INTERVAL;
    assert!(read.is_ok() || !was_in_doubt, "reads go on while it is in doubt: {read:?}");
    kept.redis.inner.links.replaced(&link).await;
    let ping = kept.redis.ping(LONG).await;
    assert!(matches!(ping, Err(StoreError::NoPrimary { .. })), "{ping:?}");
    was_in_doubt
}

#[tokio::test]
async fn without_a_quorum_nothing_is_written_and_the_connection_is_retired() {
    for _ in 0..5 {
        if reads_without_a_quorum().await {
            return;
        }
    }
    panic!("each time the doubt was over before a read");
}

#[tokio::test]
async fn sentinels_agree_although_they_write_the_host_differently() {
    let primary = Fake::start().await;
    let sentinels = [Fake::sentinel(primary.address).await, Fake::sentinel(primary.address).await];
    sentinels[0].name("localhost", primary.address.port());
    sentinels[1].name("LOCALHOST", primary.address.port());
    let kept = Kept::by(&sentinels);
    assert_eq!(kept.redis.ping(LONG).await, Ok(()));
}

#[tokio::test]
async fn it_ends_when_the_drain_has_begun_and_no_handle_is_left() {
    let fake = Fake::start().await;
    let Kept { redis, drain, .. } = Kept::at(fake.address, "");
    assert_eq!(drain.drain(SHORT).await, 1, "requests that are under way still ask");
    fake.cut();
    assert_eq!(redis.ping(LONG).await, Ok(()));
    drop(redis);
    assert_eq!(drain.drain(LONG).await, 0);
}
