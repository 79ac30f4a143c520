//! Path settings: how Portcullis reads paths, given to the rules under the names that `paths` of
//! the configuration has for it.
//!
//! A policy is given the canonical path and not how it was made, so both must say the same.

use portcullis_policy::SettingsError;

use crate::field::Field;

/// How the canonical path was made.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PathOptions {
    /// The path arrives in lower case, and patterns match in either case.
    pub(crate) ignore_case: bool,
    /// A slash at the end of the path counts.
    pub(crate) distinct_slash: bool,
}

impl PathOptions {
    /// Reads `{ignore_case: true, trailing_slash: distinct}`.
    pub(crate) fn read(field: &Field<'_>) -> Result<Self, SettingsError> {
        let object = field.object(&["ignore_case", "trailing_slash"])?;
        let mut options = Self::default();
        if let Some(field) = object.get("ignore_case") {
            options.ignore_case = field.boolean()?;
        }
        if let Some(field) = object.get("trailing_slash") {
            options.distinct_slash = match field.text()? {
                "distinct" => true,
                "ignore" => false,
                _ => return Err(field.refuse("must be `ignore` or `distinct`")),
            };
        }
        Ok(options)
    }

    /// The path without the slash at its end, so that `/` has no segments; where that slash counts,
    /// the path as it is.
    pub(super) fn trim(self, path: &str) -> &str {
        if self.distinct_slash { path } else { path.strip_suffix('/').unwrap_or(path) }
    }

    /// What follows `prefix` in the path.
    pub(super) fn strip_prefix<'p>(self, path: &'p str, prefix: &str) -> Option<&'p [u8]> {
        let (start, rest) = path.as_bytes().split_at_checked(prefix.len())?;
        let is_same = if self.ignore_case {
            start.eq_ignore_ascii_case(prefix.as_bytes())
        } else {
            start == prefix.as_bytes()
        };
        is_same.then_some(rest)
    }
}
