//! Reading the whole table, on a separate connection: notifications do not wait meanwhile, and a
//! failed reading breaks no other connection.

use std::{future::Future, pin::pin, time::Duration};

use futures_util::StreamExt;
use portcullis_types::token_id::TokenId;
use tokio::sync::mpsc;
use tokio_postgres::types::{ToSql, Type};

use super::{
    fault::Fault,
    link::{PgConnector, PgLink, Wire},
    table_state::Facts,
};
use crate::config::sql_name::{Name, SqlNames};

/// How many token ids go to the feed together.
const BATCH: usize = 1024;

/// How many batches may wait. Few, so that other events do not wait behind them.
const WAITING_BATCHES: usize = 4;

/// How long no row may arrive: the table may be large and mostly empty. The listening connection
/// checks that the server answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// In one transaction, a pooler uses one connection to the server. The server itself has to time
/// out on a locked table: a statement that waits for a lock goes on waiting after its connection is
/// closed.
const BEGIN: &str =
    "BEGIN READ ONLY; SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = 0";

/// Whether a trigger publishes each row that is inserted into this table, with this column and on
/// this channel. A trigger that is not `ENABLE ALWAYS` does not fire for rows of logical
/// replication.
const FACTS: &str = "SELECT EXISTS (SELECT FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid \
     WHERE tgrelid = to_regclass($1) AND proname = 'portcullis_notify_revocation' \
     AND tgtype & 5 = 5 \
     AND tgargs = convert_to((parse_ident($2))[1], getdatabaseencoding()) || '\\x00' \
     || convert_to((parse_ident($3))[1], getdatabaseencoding()) || '\\x00' \
     AND (tgenabled = 'A' OR tgenabled = 'O' \
     AND NOT EXISTS (SELECT FROM pg_subscription_rel WHERE srrelid = tgrelid))), \
     pg_is_in_recovery()";

/// Reads the table on each order.
pub(super) struct Reader<'a> {
    connector: &'a PgConnector,
    names: &'a SqlNames,
    query: String,
    orders: mpsc::Receiver<()>,
    read: mpsc::Sender<Read>,
}

/// A part of what was read.
#[derive(Debug)]
pub(super) enum Read {
    /// Facts about the server and the table, before the rows.
    Facts(Facts),
    /// Some of the rows.
    Some(Vec<TokenId>),
    /// The end. How many rows cannot be the id of a token.
    All { unusable: u64 },
    /// The reading has failed.
    Failed(Fault),
}

// === impl Reader ===

impl<'a> Reader<'a> {
    /// A reader, its orders, and the rows. An order that comes during a reading has to wait.
    pub(super) fn new(
        connector: &'a PgConnector,
        names: &'a SqlNames,
    ) -> (Self, mpsc::Sender<()>, mpsc::Receiver<Read>) {
        let (order, orders) = mpsc::channel(1);
        let (read, rows) = mpsc::channel(WAITING_BATCHES);
        let SqlNames { table, column, .. } = names;
        let query = format!("SELECT {column}::text FROM {table} WHERE {column} IS NOT NULL");
        (Self { connector, names, query, orders, read }, order, rows)
    }

    /// Executes orders until there is no receiver left. A connection on which a reading has failed
    /// is not used again.
    pub(super) async fn run(mut self) -> Fault {
        let mut link = None;
        while self.orders.recv().await.is_some() {
            let read = match self.read_table(link.take()).await {
                Ok((read, used)) => {
                    link = Some(used);
                    read
                }
                Err(fault) => Read::Failed(fault),
            };
            if self.read.send(read).await.is_err() {
                break;
            }
        }
        Fault::Stopping
    }

    async fn read_table(&self, link: Option<PgLink>) -> Result<(Read, PgLink), Fault> {
        let mut link = match link {
            Some(link) => link,
            None => self.connector.connect().await?,
        };
        let PgLink { client, wire } = &mut link;
        patiently(wire.during(client.batch_execute(BEGIN))).await?;
        let facts = patiently(wire.during(self.facts(client))).await?;
        self.send(Read::Facts(facts)).await?;
        let unusable = self.read_rows(client, wire).await?;
        patiently(wire.during(client.batch_execute("COMMIT"))).await?;
        Ok((Read::All { unusable }, link))
    }

    async fn facts(&self, client: &tokio_postgres::Client) -> Result<Facts, tokio_postgres::Error> {
        let SqlNames { table, column, channel } = self.names;
        let [table, column, channel] = [table, column, channel].map(Name::as_sql);
        let names: [(&(dyn ToSql + Sync), Type); 3] =
            [(&table, Type::TEXT), (&column, Type::TEXT), (&channel, Type::TEXT)];
        let row = client.query_typed_one(FACTS, &names).await?;
        Ok(Facts { has_trigger: row.try_get(0)?, is_standby: row.try_get(1)? })
    }

    async fn read_rows(
        &self,
        client: &tokio_postgres::Client,
        wire: &mut Wire,
    ) -> Result<u64, Fault> {
        let none: [(&str, Type); 0] = [];
        let rows = patiently(wire.during(client.query_typed_raw(&self.query, none))).await?;
        let mut rows = pin!(rows);
        let mut unusable = 0;
        loop {
            let mut batch = Vec::with_capacity(BATCH);
            let end = patiently(fill(wire, &mut rows, &mut batch, &mut unusable)).await?;
            if !batch.is_empty() {
                self.send(Read::Some(batch)).await?;
            }
            if end {
                return Ok(unusable);
            }
        }
    }

    async fn send(&self, read: Read) -> Result<(), Fault> {
        self.read.send(read).await.map_err(|_| Fault::Stopping)
    }
}

/// Reads rows until the batch is full, or there are no more.
async fn fill(
    wire: &mut Wire,
    rows: &mut std::pin::Pin<&mut tokio_postgres::RowStream>,
    batch: &mut Vec<TokenId>,
    unusable: &mut u64,
) -> Result<bool, Fault> {
    while batch.len() < BATCH {
        let row = wire.during(async { rows.next().await.transpose() }).await?;
        let Some(row) = row else { return Ok(true) };
        // A row that is blank or not UTF-8 is the id of no token.
        match row.try_get::<_, &str>(0).ok().and_then(|id| TokenId::new(id).ok()) {
            Some(token_id) => batch.push(token_id),
            None => *unusable += 1,
        }
    }
    Ok(false)
}

async fn patiently<T>(work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    tokio::time::timeout(PATIENCE, work).await.map_err(|_| Fault::Stuck)?
}
