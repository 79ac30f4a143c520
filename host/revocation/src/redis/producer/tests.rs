//! How many replicas have to have what is acknowledged.

use super::*;
use crate::{
    event::Target,
    redis::fake::{Fake, Kept},
};

async fn write(kept: &Kept) -> Result<(), WriteError> {
    let producer = Producer::new(kept.redis.clone(), Duration::ZERO, true);
    let revocation = Revocation::revoke(Target::token("j").unwrap(), Timestamp::now());
    producer.write(&[revocation], None).await
}

fn waits(fake: &Fake) -> Vec<String> {
    fake.commands("WAIT")
}

#[tokio::test]
async fn all_replicas_that_are_connected_have_to_confirm() {
    let fake = Fake::start().await;
    let kept = Kept::at(fake.address, "");
    assert_eq!(write(&kept).await, Ok(()));
    assert_eq!(waits(&fake), [""; 0], "there is none to wait for");
    fake.change(|script| (script.replicas, script.confirming) = (3, 3));
    assert_eq!(write(&kept).await, Ok(()));
    assert_eq!(waits(&fake), ["WAIT 3 1000"]);
    fake.change(|script| script.confirming = 2);
    let written = write(&kept).await.unwrap_err();
    assert_eq!(written, WriteError::NotReplicated { confirmed: 2, wanted: 3 });
    assert!(written.to_string().contains("only 2 of 3 replicas"), "{written}");
}

#[tokio::test]
async fn as_many_have_to_confirm_as_are_configured() {
    let fake = Fake::start().await;
    fake.change(|script| (script.replicas, script.confirming) = (3, 1));
    for (configured, written) in
        [(0, Ok(())), (1, Ok(())), (2, Err(WriteError::NotReplicated { confirmed: 1, wanted: 2 }))]
    {
        let kept = Kept::at(fake.address, &format!(", wait_replicas: {configured}"));
        assert_eq!(write(&kept).await, written);
    }
    assert_eq!(waits(&fake), ["WAIT 1 1000", "WAIT 2 1000"]);
}

#[tokio::test]
async fn with_sentinels_a_primary_without_replicas_acknowledges_nothing() {
    let primary = Fake::start().await;
    let kept = Kept::by(&[Fake::sentinel(primary.address).await]);
    let written = write(&kept).await;
    assert_eq!(written, Err(WriteError::NotReplicated { confirmed: 0, wanted: 1 }));
}
