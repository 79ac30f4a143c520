//! File watching: detecting that a file has changed on disk, by polling.
//!
//! It compares the metadata of the file behind all symbolic links. That detects a write in place,
//! an atomic rename and the `..data` link flip of a Kubernetes volume, on every file system, which
//! change notifications do not.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Remembers the metadata of a file, to detect changes.
#[derive(Debug)]
pub struct FileWatch {
    path: PathBuf,
    seen: Option<Fingerprint>,
}

/// The metadata that distinguishes one content of a path from the next.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileWatch {
    /// Watches `path`, starting from its present state.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), seen: fingerprint(path) }
    }

    /// Whether the file is another one, or has another content, than at the last call. A file that
    /// is gone has not changed: what was read from it stays valid until something replaces it.
    pub fn has_changed(&mut self) -> bool {
        let now = fingerprint(&self.path);
        let changed = now.is_some() && now != self.seen;
        if changed {
            self.seen = now;
        }
        changed
    }
}

fn fingerprint(path: &Path) -> Option<Fingerprint> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(Fingerprint {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_in_place_is_seen_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.wasm");
        std::fs::write(&path, "one").unwrap();
        let mut watch = FileWatch::new(&path);
        assert!(!watch.has_changed());
        std::fs::write(&path, "three").unwrap();
        assert!(watch.has_changed());
        assert!(!watch.has_changed());
    }

    #[test]
    fn an_atomic_rename_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.wasm");
        std::fs::write(&path, "one").unwrap();
        let mut watch = FileWatch::new(&path);
        std::fs::write(dir.path().join("new"), "two").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert!(watch.has_changed());
    }

    #[test]
    fn the_link_flip_of_a_kubernetes_volume_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["v1", "v2"] {
            std::fs::create_dir(dir.path().join(version)).unwrap();
            std::fs::write(dir.path().join(version).join("policy.wasm"), version).unwrap();
        }
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(target, dir.path().join(name)).unwrap();
        };
        link("v1", "..data");
        link("..data/policy.wasm", "policy.wasm");
        let mut watch = FileWatch::new(&dir.path().join("policy.wasm"));
        link("v2", "..data_tmp");
        std::fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
        assert!(watch.has_changed());
    }

    #[test]
    fn a_file_that_vanishes_and_returns_unchanged_was_never_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, aside) = (dir.path().join("key"), dir.path().join("aside"));
        let mut watch = FileWatch::new(&path);
        assert!(!watch.has_changed());
        std::fs::write(&path, "k").unwrap();
        assert!(watch.has_changed(), "a file that appears has changed");
        std::fs::hard_link(&path, &aside).unwrap();
        assert!(watch.has_changed(), "its inode has");
        let before = fingerprint(&path);
        std::fs::remove_file(&path).unwrap();
        assert!(!watch.has_changed());
        assert_eq!(watch.seen, before);
    }
}
