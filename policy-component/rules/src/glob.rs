//! Owns text patterns in which `*` stands for any run of characters.

use alloc::{boxed::Box, vec::Vec};

/// Matches text piece by piece. An empty text matches nothing, not even `*`.
#[derive(Debug)]
pub(crate) enum Glob {
    /// No `*` in the pattern.
    Exact(Box<str>),
    /// What stands before the first `*`, after the last, and between them.
    Wild { first: Box<str>, middle: Vec<Box<str>>, last: Box<str> },
}

impl Glob {
    /// Compiles a pattern; every text is one.
    pub(crate) fn new(pattern: &str) -> Self {
        let mut pieces = pattern.split('*');
        let first = pieces.next().unwrap_or_default().into();
        let Some(last) = pieces.next_back() else { return Self::Exact(first) };
        let middle = pieces.filter(|piece| !piece.is_empty()).map(Into::into).collect();
        Self::Wild { first, middle, last: last.into() }
    }

    /// Whether the whole of `text` matches.
    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            _ if text.is_empty() => false,
            Self::Exact(exact) => text == &**exact,
            Self::Wild { first, middle, last } => {
                let Some(rest) = text.strip_prefix(&**first) else { return false };
                let Some(mut rest) = rest.strip_suffix(&**last) else { return false };
                // Taking each piece where it first occurs leaves the most for the next.
                for piece in middle {
                    let Some((_, after)) = rest.split_once(&**piece) else { return false };
                    rest = after;
                }
                true
            }
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
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*x*y*", "axbyc", true),
            ("*x*y*", "aybxc", false),
            ("*ab*ab", "ab", false),
            ("*ab*ab", "abab", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), expected, "{pattern} {text}");
        }
    }
}
