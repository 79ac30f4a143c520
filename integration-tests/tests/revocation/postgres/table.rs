//! Tests that the table is authoritative, also when it is truncated, locked or replaced, or its
//! trigger is disabled, while replicas run.

use portcullis_integration_tests::{eventually, token::Claims};

use super::{INSERT, NEVER, TABLE, TRIGGER, answered, ask, config, database, install_trigger};
use crate::{
    envoy::Gate,
    revocation::{is_logged, metric},
};

#[tokio::test]
async fn a_table_that_is_truncated_revokes_nothing() {
    let (postgres, client) = database(TABLE).await;
    install_trigger(&client, "").await;
    let gate = Gate::new(&config(&postgres, NEVER)).await;
    let (before, after) = (Claims::default(), Claims::default());
    client.execute(INSERT, &[&before.jti()]).await;
    answered(&gate, &before, 403).await;
    client.run("TRUNCATE revoked_tokens").await;
    answered(&gate, &before, 200).await;
    client.execute(INSERT, &[&after.jti()]).await;
    answered(&gate, &after, 403).await;
}

#[tokio::test]
async fn a_locked_table_costs_nothing_while_its_trigger_notifies() {
    let (postgres, client) = database(TABLE).await;
    install_trigger(&client, "").await;
    let config = config(&postgres, "1s").with("blacklist.max_staleness", "2s");
    let mut gate = Gate::new(&config).await;
    let (revoked, other) = (Claims::default(), Claims::default());
    client.run("BEGIN; LOCK TABLE revoked_tokens IN ACCESS EXCLUSIVE MODE").await;
    eventually::holds("a reading fails", || {
        std::future::ready(is_logged(&mut gate.portcullis, "cannot read the table now"))
    })
    .await;
    assert_eq!(gate.portcullis.admin().revocations().await["state"], "live");
    gate.pass(ask(&other)).await;
    client.execute(INSERT, &[&revoked.jti()]).await;
    client.run("COMMIT").await;
    answered(&gate, &revoked, 403).await;
    eventually::holds("the table is read again", || {
        std::future::ready(is_logged(&mut gate.portcullis, "the table can be read again"))
    })
    .await;
    assert!(!is_logged(&mut gate.portcullis, "blacklist feed lost"));
}

#[tokio::test]
async fn a_silent_trigger_is_detected_and_so_is_its_return() {
    let swap = "CREATE TABLE next (LIKE revoked_tokens INCLUDING ALL); BEGIN; \
                ALTER TABLE revoked_tokens RENAME TO last; \
                ALTER TABLE next RENAME TO revoked_tokens; COMMIT";
    let disable = "ALTER TABLE revoked_tokens DISABLE TRIGGER portcullis_revocation";
    let other_channel = format!("SET portcullis.notify_channel = 'other'; {TRIGGER}");
    for lose in [swap, disable, &other_channel] {
        let (postgres, client) = database(TABLE).await;
        install_trigger(&client, "").await;
        let mut gate = Gate::new(&config(&postgres, "200ms")).await;
        let trigger = async |gate: &Gate, value: u64| {
            eventually::holds("the metric shows the trigger", || async {
                metric::<u64>(&gate.portcullis, "portcullis_postgres_trigger").await == value
            })
            .await;
        };
        trigger(&gate, 1).await;
        client.run(lose).await;
        trigger(&gate, 0).await;
        assert!(is_logged(&mut gate.portcullis, "no trigger publishes revocations"));
        assert_eq!(gate.portcullis.admin().revocations().await["state"], "live");
        let claims = Claims::default();
        client.execute(INSERT, &[&claims.jti()]).await;
        answered(&gate, &claims, 403).await;
        install_trigger(&client, "RESET portcullis.notify_channel;").await;
        trigger(&gate, 1).await;
    }
}

#[tokio::test]
async fn replicas_receive_their_own_probes_and_no_others() {
    let (postgres, client) = database(TABLE).await;
    install_trigger(&client, "").await;
    let config = config(&postgres, NEVER);
    let gates = [Gate::new(&config).await, Gate::new(&config).await];
    let claims = Claims::default();
    client.execute(INSERT, &[&claims.jti()]).await;
    for gate in &gates {
        answered(gate, &claims, 403).await;
        assert_eq!(metric::<u64>(&gate.portcullis, "portcullis_postgres_listening").await, 1);
        let malformed = "portcullis_postgres_notifications_total{type=\"malformed\"}";
        assert_eq!(metric::<u64>(&gate.portcullis, malformed).await, 0);
    }
}
