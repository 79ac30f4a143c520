//! Ambiguous paths that single routes tolerate: finding the route although the path has two readings.
//!
//! The part before the ambiguity has one reading, and it alone must decide on the route: whatever could
//! follow it belongs to the route that tolerates the ambiguity. So no reading leads to another route.

use super::{
    matcher::Matcher,
    path::{CanonicalPath, PathConfig, PathError, canonicalize, unambiguous_start},
    pattern::Pattern,
};

/// A path that is ambiguous unless the route of its request tolerates it.
pub(super) struct Ambiguity<'a> {
    raw: &'a str,
    /// The canonical form of the segments before the ambiguity, with a slash at the end.
    start: String,
    /// Why it is refused otherwise.
    pub(super) cause: PathError,
}

/// Reads a path that `config` refuses as `tolerant` has it, which tolerates all that any route does.
///
/// # Errors
/// Why `config` refuses it, if no route could tolerate it.
pub(super) fn read<'a>(
    raw: &'a str,
    cause: PathError,
    config: &PathConfig,
    tolerant: Option<&PathConfig>,
) -> Result<(CanonicalPath<'a>, Ambiguity<'a>), PathError> {
    let (PathError::Ambiguous(_), Some(tolerant)) = (cause, tolerant) else { return Err(cause) };
    let path = canonicalize(raw, tolerant).map_err(|_| cause)?;
    let start = unambiguous_start(raw, config);
    Ok((path, Ambiguity { raw, start, cause }))
}

// === impl Ambiguity ===

impl Ambiguity<'_> {
    /// Whether a route with this way to read paths reads this one.
    pub(super) fn is_tolerated_by(&self, paths: &PathConfig) -> bool {
        canonicalize(self.raw, paths).is_ok()
    }

    /// Whether each path that begins like this one belongs to the route, as far as paths go.
    pub(super) fn surely_belongs_to(&self, route: &Matcher) -> bool {
        let takes_all = |pattern: &Pattern| match pattern {
            Pattern::Prefix(prefix) => self.start.starts_with(prefix),
            Pattern::Present => true,
            Pattern::Exact(_) | Pattern::Suffix(_) => false,
        };
        (route.paths.is_empty() || route.paths.iter().any(takes_all))
            && !route.not_paths.iter().any(|pattern| self.may_match(pattern))
    }

    /// Whether some path that begins like this one may belong to the route, as far as paths go.
    pub(super) fn may_belong_to(&self, route: &Matcher) -> bool {
        route.paths.is_empty() || route.paths.iter().any(|pattern| self.may_match(pattern))
    }

    fn may_match(&self, pattern: &Pattern) -> bool {
        !pattern.is_disjoint_from(&Pattern::Prefix(self.start.clone()))
    }
}
