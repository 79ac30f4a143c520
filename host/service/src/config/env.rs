//! Environment variables: the only file that reads them, behind a type that tests can fill.

use std::ffi::OsString;

/// The variables that set configuration keys.
#[derive(Debug, Clone, Default)]
pub struct Env {
    variables: Vec<(String, String)>,
    /// The name of one that is not UTF-8, as far as it is.
    unreadable: Option<String>,
}

/// What names of variables begin with. Kubernetes gives every container variables such as
/// `PORTCULLIS_PORT` once a Service is called `portcullis`; two underscores keep those apart.
pub(super) const PREFIX: &str = "PORTCULLIS__";

impl Env {
    /// The process' environment.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn from_process() -> Self {
        Self::from_os(std::env::vars_os())
    }

    /// Variables as the operating system has them: not all of them text.
    pub(super) fn from_os(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut env = Self::default();
        for (name, value) in variables {
            let shown = name.to_string_lossy().into_owned();
            if !shown.starts_with(PREFIX) {
                continue;
            }
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => env.variables.push((name, value)),
                _ => env.unreadable = Some(shown),
            }
        }
        env
    }

    /// Made-up variables.
    pub fn new<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self::from_os(variables.into_iter().map(|(name, value)| (name.into(), value.into())))
    }

    /// A variable that would have to be left out.
    pub(super) fn unreadable(&self) -> Option<&str> {
        self.unreadable.as_deref()
    }

    /// The variables in the order of their names, so that a run does not depend on chance.
    pub(super) fn sorted(&self) -> Vec<(&str, &str)> {
        let mut sorted: Vec<_> =
            self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        sorted.sort_unstable();
        sorted
    }
}
