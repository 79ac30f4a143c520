//! Owns what the configuration means for the source.

use crate::blacklist::config::{Config, Mode, Topology, WhileStale};

/// Fewer than there are messages in a segment of 16 MB, even if each were 1 MB large.
const HOLES: u64 = 8;

/// By which rules the source goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a rule of its own, and they combine freely"
)]
pub(super) struct Rules {
    /// Whether there is a broker. Without one, the store alone has to do.
    pub(super) broker: bool,
    /// Whether the broker keeps what is published, so that reading can go on where it stopped.
    pub(super) resumes: bool,
    /// How many offsets in a row may be missing although no message is. The broker takes one for
    /// itself at the beginning of a segment; what is trimmed is a whole segment, and has more.
    pub(super) holes: u64,
    /// Whether a complete set serves without the broker, because what is not in it is looked up.
    pub(super) serves_unbound: bool,
    /// Whether the set holds what the store does. Where nothing is kept, it is enough that the
    /// store answers.
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
