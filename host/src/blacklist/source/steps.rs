//! Owns the words between the driver and the core: what happens, what is to be done, and what the
//! feed is told.

use crate::blacklist::redis::Reading;

/// A message of the stream: its offset, and a digest of what it holds. A stream that was deleted
/// and made again has the same offsets, but not the same messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Mark {
    pub(super) offset: u64,
    pub(super) digest: u64,
}

/// A probe that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Returned {
    pub(super) number: u64,
    /// One that is late proves nothing of what was published since it was sent.
    pub(super) in_time: bool,
}

/// Where to begin reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Position {
    /// As far back as is configured.
    Replay,
    /// At this message, which was seen already. What follows it was not.
    At(Mark),
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Input {
    /// The process has started.
    Start,
    /// Connected, and everything from the position on will be delivered.
    Bound,
    /// A message arrived: where it stands if the queue is a stream, and which probe of ours it is, if
    /// it is one.
    Delivered { mark: Option<Mark>, probe: Option<Returned> },
    /// It is time for a probe.
    ProbeDue,
    /// What arrives was published too long ago.
    Late,
    /// The process stood still, so that what arrives may have been published long ago.
    Paused,
    /// There is no connection, or none that can be relied upon.
    Lost,
    /// It is time to connect again.
    ConnectDue,
    /// The snapshot has been read whole and given to the feed.
    SnapshotDone,
    /// The snapshot could not be read.
    SnapshotFailed,
    /// It is time to read the snapshot again.
    SnapshotDue,
    /// The store told what publishers have parked, and that was given to the feed.
    StoreAnswered,
    /// The store did not.
    StoreSilent,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Output {
    /// Connect and read from there.
    Connect(Position),
    /// End the connection.
    Disconnect,
    /// Wait before connecting again.
    Pause(Pause),
    /// Read the store from the beginning, whatever is being read.
    StartSnapshot(Reading),
    /// Read the store, unless that is under way or due.
    EnsureSnapshot(Reading),
    /// Read the store again later.
    ReadAgain(Again),
    /// Send a probe with this number.
    Probe(u64),
    /// Tell the feed.
    Say(Say),
}

/// How long to wait before connecting again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Pause {
    /// Longer with each failure in a row.
    Backoff,
    /// At random, because all replicas will read the whole store at once otherwise.
    Spread,
}

/// How long to wait before reading the store again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Again {
    /// As long as after a failure.
    Retry,
    /// Some seconds: the last reading may have been too early for something.
    Soon,
    /// As long as is configured.
    Regularly,
}

/// What the feed is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Say {
    Init,
    Replay,
    InitDone,
    /// The snapshot is complete, but nobody tells of what is revoked from now on.
    Unbound,
    Fresh,
    Lost(Cause),
}

/// Why the feed is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Cause {
    /// As the broker or the silence said.
    Broker,
    /// What the broker delivers arrives too late.
    Late,
    /// The process stood still.
    Paused,
    /// The stream no longer holds what was to be read next.
    Gap,
    /// There is only the store, and it does not answer.
    Store,
}
