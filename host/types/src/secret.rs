//! Secrets: reading them from files, and never showing them in logs, even if one is written in
//! place of the name of its file.

use std::{fmt, path::Path};

use subtle::ConstantTimeEq;

/// Bytes that must not be printed. `Debug` shows `[redacted]`.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

/// A secret file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadSecretError {
    /// The file cannot be read.
    #[error("{path}: cannot read the secret file: {source}; check the path and the permissions")]
    Unreadable {
        /// The file.
        path: ShownPath,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file has no content.
    #[error("{path}: the secret file is empty; write the secret into it")]
    Empty {
        /// The file.
        path: ShownPath,
    },
}

/// A path of the configuration as messages show it. It may be a secret, or an address with a
/// password, that was written in place of a path. So it is shown only if the file exists, or if it
/// looks like the path of a file.
#[derive(Clone, PartialEq, Eq)]
pub struct ShownPath(Option<String>);

/// Typical endings of file names in a configuration.
const EXTENSIONS: [&str; 10] =
    ["crt", "jwks", "json", "key", "pem", "pub", "secret", "token", "txt", "wasm"];

impl Secret {
    /// Wraps bytes that were obtained in some other way.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Reads a file, without the line break that editors leave at its end.
    ///
    /// # Errors
    /// When the file cannot be read or holds nothing.
    pub fn read(path: &Path) -> Result<Self, ReadSecretError> {
        let mut bytes = std::fs::read(path)
            .map_err(|source| ReadSecretError::Unreadable { path: ShownPath::of(path), source })?;
        while matches!(bytes.last(), Some(b'\n' | b'\r')) {
            bytes.pop();
        }
        if bytes.is_empty() {
            return Err(ReadSecretError::Empty { path: ShownPath::of(path) });
        }
        Ok(Self(bytes))
    }

    /// The bytes themselves, for the code that uses them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Compares in a time that does not depend on where the bytes differ.
    #[must_use]
    pub fn matches(&self, candidate: &[u8]) -> bool {
        self.0.ct_eq(candidate).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

// === impl ShownPath ===

impl ShownPath {
    /// Decides whether `path` is shown.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let is_shown = looks_like_a_path(path) || path.exists();
        Self(is_shown.then(|| path.display().to_string()))
    }
}

/// Whether a path is made of the characters of usual paths, and begins, or ends, as they do. A
/// secret in base64 may have slashes, so a slash alone does not make a path.
fn looks_like_a_path(path: &Path) -> bool {
    let Some(text) = path.to_str() else { return false };
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"/._- ".contains(&byte);
    let is_rooted = ["/", "./", "../"].iter().any(|start| text.starts_with(start));
    let is_known = |extension: &str| EXTENSIONS.contains(&extension);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    text.bytes().all(is_usual)
        && (is_rooted
            || path.extension().and_then(|extension| extension.to_str()).is_some_and(is_known)
            || folder.is_some_and(Path::is_dir))
}

impl fmt::Display for ShownPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(path) => f.write_str(path),
            None => f.write_str(
                "[the value is not shown, since it does not look like the path of a file]",
            ),
        }
    }
}

impl fmt::Debug for ShownPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_secret() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[redacted]");
    }

    #[test]
    fn the_line_break_at_the_end_of_a_file_is_not_part_of_the_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\r\n").unwrap();
        assert!(Secret::read(file.path()).unwrap().matches(b"s3cret"));
    }

    #[test]
    fn missing_and_empty_files_name_the_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Secret::read(file.path()).unwrap_err().to_string();
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
        let error = Secret::read(Path::new("/nonexistent/key")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/key"), "{error}");
    }

    #[test]
    fn a_secret_in_place_of_a_path_is_not_shown() {
        for value in [
            "hunter2",
            "hunter2.x",
            "hunter2/Secret",
            "hunter2/+Secret==",
            "/hunter2+Secret=",
            "redis://u:hunter2@h",
            "redis://u:hunter2@h/0",
            "postgres://u:hunter2@h:5432/db.json",
            "//u:hunter2@h/key.pem",
            "u:hunter2@h",
            "/hunter2\nSecret",
            "-----BEGIN PRIVATE KEY-----\nhunter2/hunter2",
        ] {
            let error = Secret::read(Path::new(value)).unwrap_err();
            for shown in [error.to_string(), format!("{error:?}")] {
                assert!(!shown.contains("hunter2"), "{shown}");
            }
            assert!(error.to_string().starts_with("[the value is not shown"), "{error}");
        }
    }

    #[test]
    fn a_path_is_shown_if_it_is_one_or_looks_like_one() {
        let folder = tempfile::tempdir().unwrap();
        let strange = folder.path().join("a@b=c");
        std::fs::write(&strange, "").unwrap();
        assert_eq!(ShownPath::of(&strange).to_string(), strange.display().to_string());
        for path in [
            "/run/secrets/redis",
            "./key",
            "../keys/jwks",
            "jwks.json",
            "keys/policy.wasm",
            "src/x",
        ] {
            assert_eq!(ShownPath::of(Path::new(path)).to_string(), path);
        }
    }
}
