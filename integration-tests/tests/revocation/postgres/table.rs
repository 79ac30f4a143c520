//! Tests that the table is authoritative, also when it is truncated, locked or replaced, or its
//! trigger is disabled, while replicas run.

use portcullis_integration_tests::{
    eventually, portcullis::Config, services::postgres::PostgresClient, token::Claims,
};

use super::{
    INSERT, NEVER, TABLE, TRIGGER, answered, ask, config, database, feed, install_trigger,
};
use crate::{
    envoy::Gate,
    revocation::{is_logged, logs, metric},
};

/// What a replica logs when it no longer gets revocations.
const LOST: &str = "blacklist feed lost";

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
    // On a busy machine, PostgreSQL may answer too late, and the feed is lost.
    let what = "the feed is live beside a locked table";
    eventually::succeeds(3, what, || lock(&config, &client)).await;
}

/// Locks the table until a reading of a new replica has failed, and revokes meanwhile.
async fn lock(config: &Config, client: &PostgresClient) -> Result<(), String> {
    let gate = Gate::new(config).await;
    let (revoked, other) = (Claims::default(), Claims::default());
    client.run("BEGIN; LOCK TABLE revoked_tokens IN ACCESS EXCLUSIVE MODE").await;
    logs_unless_lost(&gate, "cannot read the table now").await;
    let status = gate.portcullis.admin().revocations().await;
    let passed = gate.send(ask(&other)).await.status;
    client.execute(INSERT, &[&revoked.jti()]).await;
    client.run("COMMIT").await;
    if status["state"] != "live" || passed != 200 {
        return Err(format!("{passed}, {status}"));
    }
    answered(&gate, &revoked, 403).await;
    logs_unless_lost(&gate, "the table can be read again").await;
    if is_logged(&gate.portcullis, LOST) { Err(LOST.to_owned()) } else { Ok(()) }
}

/// Waits until the log has this text, or says that the feed is lost.
async fn logs_unless_lost(gate: &Gate, words: &str) {
    eventually::holds(words, || {
        let is_over = [words, LOST].iter().any(|words| is_logged(&gate.portcullis, words));
        std::future::ready(is_over)
    })
    .await;
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
        let gate = Gate::new(&config(&postgres, "200ms")).await;
        let trigger = async |gate: &Gate, value: u64| {
            eventually::holds("the metric shows the trigger", || async {
                metric::<u64>(&gate.portcullis, "portcullis_postgres_trigger").await == value
            })
            .await;
        };
        trigger(&gate, 1).await;
        client.run(lose).await;
        trigger(&gate, 0).await;
        logs(&gate.portcullis, "no trigger publishes revocations").await;
        feed(&gate.portcullis, "live").await;
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
