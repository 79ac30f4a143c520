//! Owns path patterns: `/users/{user_id}`, `/files/*/raw`, `/api/**`.
//!
//! They are matched against the canonical path, which is decoded and has no empty or dot segments.
//! A named segment comes before any `**`, so its position is fixed and no path can be read in two
//! ways. Matching allocates nothing.

use alloc::{boxed::Box, string::String, vec::Vec};

use portcullis_policy::SettingsError;

use crate::{field::Field, glob::Glob};

/// A compiled pattern.
#[derive(Debug)]
pub(crate) struct PathPattern {
    /// The literal segments that it begins with, each with its slash.
    prefix: Box<str>,
    /// What comes after them.
    tail: Vec<Segment>,
    /// The named segments and their positions in the path.
    names: Vec<(Box<str>, usize)>,
}

#[derive(Debug)]
enum Segment {
    /// One segment that matches; `*` and `{name}` match all.
    One(Glob),
    /// `**`: any number of segments, none included.
    Any,
}

impl PathPattern {
    /// Compiles the pattern in `field`.
    pub(crate) fn read(field: &Field<'_>) -> Result<Self, SettingsError> {
        let text = field.text()?;
        let Some(rest) = text.strip_prefix('/') else {
            return Err(field.refuse("must begin with `/`"));
        };
        if let Some(wrong) = rest.chars().find(|c| matches!(c, '?' | '#' | '%' | '\\')) {
            return Err(field.refuse(alloc::format!(
                "contains `{wrong}`; patterns are matched against the decoded path without query"
            )));
        }
        let mut pattern = Self { prefix: Box::default(), tail: Vec::new(), names: Vec::new() };
        if rest.is_empty() {
            return Ok(pattern);
        }
        let mut prefix = String::new();
        for (position, segment) in rest.split('/').enumerate() {
            pattern.push(field, &mut prefix, position, segment)?;
        }
        pattern.prefix = prefix.into();
        Ok(pattern)
    }

    /// Whether the canonical path `path` matches.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let Some(rest) = trim(path).strip_prefix(&*self.prefix) else { return false };
        if self.tail.is_empty() {
            return rest.is_empty() && !path.is_empty();
        }
        path.starts_with('/') && (rest.is_empty() || rest.starts_with('/')) && self.ends(rest)
    }

    /// Whether the pattern has a segment called `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|(known, _)| **known == *name)
    }

    /// The text of the segment called `name` in a path that matches.
    pub(crate) fn segment<'p>(&self, name: &str, path: &'p str) -> Option<&'p str> {
        let (_, position) = self.names.iter().find(|(known, _)| **known == *name)?;
        // The first piece is the nothing before the first slash.
        trim(path).split('/').nth(position + 1)
    }

    fn push(
        &mut self,
        field: &Field<'_>,
        prefix: &mut String,
        position: usize,
        segment: &str,
    ) -> Result<(), SettingsError> {
        let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        if let Some(name) = name {
            self.name(field, name, position)?;
        } else if segment.contains(['{', '}']) {
            return Err(field.refuse("`{name}` must be a whole segment between slashes"));
        } else if matches!(segment, "" | "." | "..") {
            return Err(field.refuse(
                "has an empty or dot segment, which no canonical path has; remove it, and a slash \
                 at the end as well",
            ));
        } else if segment == "**" {
            self.tail.push(Segment::Any);
            return Ok(());
        } else if segment.contains("**") {
            return Err(field.refuse("`**` must be a whole segment between slashes"));
        }
        if self.tail.is_empty() && name.is_none() && !segment.contains('*') {
            prefix.push('/');
            prefix.push_str(segment);
        } else {
            let glob = if name.is_some() { "*" } else { segment };
            self.tail.push(Segment::One(Glob::new(glob)));
        }
        Ok(())
    }

    fn name(
        &mut self,
        field: &Field<'_>,
        name: &str,
        position: usize,
    ) -> Result<(), SettingsError> {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(field.refuse(
                "the name of a segment consists of letters, digits and underscores: `{user_id}`",
            ));
        }
        if self.has(name) {
            return Err(field.refuse("names two segments alike; give each its own name"));
        }
        if self.tail.iter().any(|segment| matches!(segment, Segment::Any)) {
            return Err(field.refuse(
                "has a named segment after `**`, where its position is not fixed; write `*` there",
            ));
        }
        self.names.push((name.into(), position));
        Ok(())
    }

    /// Matches the segments of `rest` with the tail. After a mismatch only the last `**` needs to
    /// try again with one segment more: whatever an earlier one could take, the last can take too.
    fn ends(&self, mut rest: &str) -> bool {
        let mut tail = self.tail.as_slice();
        let mut retry: Option<(&[Segment], &str)> = None;
        loop {
            if let [Segment::Any, after @ ..] = tail {
                if after.is_empty() {
                    return true;
                }
                tail = after;
                retry = Some((after, rest));
                continue;
            }
            match (tail, split_first(rest)) {
                ([], None) => return true,
                (_, None) => return false,
                ([Segment::One(glob), after @ ..], Some((segment, next)))
                    if glob.matches(segment) =>
                {
                    tail = after;
                    rest = next;
                }
                (_, Some(_)) => {
                    let Some((after, from)) = retry else { return false };
                    let Some((_, next)) = split_first(from) else { return false };
                    tail = after;
                    rest = next;
                    retry = Some((after, next));
                }
            }
        }
    }
}

