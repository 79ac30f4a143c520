//! Inputs and outputs of the state machine: what happens, what to do, and what to signal to the
//! feed.

use crate::redis::SnapshotKind;

/// A message of the stream: its offset, and a digest of its content. A stream that was deleted and
/// recreated has the same offsets, but not the same messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Mark {
    pub(super) offset: u64,
    pub(super) digest: u64,
}

/// A probe that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Returned {
    pub(super) number: u64,
    /// A late probe proves nothing about messages that were published since it was sent.
    pub(super) in_time: bool,
}

/// Where to start reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Position {
    /// As far back as is configured.
    Replay,
    /// At this message, which was the last one seen.
    At(Mark),
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Input {
    /// The process has started.
    Start,
    /// Connected, and everything from the position on will be delivered.
    Bound,
    /// A message arrived: its mark if the queue is a stream, and the own probe that it is, if any.
    Delivered { mark: Option<Mark>, probe: Option<Returned> },
    /// It is time for a probe.
    ProbeDue,
    /// Messages arrive too late.
    Late,
    /// The broker accepts no messages for now, so that no probe comes back.
    Blocked,
    /// The process was paused, so that messages that arrive may be old.
    Paused,
    /// There is no connection, or no reliable one.
    Lost,
    /// It is time to connect again.
    ConnectDue,
    /// The snapshot has been read completely and sent to the feed.
    SnapshotDone,
    /// The snapshot could not be read.
    SnapshotFailed,
    /// It is time to read the snapshot again.
    SnapshotDue,
    /// The outbox was read and sent to the feed.
    StoreAnswered,
    /// The outbox could not be read.
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
    /// Read the store from the beginning, also if a reading is in progress.
    StartSnapshot(SnapshotKind),
    /// Read the store, unless a reading is in progress or due.
    EnsureSnapshot(SnapshotKind),
    /// Read the store again later.
    ReadAgain(NextRead),
    /// Read the outbox now, also if a reading is in progress.
    ReadOutbox,
    /// Send a probe with this number.
    Probe(u64),
    /// Send a signal to the feed.
    Say(Say),
}

/// How long to wait before connecting again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Pause {
    /// Longer with each failure in a row.
    Backoff,
    /// With jitter, because all replicas would read the whole store at once otherwise.
    Spread,
}

/// How long to wait before reading the store again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum NextRead {
    /// The pause after a failure.
    Retry,
    /// Some seconds: the last reading may have been too early for some entries.
    Soon,
    /// The configured interval.
    Regularly,
}

/// A signal to the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Say {
    Init,
    Replay,
    InitDone,
    /// The snapshot is complete, but new revocations do not arrive.
    Unbound,
    Fresh,
    /// The process was paused.
    Paused,
    Lost(Cause),
}

/// Why the feed is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Cause {
    /// The broker is lost, by an error or by silence.
    Broker,
    /// The broker delivers too late.
    Late,
    /// The process was paused.
    Paused,
    /// There is a gap in the stream.
    Gap,
    /// There is only the store, and it does not answer.
    Store,
}
