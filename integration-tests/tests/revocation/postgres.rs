//! Tests of a table in PostgreSQL as the source of revocations.

mod table;

use std::time::{Duration, Instant};

use portcullis_integration_tests::{
    client::{Request, Response},
    eventually,
    portcullis::{Config, Portcullis, token_route},
    services::postgres::{Postgres, PostgresClient},
    token::{self, Claims},
};
use serde_json::{Value, json};

use super::metric;
use crate::envoy::Gate;

/// The table of the writers.
const TABLE: &str = "CREATE TABLE revoked_tokens (token_id TEXT PRIMARY KEY, \
                     revoked_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP)";
/// An insert without column names.
const INSERT: &str = "INSERT INTO revoked_tokens VALUES ($1)";
const DELETE: &str = "DELETE FROM revoked_tokens WHERE token_id = $1";
/// The trigger that is shipped with Portcullis.
const TRIGGER: &str = include_str!("../../../deploy/postgres/revocations.sql");
/// For notifications that the trigger does not send.
const NOTIFY: &str = "SELECT pg_notify('portcullis_revocations', $1)";
/// For tests in which only a refresh may read the table.
const NEVER: &str = "12h";

/// A database with the table, and a client for it.
async fn database(table: &str) -> (Postgres, PostgresClient) {
    let postgres = Postgres::start().await;
    let client = postgres.client().await;
    client.run(table).await;
    (postgres, client)
}

/// Installs the trigger.
async fn install_trigger(client: &PostgresClient, settings: &str) {
    client.run(&format!("{settings} {TRIGGER}")).await;
}

/// A client whose role may only log in.
async fn stranger(postgres: &Postgres) -> PostgresClient {
    let client = postgres.client().await;
    client.run("CREATE ROLE stranger; SET ROLE stranger").await;
    client
}

async fn notify(client: &PostgresClient, event: &Value) {
    client.execute(NOTIFY, &[&event.to_string()]).await;
}

fn config(postgres: &Postgres, ttl: &str) -> Config {
    Config::new([token_route("api", &["/api/*"])])
        .with("blacklist.postgres.url", postgres.url())
        .with("blacklist.postgres.revocation_status_cache_ttl", ttl)
        .with("blacklist.refresh", json!({"enabled": true, "min_interval": "100ms"}))
}

fn ask(claims: &Claims) -> Request {
    Request::get("/api/a").bearer(&claims.hs256())
}

/// The request that the ALTERNATIVE system's client makes: no token.
fn refresh() -> Request {
    Request::get("/").header("X-Refresh-Cache", "true")
}

/// Waits until a token is answered with `status`, and returns how long that took.
async fn answered(gate: &Gate, claims: &Claims, status: u16) -> Duration {
    let begin = Instant::now();
    eventually::holds("the answer changes", || async {
        gate.send(ask(claims)).await.status == status
    })
    .await;
    begin.elapsed()
}

async fn feed(portcullis: &Portcullis, state: &str) -> Value {
    eventually::some("the feed gets there", || async {
        let status = portcullis.admin().revocations().await;
        (status["state"] == state).then_some(status)
    })
    .await
}

#[tokio::test]
async fn after_an_insert_and_a_refresh_the_next_request_is_refused() {
    for column in ["token_id", "jti"] {
        let (postgres, client) = database(&TABLE.replace("token_id", column)).await;
        let config = config(&postgres, NEVER).with("blacklist.postgres.column", column);
        let gate = Gate::new(&config).await;
        let (revoked, other) = (Claims::default(), Claims::default());
        gate.pass(ask(&revoked)).await;

        let insert = format!("INSERT INTO revoked_tokens ({column}) VALUES ($1)");
        client.execute(&insert, &[&revoked.jti()]).await;
        let done: Response = gate.refuse(refresh(), 204).await;
        assert!(done.body.is_empty(), "{}", done.text());
        gate.refuse(ask(&revoked), 403).await;
        gate.pass(ask(&other)).await;

        // With any path, method and token, it is only a refresh.
        client.execute(INSERT, &[&other.jti()]).await;
        let odd = Request::post("/api/a", "body").header("x-refresh-cache", "TRUE");
        gate.refuse(odd.bearer(&other.hs256()), 204).await;
        gate.refuse(ask(&other), 403).await;
    }
}

