//! Instance filler: the thread that starts instances of one policy, so that no request has to.
//!
//! An instance is started and configured under `policy_host.configure_deadline`. Each policy has
//! its own filler: one whose instances start slowly, or not at all, delays no other policy.

use std::{
    io,
    sync::{Weak, mpsc},
    thread,
};

/// What wants instances.
pub(super) trait Fill: Send + Sync {
    /// Starts instances until there are as many as wanted. Only the filler calls this.
    fn fill(&self);
}

/// Asks the filler for instances. The thread ends when the last clone is gone.
#[derive(Debug, Clone)]
pub(super) struct Filler(mpsc::Sender<Weak<dyn Fill>>);

impl Filler {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the operating system refuses another thread.
    pub(super) fn start() -> io::Result<Self> {
        let (sender, requests) = mpsc::channel::<Weak<dyn Fill>>();
        thread::Builder::new().name("policy-filler".to_owned()).spawn(move || {
            for wanting in requests {
                // A revision that is gone needs no instances.
                if let Some(wanting) = wanting.upgrade() {
                    wanting.fill();
                }
            }
        })?;
        Ok(Self(sender))
    }

    /// Has instances started until `wanting` has as many as it wants.
    pub(super) fn fill(&self, wanting: Weak<dyn Fill>) {
        // The thread lives for as long as there is a sender.
        let _ = self.0.send(wanting);
    }
}
