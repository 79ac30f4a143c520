//! Sabotage: faults that tests inject into the driver, to see that the simulation finds them.
//! Outside of tests there are none.

/// The injected fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sabotage {
    /// The lease never ends once the set is live.
    NoLease,
    /// The lease is renewed after a pause of the process, whatever has yet to be delivered.
    RenewAtOnce,
    /// The store is read when a connection is opened, and not again.
    ReadOnce,
    /// An un-revocation is applied without verification.
    TrustUnrevocations,
    /// Redis is asked about an un-revocation until it confirms it, whatever was revoked since.
    AskForLong,
    /// Probes are sent on the connection that consumes, which the broker does not notify of an
    /// alarm.
    #[cfg(test)]
    SharedConnection,
}

/// Whether this fault is injected.
#[cfg(not(test))]
pub(super) const fn is_on(_: Sabotage) -> bool {
    false
}

#[cfg(test)]
pub(super) use self::switch::is_on;
#[cfg(test)]
pub(super) use self::switch::set;

#[cfg(test)]
mod switch {
    use std::cell::Cell;

    use super::Sabotage;

    thread_local! {
        static SABOTAGE: Cell<Option<Sabotage>> = const { Cell::new(None) };
    }

    /// Injects this fault on this thread from now on.
    pub(in crate::source::stream) fn set(sabotage: Option<Sabotage>) {
        SABOTAGE.set(sabotage);
    }

    pub(in crate::source::stream) fn is_on(sabotage: Sabotage) -> bool {
        SABOTAGE.get() == Some(sabotage)
    }
}
