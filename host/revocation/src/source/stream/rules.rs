//! Rules of the stream source, derived from the configuration.

use crate::config::{Config, Mode, Topology, WhileStale};

/// Fewer than there are messages in a segment of 16 MB, even if each were 1 MB large.
const HOLES: u64 = 8;

/// The rules that the state machine follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an independent rule, and they combine freely"
)]
pub(super) struct Rules {
    /// Whether there is a broker. Without one, the store is polled.
    pub(super) broker: bool,
    /// Whether the broker keeps published messages, so that reading can resume where it stopped.
    pub(super) resumes: bool,
    /// How many offsets in a row may be missing although no message is. The broker uses one for
    /// itself at the beginning of a segment; trimming removes a whole segment, which has more.
    pub(super) holes: u64,
    /// Whether a complete set serves without the broker, because what is not in it is looked up.
    pub(super) serves_unbound: bool,
    /// Whether the set caches the content of the store. If not, it is enough that the store
    /// answers.
    pub(super) reads_store: bool,
}

// === impl Rules ===

impl Rules {
    pub(super) fn new(config: &Config) -> Self {
        let topology = config.rabbitmq.as_ref().map(|rabbitmq| rabbitmq.topology);
        Self {
            broker: topology.is_some(),
            resumes: topology == Some(Topology::Stream),
            holes: HOLES,
            serves_unbound: config.mode != Mode::Authoritative
                || config.while_stale == WhileStale::AskRedis,
            reads_store: config.mode != Mode::RedisAlways,
        }
    }
}
