//! The lease of the set: how long readers believe it after its source has proven it current.

use std::time::Duration;

/// Shorter than the three seconds after which a silent replica is not waited for: such a replica does
/// not believe its set any more.
pub(super) const LEASE: Duration = Duration::from_millis(1_500);
