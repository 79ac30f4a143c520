//! Regressions: runs that once found a violation. The short form repeats each of them.

use portcullis_chaos::fault::FaultKind;

/// A run that found a violation.
pub(crate) struct Regression {
    /// Its seed, which determines the set-up, the times and the revocations.
    pub(crate) seed: u64,
    /// The faults that are needed.
    pub(crate) faults: &'static [FaultKind],
}

/// All regressions.
pub(crate) const REGRESSIONS: [Regression; 1] = [
    // A revocation of an unrevoked token is lost with its key.
    Regression { seed: 24, faults: &[FaultKind::SentinelFailover] },
];
