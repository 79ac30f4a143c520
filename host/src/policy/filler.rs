//! Instance filler: the thread that starts instances of one policy, so that no request has to.
//!
//! An instance is started and configured under `policy_host.configure_deadline`. Each policy has a
//! filler of its own: one whose instances start slowly, or not at all, holds up no other policy.

use std::{
    io,
    sync::{Weak, mpsc},
    thread,
};

use super::configured::Configured;

/// Asks the filler for instances. The thread ends when the last clone is gone.
#[derive(Debug, Clone)]
pub(super) struct Filler(mpsc::Sender<Weak<Configured>>);

impl Filler {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the operating system refuses another thread.
    pub(super) fn start() -> io::Result<Self> {
        let (sender, requests) = mpsc::channel::<Weak<Configured>>();
        thread::Builder::new().name("policy-filler".to_owned()).spawn(move || {
            for configured in requests {
                // A revision that is gone needs no instances.
                if let Some(configured) = configured.upgrade() {
                    configured.fill();
                }
            }
        })?;
        Ok(Self(sender))
    }

    /// Has instances started until `configured` has as many as it wants.
    pub(super) fn fill(&self, configured: Weak<Configured>) {
        // The thread lives for as long as there is a sender.
        let _ = self.0.send(configured);
    }
}
