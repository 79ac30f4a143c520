//! Tests of the PostgreSQL container.

use portcullis_integration_tests::services::Postgres;

#[tokio::test]
async fn a_killed_postgres_restarts_on_its_port_with_committed_data() {
    let postgres = Postgres::start().await;
    let client = postgres.client().await;
    client.run("CREATE TABLE revoked_tokens (token_id text PRIMARY KEY)").await;
    let insert = "INSERT INTO revoked_tokens VALUES ($1)";
    assert_eq!(client.execute(insert, &[&"jti"]).await, 1);
    postgres.kill().await;
    postgres.restart().await;
    let rows = postgres.client().await.run("SELECT token_id, NULL FROM revoked_tokens").await;
    assert_eq!(rows, [[Some("jti".to_owned()), None]]);
}
