//! How a replica finds the revocations that Redis holds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The prefix of the name of an index.
pub(crate) const INDEX_PREFIX: &str = "portcullis:index:";

/// How a replica finds the revocations that Redis holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Snapshot {
    /// By scanning all keys: it finds those of every publisher, and its cost grows with the number
    /// of all keys of the database.
    #[default]
    Scan,
    /// By the index that `portcullis revoke` and the admin API maintain: its cost grows with the
    /// number of revocations. Set it where nothing else writes keys of revoked tokens, for all
    /// replicas and publishers alike.
    Index,
}