#[tokio::test]
async fn every_refresh_covers_what_was_inserted_before_it() {
    let (postgres, client) = database(TABLE).await;
    let gate = Gate::new(&config(&postgres, NEVER)).await;
    let one = async |claims: Claims| {
        client.execute(INSERT, &[&claims.jti()]).await;
        gate.refuse(refresh(), 204).await;
        gate.refuse(ask(&claims), 403).await;
    };
    for _ in 0..5 {
        let claims = || one(Claims::default());
        tokio::join!(claims(), claims(), claims(), claims());
    }
    let http = gate.portcullis.addresses().http();
    let claims = Claims::default();
    client.execute(INSERT, &[&claims.jti()]).await;
    assert_eq!(refresh().send(http).await.status, 204, "over the HTTP edge as well");
    gate.refuse(ask(&claims), 403).await;
}

#[tokio::test]
async fn the_trigger_revokes_and_unrevokes_without_a_refresh() {
    let (postgres, client) = database(TABLE).await;
    install_trigger(&client, "").await;
    let gate = Gate::new(&config(&postgres, NEVER)).await;
    eventually::takes_at_most(Duration::from_secs(1), "the revocation", async || {
        let claims = Claims::default();
        gate.pass(ask(&claims)).await;
        client.execute(INSERT, &[&claims.jti()]).await;
        let revoking = answered(&gate, &claims, 403).await;
        client.execute(DELETE, &[&claims.jti()]).await;
        answered(&gate, &claims, 200).await;
        revoking
    })
    .await;
    // A later scan of the table does not undo a notification.
    let claims = Claims::default();
    client.run("NOTIFY portcullis_revocations, 'nonsense'; NOTIFY portcullis_revocations").await;
    client.execute(INSERT, &[&claims.jti()]).await;
    answered(&gate, &claims, 403).await;
    client.execute(DELETE, &[&claims.jti()]).await;
    answered(&gate, &claims, 200).await;
    gate.refuse(refresh(), 204).await;
    gate.pass(ask(&claims)).await;
}

#[tokio::test]
async fn a_role_that_may_only_log_in_cannot_unrevoke() {
    let (postgres, client) = database(TABLE).await;
    install_trigger(&client, "").await;
    let gate = Gate::new(&config(&postgres, NEVER)).await;
    let (revoked, later) = (Claims::default(), Claims::default());
    client.execute(INSERT, &[&revoked.jti()]).await;
    answered(&gate, &revoked, 403).await;
    let stranger = stranger(&postgres).await;
    for _ in 0..3 {
        notify(&stranger, &json!({"type": "remove", "jti": revoked.jti()})).await;
    }
    // Delivered after those.
    client.execute(INSERT, &[&later.jti()]).await;
    answered(&gate, &later, 403).await;
    gate.refuse(ask(&revoked), 403).await;
    let removals = "portcullis_postgres_notifications_total{type=\"removal\"}";
    assert_eq!(metric::<u64>(&gate.portcullis, removals).await, 3);
    gate.refuse(refresh(), 204).await;
    gate.refuse(ask(&revoked), 403).await;
    // The table still counts.
    client.execute(DELETE, &[&revoked.jti()]).await;
    answered(&gate, &revoked, 200).await;
}

#[tokio::test]
async fn notifications_that_no_row_can_cause_are_ignored() {
    let (postgres, client) = database(TABLE).await;
    install_trigger(&client, "").await;
    let gate = Gate::new(&config(&postgres, NEVER)).await;
    let stranger = stranger(&postgres).await;
    let (claims, later) = (Claims::default(), Claims::default());
    for kind in ["cutoff", "lift"] {
        let event =
            json!({"type": kind, "sub": token::SUBJECT, "issued_before": 4_000_000_000_u64});
        notify(&stranger, &event).await;
        client.execute(INSERT, &[&later.jti()]).await;
        answered(&gate, &later, 403).await;
        gate.pass(ask(&claims)).await;
        client.execute(DELETE, &[&later.jti()]).await;
        answered(&gate, &later, 200).await;
    }
}

#[tokio::test]
async fn a_scan_that_waits_for_the_table_delays_no_revocation() {
    let (postgres, client) = database(TABLE).await;
    install_trigger(&client, "").await;
    let gate = Gate::new(&config(&postgres, NEVER)).await;
    let stranger = stranger(&postgres).await;
    eventually::takes_at_most(Duration::from_secs(1), "the revocation", async || {
        let (gone, late) = (Claims::default(), Claims::default());
        client.execute(INSERT, &[&gone.jti()]).await;
        answered(&gate, &gone, 403).await;
        client.run("BEGIN; LOCK TABLE revoked_tokens IN ACCESS EXCLUSIVE MODE").await;
        notify(&stranger, &json!({"type": "remove", "jti": gone.jti()})).await;
        notify(&stranger, &json!({"type": "add", "jti": late.jti()})).await;
        let took = answered(&gate, &late, 403).await;
        gate.refuse(ask(&gone), 403).await;
        client.execute(DELETE, &[&gone.jti()]).await;
        client.run("COMMIT").await;
        answered(&gate, &gone, 200).await;
        // The stranger's notification counts until the next scan of the table.
        gate.refuse(refresh(), 204).await;
        gate.pass(ask(&late)).await;
        took
    })
    .await;
}

