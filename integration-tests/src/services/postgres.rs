//! PostgreSQL container for one test.

use std::net::SocketAddr;

use tokio::task::JoinSet;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, types::ToSql};

use super::{
    container::{Container, Setup},
    images::IMAGES,
};
use crate::{eventually, ports::Port};

/// Its only user.
pub const USER: &str = "portcullis";
/// The user's password. It guards nothing.
pub const PASSWORD: &str = "a-password-of-the-tests";
/// Its database.
pub const DATABASE: &str = "postgres";
/// The port of PostgreSQL inside its container.
const INSIDE: u16 = 5432;

/// A running PostgreSQL. It is removed when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    // Before the port, which others may take as soon as it is dropped.
    container: Container,
    port: Port,
}

/// A client for assertions. Its connection ends when this is dropped.
#[derive(Debug)]
pub struct PostgresClient {
    client: Client,
    _connection: JoinSet<()>,
}

// === impl Postgres ===

impl Postgres {
    /// Starts it and waits until it answers.
    pub async fn start() -> Self {
        let port = Port::reserve();
        // Debian has a folder of programs for each version.
        let script = "PATH=\"$PATH:$(echo /usr/lib/postgresql/*/bin)\"; data=/tmp/data; \
                      if ! [ -s $data/PG_VERSION ]; then \
                      printf %s \"$USER_PASSWORD\" >/tmp/password; \
                      initdb --no-sync --encoding=UTF8 --locale=C --auth=scram-sha-256 \
                      --username=\"$USER_NAME\" --pwfile=/tmp/password $data; \
                      echo 'host all all all scram-sha-256' >>$data/pg_hba.conf; fi; \
                      exec postgres -D $data -k /tmp -c 'listen_addresses=*' -c fsync=off";
        let container = Setup::new("postgres", &IMAGES.postgres, script)
            .user("postgres")
            .env("USER_NAME", USER)
            .env("USER_PASSWORD", PASSWORD)
            .publish([(&port, INSIDE)])
            .start()
            .await;
        let postgres = Self { container, port };
        postgres.ready().await;
        postgres
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Its URL, with the password.
    #[must_use]
    pub fn url(&self) -> String {
        url(self.address())
    }

    /// Waits until it answers.
    ///
    /// # Panics
    /// When it ends instead, or does not in time.
    pub async fn ready(&self) {
        eventually::holds("PostgreSQL answers", || async {
            self.container.assert_running().await;
            self.try_client().await.is_ok()
        })
        .await;
    }

    /// A client.
    ///
    /// # Panics
    /// When PostgreSQL is unavailable.
    pub async fn client(&self) -> PostgresClient {
        self.try_client().await.expect("PostgreSQL accepts connections")
    }

    /// Kills it with SIGKILL. Committed data stays.
    pub async fn kill(&self) {
        self.container.kill().await;
    }

    /// Restarts it on the same port, with its data, and waits until it answers.
    pub async fn restart(&self) {
        self.container.start_again().await;
        self.ready().await;
    }

    /// Pauses it: connections stay open, and are silent.
    pub async fn pause(&self) {
        self.container.pause().await;
    }

    /// Resumes it.
    pub async fn unpause(&self) {
        self.container.unpause().await;
    }

    async fn try_client(&self) -> Result<PostgresClient, tokio_postgres::Error> {
        PostgresClient::connect(self.address()).await
    }
}

/// The URL of the PostgreSQL behind an address, such as that of a [`Link`](super::Link), with the
/// password.
#[must_use]
pub fn url(address: SocketAddr) -> String {
    format!("postgres://{USER}:{PASSWORD}@{address}/{DATABASE}")
}

// === impl PostgresClient ===

impl PostgresClient {
    /// Connects to the PostgreSQL behind an address.
    ///
    /// # Errors
    /// When it is unavailable.
    pub async fn connect(address: SocketAddr) -> Result<Self, tokio_postgres::Error> {
        let mut config = Config::new();
        config
            .host(address.ip().to_string())
            .port(address.port())
            .user(USER)
            .password(PASSWORD)
            .dbname(DATABASE);
        let (client, connection) = config.connect(NoTls).await?;
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            // The next query reports its end.
            let _ = connection.await;
        });
        Ok(Self { client, _connection: connections })
    }

    /// Runs statements without parameters, and returns the rows of all of them as text.
    ///
    /// # Panics
    /// When PostgreSQL refuses.
    pub async fn run(&self, statements: &str) -> Vec<Vec<Option<String>>> {
        let messages = self
            .client
            .simple_query(statements)
            .await
            .unwrap_or_else(|error| panic!("{statements}: {error:?}"));
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        rows.map(|row| (0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            .collect()
    }

    /// Runs one statement with parameters, and returns how many rows it changed.
    ///
    /// # Panics
    /// When PostgreSQL refuses.
    pub async fn execute(&self, statement: &str, parameters: &[&(dyn ToSql + Sync)]) -> u64 {
        self.client
            .execute(statement, parameters)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error:?}"))
    }

    /// Runs one statement with parameters, which PostgreSQL may refuse.
    ///
    /// # Errors
    /// When it refuses, or is unavailable.
    pub async fn try_execute(
        &self,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, tokio_postgres::Error> {
        self.client.execute(statement, parameters).await
    }
}
