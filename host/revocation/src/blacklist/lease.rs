//! The lease of the set: how long readers trust what the feed says of it after the source extended it.

use std::time::Duration;

/// Shorter than the three seconds after which publishers no longer wait for a silent replica: such
/// a replica no longer trusts its set.
pub(crate) const LEASE: Duration = Duration::from_millis(1_500);
