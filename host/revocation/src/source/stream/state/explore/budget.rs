//! Budget of the exploration: how often each kind of event may happen.

/// How often each thing may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    pub(super) publish: u8,
    /// As a broker does that comes back: confirmed, and kept nowhere.
    pub(super) forget: u8,
    pub(super) lose: u8,
    pub(super) delete: u8,
    pub(super) trim: u8,
    pub(super) fail: u8,
    pub(super) quiet: u8,
    pub(super) late: u8,
    /// As a broker does that comes back: it delivers from a stream that nothing reaches yet.
    pub(super) detour: u8,
    /// Taken back, made again, and taken back by a message that was sent before.
    pub(super) change: u8,
    /// The process is paused.
    pub(super) pause: u8,
    /// A publisher waits until its revocations have been applied.
    pub(super) wait: u8,
}

impl Budget {
    pub(super) const NOTHING: Self = Self {
        publish: 0,
        forget: 0,
        lose: 0,
        delete: 0,
        trim: 0,
        fail: 0,
        quiet: 0,
        late: 0,
        detour: 0,
        change: 0,
        pause: 0,
        wait: 0,
    };

    pub(super) const USUAL: Self =
        Self { publish: 2, lose: 1, delete: 1, trim: 1, ..Self::NOTHING };
}