/// The path without the slash at its end, so that `/` has no segments.
fn trim(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

/// Splits `/a/b/c` into `a` and `/b/c`.
fn split_first(rest: &str) -> Option<(&str, &str)> {
    let rest = rest.strip_prefix('/')?;
    Some(rest.split_at(rest.find('/').unwrap_or(rest.len())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn pattern(text: &str) -> Result<PathPattern, SettingsError> {
        PathPattern::read(&Field::root(&Value::from(text)))
    }

    #[test]
    fn patterns_match_whole_paths() {
        for (text, path, expected) in [
            ("/", "/", true),
            ("/", "/a", false),
            ("/", "", false),
            ("/**", "/", true),
            ("/**", "/a/b", true),
            ("/**", "", false),
            ("/users", "/users", true),
            ("/users", "/users/", true),
            ("/users", "/users/1", false),
            ("/users", "/usersx", false),
            ("/users/*", "/users", false),
            ("/users/*", "/users/1", true),
            ("/users/*", "/users/1/2", false),
            ("/api/**", "/api", true),
            ("/api/**", "/apix", false),
            ("/api/**", "/api/a/b", true),
            ("/**/*path1*/**", "/some/path1/x", true),
            ("/**/*path1*/**", "/some/xpath1y", true),
            ("/**/*path1*/**", "/some/path/1", false),
            ("/a/**/b/**/c", "/a/b/c", true),
            ("/a/**/b/**/c", "/a/x/b/b/y/c", true),
            ("/a/**/b/**/c", "/a/x/b/c/d", false),
            ("/**/b", "/a/b/b", true),
        ] {
            assert_eq!(pattern(text).unwrap().matches(path), expected, "{text} {path}");
        }
    }

    #[test]
    fn a_named_segment_is_found_in_its_place() {
        let pattern = pattern("/orgs/{org}/users/{user_id}/**").unwrap();
        let path = "/orgs/acme/users/u1/files";
        assert!(pattern.matches(path));
        assert_eq!(pattern.segment("org", path), Some("acme"));
        assert_eq!(pattern.segment("user_id", path), Some("u1"));
        assert_eq!(pattern.segment("file", path), None);
    }

    #[test]
    fn a_pattern_that_could_not_do_what_it_says_is_refused() {
        for text in [
            "",
            "users",
            "/users/",
            "/a//b",
            "/a/../b",
            "/a%2fb",
            "/a?b",
            "/{a}.json",
            "/a**",
            "/**/{id}",
            "/{id}/{id}",
            "/{}",
            "/{a-b}",
        ] {
            assert!(pattern(text).is_err(), "{text}");
        }
    }

    /// The obvious way to match, exponential in the number of `**`.
    fn slow(tail: &[&str], path: &[&str]) -> bool {
        match tail {
            [] => path.is_empty(),
            ["**", after @ ..] => (0..=path.len()).any(|n| slow(after, &path[n..])),
            [one, after @ ..] => path
                .split_first()
                .is_some_and(|(first, rest)| (*one == "*" || one == first) && slow(after, rest)),
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_obvious_way(
            tail in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "**"]), 1..6),
            path in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 0..7),
        ) {
            let compiled = pattern(&alloc::format!("/{}", tail.join("/"))).unwrap();
            prop_assert_eq!(
                compiled.matches(&alloc::format!("/{}", path.join("/"))),
                slow(&tail, &path)
            );
        }

        #[test]
        fn no_pattern_and_no_path_panics(text in "[/*{}a.]{0,12}", path in "[/ab.]{0,12}") {
            if let Ok(compiled) = pattern(&text) {
                compiled.matches(&path);
            }
        }
    }
}
