//! File descriptors: how many the process may open, and each edge's share of them.
//!
//! If the edges used all of them, nothing else could be opened: no policy, no key, no connection to
//! a broker, and no connection of another edge.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many connections each edge may have open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The gRPC edge.
    pub grpc: usize,
    /// The HTTP edge; 0 where it is off.
    pub http: usize,
    /// The admin edge.
    pub admin: usize,
    /// The receiver; 0 where it is off.
    pub receiver: usize,
}

/// Reserved for files, for brokers and databases, and for connections that are being refused.
const RESERVE: usize = 64;

/// The least share of an edge, if there are enough: probes must get through.
const LEAST: usize = 8;

/// Fits the edges' connections into the limit of descriptors of the process. The soft limit is
/// raised as far as needed and allowed; if that is not enough, every edge gets a smaller share, and
/// a warning is logged.
#[must_use]
pub fn share_descriptors(wanted: Limits) -> Limits {
    let needed = wanted.sum().saturating_add(RESERVE);
    let available = raise(needed);
    let limits = wanted.within(available);
    if limits != wanted {
        let Limits { grpc, http, admin, receiver } = limits;
        tracing::warn!(
            descriptors = available,
            needed,
            grpc,
            http,
            admin,
            receiver,
            "the process may open too few files for `max_connections` of all edges; each gets a \
             share; raise `ulimit -n`, or lower `grpc.max_connections` and `http.max_connections`"
        );
    }
    limits
}

/// Raises the soft limit to `needed` or to the hard limit, and returns what it is then.
fn raise(needed: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // `None` is no limit.
    let as_usize = |limit: Option<u64>| {
        limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
    };
    let (soft, hard) = (as_usize(current), as_usize(maximum));
    let target = needed.min(hard);
    if target <= soft {
        return soft;
    }
    let raised = Rlimit { current: u64::try_from(target).ok(), maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => target,
        Err(_) => soft,
    }
}

// === impl Limits ===

impl Limits {
    fn sum(self) -> usize {
        [self.grpc, self.http, self.admin, self.receiver].into_iter().fold(0, usize::saturating_add)
    }

    /// The same, or as much of each as `available` descriptors allow.
    fn within(self, available: usize) -> Self {
        let for_all = available.saturating_sub(RESERVE.min(available / 2));
        let sum = self.sum();
        if sum <= for_all {
            return self;
        }
        let share = |wanted: usize| {
            let part = u128::try_from(wanted).unwrap_or(u128::MAX)
                * u128::try_from(for_all).unwrap_or(u128::MAX)
                / u128::try_from(sum).unwrap_or(u128::MAX).max(1);
            usize::try_from(part).unwrap_or(usize::MAX).max(LEAST).min(wanted)
        };
        Self {
            grpc: share(self.grpc),
            http: share(self.http),
            admin: share(self.admin),
            receiver: share(self.receiver),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_fits_stays_and_what_does_not_is_shared_out() {
        let wanted = Limits { grpc: 1024, http: 0, admin: 64, receiver: 0 };
        assert_eq!(wanted.within(1024 + 64 + RESERVE), wanted);
        let shared = wanted.within(256);
        assert_eq!(shared, Limits { grpc: 180, http: 0, admin: 11, receiver: 0 });
    }

    proptest! {
        #[test]
        fn a_reserve_is_left_and_each_edge_has_a_share(
            grpc in 1..100_000_usize,
            http in 0..100_000_usize,
            admin in 1..10_000_usize,
            receiver in 0..1_000_usize,
            available in 128..2_000_000_usize,
        ) {
            let wanted = Limits { grpc, http, admin, receiver };
            let limits = wanted.within(available);
            prop_assert!(limits.sum() + RESERVE / 2 <= available, "{limits:?}");
            for (limit, wanted) in [
                (limits.grpc, grpc),
                (limits.http, http),
                (limits.admin, admin),
                (limits.receiver, receiver),
            ] {
                prop_assert!(limit <= wanted && limit >= wanted.min(LEAST), "{limits:?}");
            }
        }
    }
}
