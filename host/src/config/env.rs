//! Owns the environment: the only file that reads it, behind a type that tests can fill.

/// The variables that set configuration keys.
#[derive(Debug, Clone, Default)]
pub struct Env(Vec<(String, String)>);

/// What names of variables begin with. Kubernetes gives every container variables such as
/// `PORTCULLIS_PORT` once a Service is called `portcullis`; two underscores keep those apart.
pub(super) const PREFIX: &str = "PORTCULLIS__";

impl Env {
    /// The process' environment. Variables that are not UTF-8 are not ours.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn from_process() -> Self {
        let ours = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(PREFIX));
        Self(ours.collect())
    }

    /// Made-up variables.
    pub fn new<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self(
            variables.into_iter().map(owned).filter(|(name, _)| name.starts_with(PREFIX)).collect(),
        )
    }

    /// The variables in the order of their names, so that a run does not depend on chance.
    pub(super) fn sorted(&self) -> Vec<(&str, &str)> {
        let mut sorted: Vec<_> =
            self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        sorted.sort_unstable();
        sorted
    }
}
