//! Owns asking whether single ids are in the table, on a connection of its own: neither what is
//! heard nor what is read has to wait for the answers.

use std::{fmt, sync::Arc};

use bytes::BytesMut;
use futures_util::future::try_join_all;
use tokio::sync::mpsc;
use tokio_postgres::{
    Client, Error,
    types::{Format, IsNull, ToSql, Type, to_sql_checked},
};

use super::{Names, fault::Fault, link::Link, reader::patiently};
use crate::token_id::TokenId;

/// Asks when told to.
pub(super) struct Inspector {
    link: Link,
    query: String,
    questions: mpsc::Receiver<Vec<Question>>,
    answers: mpsc::Sender<Vec<Answer>>,
}

/// An id, and its text, which is nothing for a log.
#[derive(Clone)]
pub(super) struct Question {
    pub(super) token_id: TokenId,
    pub(super) text: Arc<str>,
}

/// What the table says of an id.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) of: Question,
    pub(super) row: Row,
}

/// Whether a row has the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    /// There is one.
    There,
    /// There is none.
    Gone,
    /// The server cannot say, for example because the text is no value of the column's type.
    Unknown,
}

/// A value in the words of whoever wrote it: the server reads it as the column's type.
#[derive(Debug)]
struct AsWritten<'a>(&'a str);

// === impl Inspector ===

impl Inspector {
    /// An inspector, who gives it questions, and where the answers arrive: one batch at a time.
    pub(super) fn new(
        link: Link,
        names: &Names,
    ) -> (Self, mpsc::Sender<Vec<Question>>, mpsc::Receiver<Vec<Answer>>) {
        let (ask, questions) = mpsc::channel(1);
        let (answers, answered) = mpsc::channel(1);
        let Names { table, column, .. } = names;
        // An operator that somebody else has made is none of ours. With the column as it is, and not
        // its text, an index on it serves.
        let query =
            format!("SELECT EXISTS (SELECT FROM {table} WHERE {column} OPERATOR(pg_catalog.=) $1)");
        (Self { link, query, questions, answers }, ask, answered)
    }

    /// Asks until something goes wrong.
    pub(super) async fn run(mut self) -> Fault {
        loop {
            tokio::select! {
                questions = self.questions.recv() => match questions {
                    Some(questions) => {
                        if let Err(fault) = self.inspect(questions).await { return fault }
                    }
                    None => return Fault::Stopping,
                },
                notification = self.link.wire.notification() => {
                    if let Err(fault) = notification { return fault }
                }
            }
        }
    }

    /// All questions are sent before the first answer is waited for.
    async fn inspect(&mut self, questions: Vec<Question>) -> Result<(), Fault> {
        let Self { link: Link { client, wire }, query, .. } = self;
        let rows = questions.iter().map(|question| look(client, query, &question.text));
        let rows = patiently(wire.during(try_join_all(rows))).await?;
        let answers = questions.into_iter().zip(rows).map(|(of, row)| Answer { of, row }).collect();
        self.answers.send(answers).await.map_err(|_| Fault::Stopping)
    }
}

async fn look(client: &Client, query: &str, text: &str) -> Result<Row, Error> {
    let id: [(&(dyn ToSql + Sync), Type); 1] = [(&AsWritten(text), Type::UNKNOWN)];
    match client.query_typed_one(query, &id).await {
        Ok(row) => Ok(if row.try_get(0)? { Row::There } else { Row::Gone }),
        Err(error) if error.as_db_error().is_some() => Ok(Row::Unknown),
        Err(error) => Err(error),
    }
}

// === impl Question ===

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Question([redacted])")
    }
}

// === impl AsWritten ===

impl ToSql for AsWritten<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}
