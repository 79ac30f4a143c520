//! Steps that the world of the exploration can take, and what it does wrong on purpose.

/// What the world does wrong on purpose, to see that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sabotage {
    None,
    /// Reading goes on wherever the stream happens to begin.
    BelieveTheStream,
    /// The snapshot is read before the queue is bound.
    SnapshotFirst,
    /// The store is read when a connection is made, and never again.
    ReadOnce,
    /// A removal removes, whatever the store holds.
    TrustUnrevocations,
    /// The set is trusted however long the process was paused.
    NoLease,
    /// The lease is renewed after a pause of the process, whatever has yet to be delivered.
    RenewAtOnce,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Publish,
    Forget,
    Route,
    Bind,
    Refuse,
    Deliver,
    Lose,
    ConnectDue,
    Delete,
    Trim,
    SnapshotDone,
    SnapshotFailed,
    SnapshotDue,
    Answer,
    Silence,
    ProbeDue,
    Late,
    Blocked,
    Unrevoke,
    RevokeAgain,
    Repeat,
    Ask,
    Pause,
    Resume,
    Notice,
    Wait,
}

pub(super) const STEPS: [Step; 26] = [
    Step::Publish,
    Step::Forget,
    Step::Route,
    Step::Bind,
    Step::Refuse,
    Step::Deliver,
    Step::Lose,
    Step::ConnectDue,
    Step::Delete,
    Step::Trim,
    Step::SnapshotDone,
    Step::SnapshotFailed,
    Step::SnapshotDue,
    Step::Answer,
    Step::Silence,
    Step::ProbeDue,
    Step::Late,
    Step::Blocked,
    Step::Unrevoke,
    Step::RevokeAgain,
    Step::Repeat,
    Step::Ask,
    Step::Pause,
    Step::Resume,
    Step::Notice,
    Step::Wait,
];

impl Step {
    /// Whether it happens although the replica is paused. What is lost then is noticed later, and
    /// the same as what is lost later.
    pub(super) const fn happens_elsewhere(self) -> bool {
        matches!(
            self,
            Self::Publish
                | Self::Unrevoke
                | Self::RevokeAgain
                | Self::Repeat
                | Self::Wait
                | Self::Resume
        )
    }
}
