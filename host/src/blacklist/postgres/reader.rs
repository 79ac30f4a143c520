//! Owns reading the whole table, on a connection of its own: notifications do not wait meanwhile.

use std::{future::Future, pin::pin, time::Duration};

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_postgres::types::Type;

use super::{
    Names,
    fault::Fault,
    link::{Link, Wire},
};
use crate::token_id::TokenId;

/// How many token ids go to the feed together.
const BATCH: usize = 1024;

/// How many batches may wait. Few, so that what else happens need not wait behind them.
const WAITING_BATCHES: usize = 4;

/// How long the table may keep still: it may be locked, or be large and mostly empty. That the server
/// itself is there is watched on the other connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads when told to.
pub(super) struct Reader {
    link: Link,
    query: String,
    orders: mpsc::Receiver<()>,
    read: mpsc::Sender<Read>,
}

/// A part of what was read.
#[derive(Debug)]
pub(super) enum Read {
    /// Some of the rows.
    Some(Vec<TokenId>),
    /// That was all. How many rows can be no token's id.
    All { unusable: u64 },
}

// === impl Reader ===

impl Reader {
    /// A reader, who gives it orders, and where the rows arrive. An order that comes while another
    /// one is executed has to wait.
    pub(super) fn new(link: Link, names: &Names) -> (Self, mpsc::Sender<()>, mpsc::Receiver<Read>) {
        let (order, orders) = mpsc::channel(1);
        let (read, rows) = mpsc::channel(WAITING_BATCHES);
        let Names { table, column, .. } = names;
        let query = format!("SELECT {column}::text FROM {table} WHERE {column} IS NOT NULL");
        (Self { link, query, orders, read }, order, rows)
    }

    /// Executes orders until something goes wrong.
    pub(super) async fn run(mut self) -> Fault {
        loop {
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(()) => if let Err(fault) = self.read_table().await { return fault },
                    None => return Fault::Stopping,
                },
                notification = self.link.wire.notification() => {
                    if let Err(fault) = notification { return fault }
                }
            }
        }
    }

    async fn read_table(&mut self) -> Result<(), Fault> {
        let Link { client, wire } = &mut self.link;
        let none: [(&str, Type); 0] = [];
        let rows = patiently(wire.during(client.query_typed_raw(&self.query, none))).await?;
        let mut rows = pin!(rows);
        let mut unusable = 0;
        loop {
            let mut batch = Vec::with_capacity(BATCH);
            let end = patiently(fill(wire, &mut rows, &mut batch, &mut unusable)).await?;
            let full = !batch.is_empty();
            if full && self.read.send(Read::Some(batch)).await.is_err() {
                return Err(Fault::Stopping);
            }
            if end {
                let all = self.read.send(Read::All { unusable }).await;
                return all.map_err(|_| Fault::Stopping);
            }
        }
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
        // What is blank or no UTF-8 is the id of no token.
        match row.try_get::<_, &str>(0).ok().and_then(|id| TokenId::new(id).ok()) {
            Some(token_id) => batch.push(token_id),
            None => *unusable += 1,
        }
    }
    Ok(false)
}

pub(super) async fn patiently<T>(work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    tokio::time::timeout(PATIENCE, work).await.map_err(|_| Fault::Stuck)?
}