#[tokio::test]
async fn names_of_any_case_in_any_schema_can_be_configured() {
    let table = "CREATE SCHEMA \"Auth\"; \
                 CREATE TABLE \"Auth\".\"Revoked.Tokens\" (\"J\"\"ti\" UUID PRIMARY KEY)";
    let (postgres, client) = database(table).await;
    let settings = "SET portcullis.revoked_table = '\"Auth\".\"Revoked.Tokens\"'; \
                    SET portcullis.id_column = 'J\"ti'; \
                    SET portcullis.notify_channel = 'Some Channel';";
    install_trigger(&client, settings).await;
    let config = config(&postgres, NEVER)
        .with("blacklist.postgres.schema", "Auth")
        .with("blacklist.postgres.table", "Revoked.Tokens")
        .with("blacklist.postgres.column", "J\"ti")
        .with("blacklist.postgres.channel", "Some Channel");
    let insert = |id: &str| format!("INSERT INTO \"Auth\".\"Revoked.Tokens\" VALUES ('{id}')");
    let id = |n: u8| format!("5f0c8a54-4c5b-4f0e-9f3a-0d6f3a1f1c{n:02}");
    client.run(&insert(&id(1))).await;
    let gate = Gate::new(&config).await;
    gate.refuse(ask(&Claims::default().with("jti", id(1))), 403).await;
    let claims = Claims::default().with("jti", id(2));
    gate.pass(ask(&claims)).await;
    client.run(&insert(&id(2))).await;
    answered(&gate, &claims, 403).await;
    client
        .run(&format!("DELETE FROM \"Auth\".\"Revoked.Tokens\" WHERE \"J\"\"ti\" = '{}'", id(2)))
        .await;
    answered(&gate, &claims, 200).await;
}

#[tokio::test]
async fn without_a_trigger_the_table_is_polled_and_authoritative() {
    let (postgres, client) = database(TABLE).await;
    let gate = Gate::new(&config(&postgres, "200ms")).await;
    let claims = Claims::default();
    gate.pass(ask(&claims)).await;
    client.execute(INSERT, &[&claims.jti()]).await;
    answered(&gate, &claims, 403).await;
    client.execute(DELETE, &[&claims.jti()]).await;
    gate.refuse(refresh(), 204).await;
    gate.pass(ask(&claims)).await;
}

#[tokio::test]
async fn an_id_too_long_for_a_notification_is_read_from_the_table() {
    let (postgres, client) = database("CREATE TABLE revoked_tokens (token_id TEXT)").await;
    install_trigger(&client, "").await;
    let gate = Gate::new(&config(&postgres, NEVER)).await;
    let claims = Claims::default().with("jti", "0123456789abcdef".repeat(512));
    gate.pass(ask(&claims)).await;
    client.execute(INSERT, &[&claims.jti()]).await;
    answered(&gate, &claims, 403).await;
}

#[tokio::test]
async fn a_killed_database_fails_no_request_and_loses_no_revocation() {
    let (postgres, client) = database(TABLE).await;
    install_trigger(&client, "").await;
    let gate = Gate::new(&config(&postgres, NEVER)).await;
    let (before, after, other) = (Claims::default(), Claims::default(), Claims::default());
    client.execute(INSERT, &[&before.jti()]).await;
    answered(&gate, &before, 403).await;

    postgres.kill().await;
    feed(&gate.portcullis, "stale").await;
    gate.refuse(ask(&before), 403).await;
    gate.pass(ask(&other)).await;
    gate.refuse(refresh(), 503).await;

    postgres.restart().await;
    let client = postgres.client().await;
    client.execute(INSERT, &[&after.jti()]).await;
    feed(&gate.portcullis, "live").await;
    answered(&gate, &after, 403).await;
    gate.refuse(ask(&before), 403).await;
    gate.refuse(refresh(), 204).await;
    let last = Claims::default();
    client.execute(INSERT, &[&last.jti()]).await;
    answered(&gate, &last, 403).await;
}

