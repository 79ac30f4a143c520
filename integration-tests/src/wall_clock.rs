//! Wall clock of one process that a test can set while it runs, through libfaketime. The monotonic
//! clock and the boot clock are unchanged: no operator can set those.

use std::path::{Path, PathBuf};

use crate::{places, portcullis::Config};

/// A wall clock.
#[derive(Debug)]
pub struct WallClock {
    /// The file with the offset.
    file: PathBuf,
}

// === impl WallClock ===

impl WallClock {
    /// A correct clock. A file of this name in the folder has its offset.
    #[must_use]
    pub fn new(folder: &Path, name: &str) -> Self {
        let clock = Self { file: folder.join(name) };
        clock.set(0);
        clock
    }

    /// Sets its offset, in seconds.
    ///
    /// # Panics
    /// When the folder is not writable.
    pub fn set(&self, offset: i64) {
        // Atomic: the process reads the file at each read of its clock.
        let partial = self.file.with_extension("partial");
        std::fs::write(&partial, format!("{offset:+}\n")).expect("the test's folder is writable");
        std::fs::rename(&partial, &self.file).expect("the test's folder is writable");
    }

    /// Lets a Portcullis use this clock.
    #[must_use]
    pub fn apply(&self, config: Config) -> Config {
        config
            .env("LD_PRELOAD", &places::faketime().display().to_string())
            .env("FAKETIME_TIMESTAMP_FILE", &self.file.display().to_string())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_DONT_RESET", "1")
    }
}
