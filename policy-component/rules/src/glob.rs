//! Text patterns in which `*` at the beginning, at the end or at both stands for any run of
//! characters: hosts and principals.

use alloc::boxed::Box;

/// A compiled pattern. An empty text matches nothing, not even `*`.
#[derive(Debug)]
pub(crate) struct Glob {
    text: Box<str>,
    kind: GlobKind,
}

#[derive(Debug, Clone, Copy)]
enum GlobKind {
    Exact,
    /// `text*`
    Prefix,
    /// `*text`
    Suffix,
    /// `*text*`
    Inside,
}

impl Glob {
    /// Compiles a pattern. A `*` that is not at an end stands for itself.
    pub(crate) fn new(pattern: &str) -> Self {
        let (behind, text) = match pattern.strip_prefix('*') {
            Some(text) => (true, text),
            None => (false, pattern),
        };
        let (before, text) = match text.strip_suffix('*') {
            Some(text) => (true, text),
            None => (false, text),
        };
        let kind = match (behind, before) {
            (false, false) => GlobKind::Exact,
            (false, true) => GlobKind::Prefix,
            (true, false) => GlobKind::Suffix,
            (true, true) => GlobKind::Inside,
        };
        Self { text: text.into(), kind }
    }

    /// Whether the whole of `text` matches.
    pub(crate) fn matches(&self, text: &str) -> bool {
        !text.is_empty()
            && match self.kind {
                GlobKind::Exact => text == &*self.text,
                GlobKind::Prefix => text.starts_with(&*self.text),
                GlobKind::Suffix => text.ends_with(&*self.text),
                // Linear in the text, whatever stands in it.
                GlobKind::Inside => text.contains(&*self.text),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("*", "anything", true),
            ("*", "", false),
            ("ab*", "ab", true),
            ("*bc", "abc", true),
            ("*bc", "bcd", false),
            ("*b*", "abc", true),
            ("*b*", "b", true),
            ("*b*", "ac", false),
            ("**", "anything", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), expected, "{pattern} {text}");
        }
    }
}