#[tokio::test]
async fn a_hanging_database_is_detected_in_two_seconds_and_expires() {
    let (postgres, _client) = database(TABLE).await;
    let config = config(&postgres, NEVER).with("blacklist.max_staleness", "8s");
    let gate = Gate::new(&config).await;
    let claims = Claims::default();
    eventually::takes_at_most(Duration::from_secs(2), "noticing that it hangs", async || {
        gate.pass(ask(&claims)).await;
        postgres.pause().await;
        let begin = Instant::now();
        let status = feed(&gate.portcullis, "stale").await;
        let took = begin.elapsed();
        let lost = status["lost"].as_str().unwrap();
        assert!(lost.contains("PostgreSQL does not answer"), "{status}");
        feed(&gate.portcullis, "expired").await;
        let staleness: f64 =
            metric(&gate.portcullis, "portcullis_blacklist_staleness_seconds").await;
        assert!(staleness >= 8.0, "counted from the last sign of life: {staleness}");
        gate.refuse(ask(&claims), 503).await;
        postgres.unpause().await;
        answered(&gate, &claims, 200).await;
        feed(&gate.portcullis, "live").await;
        took
    })
    .await;
}

#[tokio::test]
async fn a_refresh_beyond_its_timeout_is_a_denial() {
    let (postgres, client) = database(TABLE).await;
    let config = config(&postgres, NEVER);
    // A proxy that fails open allows requests without an answer in time.
    let gate = Gate::with(&config, |envoy| {
        envoy.with_timeout("3s").with("failure_mode_allow", json!(true))
    })
    .await;
    client.run("BEGIN; LOCK TABLE revoked_tokens IN ACCESS EXCLUSIVE MODE").await;
    // A machine that is stalled for the last tenth of a second makes Envoy time out.
    eventually::succeeds(10, "the refresh is refused", async || {
        let status = gate.send(refresh()).await.status;
        if status == 503 { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    gate.pass(ask(&Claims::default())).await;
    client.run("COMMIT").await;
    eventually::holds("a refresh succeeds again", || async {
        gate.send(refresh()).await.status == 204
    })
    .await;
}

#[tokio::test]
async fn without_the_setting_the_refresh_header_is_ignored() {
    let (postgres, client) = database(TABLE).await;
    let config = config(&postgres, NEVER).with("blacklist.refresh.enabled", false);
    let gate = Gate::new(&config).await;
    let claims = Claims::default();
    client.execute(INSERT, &[&claims.jti()]).await;
    gate.refuse(refresh(), 403).await;
    gate.refuse(Request::get("/api/a").header("X-Refresh-Cache", "true"), 401).await;
    gate.pass(ask(&claims).header("X-Refresh-Cache", "true")).await;
}

#[tokio::test]
async fn a_refresh_without_the_secret_is_refused() {
    let (postgres, client) = database(TABLE).await;
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "s3cret\n").unwrap();
    let config = config(&postgres, NEVER)
        .with("blacklist.refresh.secret_file", secret.path().to_str().unwrap());
    let gate = Gate::new(&config).await;
    let claims = Claims::default();
    client.execute(INSERT, &[&claims.jti()]).await;
    for request in [refresh(), refresh().header("X-Refresh-Cache-Secret", "s3cre")] {
        gate.refuse(request.clone(), 403).await;
    }
    gate.pass(ask(&claims).header("X-Refresh-Cache", "true")).await;
    gate.refuse(refresh().header("X-Refresh-Cache-Secret", "s3cret"), 204).await;
    gate.refuse(ask(&claims), 403).await;
}

#[tokio::test]
async fn a_wrong_name_is_logged_with_its_key_and_can_be_fixed_live() {
    let (postgres, client) = database(TABLE).await;
    for (key, name, fix) in [
        ("table", "Revoked", "CREATE TABLE \"Revoked\" (token_id TEXT)"),
        ("column", "jti", "ALTER TABLE revoked_tokens ADD COLUMN jti TEXT"),
    ] {
        let key = format!("blacklist.postgres.{key}");
        let mut portcullis = Portcullis::launch(&config(&postgres, NEVER).with(&key, name)).await;
        eventually::holds("the log names the key", || {
            let is_logged = portcullis.process().output().contains(&format!("`{key}`: "));
            std::future::ready(is_logged)
        })
        .await;
        assert!(!portcullis.is_ready().await);
        client.run(fix).await;
        portcullis.ready().await;
    }
}

#[tokio::test]
async fn a_process_that_waits_for_its_database_can_be_stopped() {
    let config = Config::new([token_route("api", &["/api/*"])])
        .with("shutdown.grace", "1ms")
        .with("blacklist.postgres.url", "postgres://stranger@127.0.0.1:1/none");
    let mut portcullis = Portcullis::launch(&config).await;
    assert!(!portcullis.is_ready().await);
    portcullis.terminate();
    eventually::holds("it ends", || {
        std::future::ready(portcullis.process().ended().is_some_and(|status| status.success()))
    })
    .await;
}
