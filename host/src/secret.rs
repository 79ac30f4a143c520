//! Owns secret bytes: where they come from, and that they never show in logs.

use std::path::{Path, PathBuf};

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
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The file has no content.
    #[error("{path}: the secret file is empty; write the secret into it")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

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
            .map_err(|source| ReadSecretError::Unreadable { path: path.to_owned(), source })?;
        while matches!(bytes.last(), Some(b'\n' | b'\r')) {
            bytes.pop();
        }
        if bytes.is_empty() {
            return Err(ReadSecretError::Empty { path: path.to_owned() });
        }
        Ok(Self(bytes))
    }

    /// The bytes themselves, for the one place that needs them.
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

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
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
}
