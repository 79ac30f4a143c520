//! Tests of path templates: what they match, what they cost and which are refused.

use alloc::{format, vec};
use core::cell::Cell;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const PLAIN: PathOptions = PathOptions { ignore_case: false, distinct_slash: false };
const DISTINCT: PathOptions = PathOptions { ignore_case: false, distinct_slash: true };
const ANY_CASE: PathOptions = PathOptions { ignore_case: true, distinct_slash: false };

fn read(text: &str, options: PathOptions) -> Result<PathTemplates, SettingsError> {
    PathTemplates::read(&Field::root(&Value::from(vec![text])), options)
}

fn pattern(text: &str) -> PathTemplates {
    read(text, PLAIN).unwrap()
}

fn list(texts: &[&str]) -> PathTemplates {
    PathTemplates::read(&Field::root(&Value::from(texts)), PLAIN).unwrap()
}

impl PathTemplates {
    fn matches(&self, path: &str) -> bool {
        self.find(path).is_some()
    }
}

fn refusal(text: &str, options: PathOptions) -> String {
    match read(text, options) {
        Err(SettingsError::Invalid(problem)) => problem.message,
        other => panic!("{text}: {other:?}"),
    }
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
        ("/users/*", "/users/", false),
        ("/users/*", "/users/1", true),
        ("/users/*", "/users/1/2", false),
        ("/api/**", "/api", true),
        ("/api/**", "/apix", false),
        ("/api/**", "/api/a/b", true),
        ("/api*/**", "/apix", true),
        ("/api*/**", "/apix/y", true),
        ("/api*/**", "/ap/i", false),
        ("/*a/**", "/a", true),
        ("/*a/**", "/ba/c", true),
        ("/*a/**", "/ab", false),
        ("/**/*path1*/**", "/some/path1/x", true),
        ("/**/*path1*/**", "/some/xpath1y", true),
        ("/**/*path1*/**", "/some/path/1", false),
        ("/a/**/b/**/c", "/a/b/c", true),
        ("/a/**/b/**/c", "/a/x/b/b/y/c", true),
        ("/a/**/b/**/c", "/a/x/b/c/d", false),
        ("/a/**/b", "/ax/b", false),
        ("/**/b", "/a/b/b", true),
        ("/**/**/b", "/b", true),
        ("/**/*", "/", false),
        ("/**/*", "/a", true),
        ("/x*y*z", "/xyyz", true),
        ("/x*y*z", "/xzzy", false),
        ("/a*a", "/a", false),
        ("/a*a", "/aa", true),
        ("/*ab*ab", "/ab", false),
        ("/*ab*ab", "/abxab", true),
        ("/café/*", "/café/é", true),
    ] {
        assert_eq!(pattern(text).matches(path), expected, "{text} {path}");
    }
}

#[test]
fn where_the_slash_at_the_end_counts_it_is_a_part_of_the_pattern() {
    for (text, path, expected) in [
        ("/", "/", true),
        ("/users", "/users/", false),
        ("/users/", "/users/", true),
        ("/users/", "/users", false),
        ("/users/*", "/users/", false),
        ("/users/*/", "/users/1/", true),
        ("/users/*/", "/users/1", false),
        ("/users/**", "/users", true),
        ("/users/**", "/users/", true),
        ("/users/**", "/users/1/", true),
        ("/**", "/", true),
        ("/**/", "/", true),
        ("/**/", "/a/b/", true),
        ("/**/", "/a/b", false),
        ("/**/b/**", "/a/b/", true),
    ] {
        let pattern = read(text, DISTINCT).unwrap();
        assert_eq!(pattern.matches(path), expected, "{text} {path}");
    }
    assert!(refusal("/users/", PLAIN).contains("trailing_slash: distinct"));
    assert!(read("/a//", DISTINCT).is_err());
}

#[test]
fn where_case_does_not_count_neither_pattern_nor_path_need_be_in_lower_case() {
    for (text, path, expected) in [
        ("/Admin/{id}", "/admin/x", true),
        ("/admin/*", "/ADMIN/X", true),
        ("/a/*Word*/**", "/a/xwORDx/y", true),
        ("/admin", "/admim", false),
        ("/a[", "/a{", false),
        ("/*[", "/x{", false),
        ("/CAFé/*", "/café/x", true),
        ("/*/CAFé", "/x/café", true),
        ("/a%2Fb", "/a%2Fb", true),
    ] {
        let pattern = read(text, ANY_CASE).unwrap();
        assert_eq!(pattern.matches(path), expected, "{text} {path}");
    }
    assert!(!pattern("/Admin").matches("/admin"));
    assert!(refusal("/CAFÉ", ANY_CASE).contains("lower case"));
}

#[test]
fn a_named_segment_is_found_in_its_place() {
    let pattern = pattern("/orgs/{org}/users/{user_id}/**");
    let path = "/orgs/acme/users/u1/files";
    let found = pattern.find(path).unwrap();
    assert_eq!(found.segment("org", path), Some("acme"));
    assert_eq!(found.segment("user_id", path), Some("u1"));
    assert_eq!(found.segment("file", path), None);
}

#[test]
fn the_first_template_that_matches_gives_the_segment() {
    let templates = list(&["/a/*/{x}", "/{x}/**", "/a/{x}/c", "/a/{x}/**", "/a/b/{x}"]);
    for (path, expected) in [("/a/b/c", "c"), ("/a/b", "a"), ("/a/b/c/d", "a"), ("/z", "z")] {
        assert_eq!(templates.find(path).unwrap().segment("x", path), Some(expected), "{path}");
    }
    let templates = list(&["/b/{x}/*y", "/b/{x}", "/b/z/{x}", "/{x}/**"]);
    for (path, expected) in [("/b/q", Some("q")), ("/b/z/xy", Some("z")), ("/b/z/x", Some("x"))] {
        assert_eq!(templates.find(path).unwrap().segment("x", path), expected, "{path}");
    }
}

#[test]
fn an_escape_that_canonical_paths_keep_is_matched_as_it_is() {
    for (text, path, expected) in [
        ("/repos/group%2Fproject", "/repos/group%2Fproject", true),
        ("/repos/group%2Fproject", "/repos/group/project", false),
        ("/repos/group%2F*", "/repos/group%2Fproject", true),
        ("/a%252Fb", "/a%252Fb", true),
        ("/a%25*", "/a%252F", true),
        ("/caf%E9", "/caf%E9", true),
        ("/100%", "/100%", true),
        ("/a%2Ab", "/a*b", true),
        ("/a%2Ab", "/axb", false),
        ("/x*%2Ab%3F", "/xyz*b?", true),
        ("/%7Bid%7D", "/{id}", true),
    ] {
        assert_eq!(pattern(text).matches(path), expected, "{text} {path}");
    }
}

#[test]
fn a_pattern_that_no_canonical_path_equals_is_refused_with_the_remedy() {
    for (text, remedy) in [
        ("", "is empty"),
        ("users", "begin with `/`"),
        ("/users/", "remove it"),
        ("/a//b", "remove a slash"),
        ("/a/../b", "remove it"),
        ("/a/.", "remove it"),
        ("/a%2fb", "write `%2F`"),
        ("/a%20b", "write ` `"),
        ("/%61dmin", "write `a`"),
        ("/caf%C3%A9", "write `é`"),
        ("/caf%e9", "write `%E9`"),
        ("/100%25", "write `%`"),
        ("/a%3fb", "write `%3F`"),
        ("/a?b", "written `%3F`"),
        ("/a#b", "written `%23`"),
        ("/a\tb", "control character"),
        ("/{a}.json", "whole segment"),
        ("/a**", "whole segment"),
        ("/**/{id}", "write `*` there"),
        ("/{id}/{id}", "own name"),
        ("/{}", "letters, digits"),
        ("/{a-b}", "letters, digits"),
    ] {
        let message = refusal(text, PLAIN);
        assert!(message.contains(remedy), "{text}: {message}");
    }
    assert!(refusal(&format!("/*{}", "a".repeat(600)), PLAIN).contains("too long"));
    assert!(pattern(&format!("/{}", "a".repeat(600))).matches(&format!("/{}", "a".repeat(600))));
}

#[test]
fn patterns_of_every_size_match() {
    for length in [1, 10, 60, 61, 62, 63, 64, 65, 120, 126, 127, 128, 300, 480] {
        let word = "ab".repeat(length / 2 + 1);
        let pattern = pattern(&format!("/**/*{word}/**/c"));
        assert!(pattern.matches(&format!("/x/y{word}/z/c")), "{length}");
        assert!(pattern.matches(&format!("/{word}/c")), "{length}");
        assert!(!pattern.matches(&format!("/x/y{word}b/c")), "{length}");
        assert!(!pattern.matches(&format!("/x/{}/c", &word[1..])), "{length}");
    }
}

/// A client chooses the path, and must not choose what it costs: each byte is read once, for all of
/// the pattern at a time.
#[test]
fn a_path_is_read_once_whatever_the_pattern() {
    let length = 8192;
    let paths = ["/a".repeat(length / 2), format!("/{}", "a".repeat(length - 1))];
    for text in [
        "/**/*word*/**",
        "/**/a*a*a*b/**",
        "/**/*a*a*a*a*a*a*b",
        "/**/a/**/a/**/a/**/b/**",
        "/**/a/a/a/a/a/a/a/a/a/b/**",
        "/**/*aaaaaaaaaaaaaaaaaaab*/**",
    ] {
        let pattern = pattern(text);
        let [Wild { automaton, .. }] = &*pattern.wild else { panic!("{text} has no automaton") };
        for path in &paths {
            let reads = Cell::new(0);
            let bytes = path.bytes().inspect(|_| reads.set(reads.get() + 1));
            assert_eq!(automaton.find(bytes), None, "{text}");
            assert_eq!(reads.get(), length, "{text}");
        }
        // One word of places: the work for a byte is a constant as well.
        assert!(matches!(automaton, Automaton::Small(_)), "{text}");
    }
}

#[test]
fn a_list_of_templates_reads_a_path_once() {
    let words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    let texts: Vec<_> = words.iter().map(|word| format!("/**/*{word}*/**")).collect();
    let texts: Vec<_> = texts.iter().map(|text| &**text).collect();
    let templates = list(&texts);
    assert!(matches!(&*templates.wild, [Wild { automaton: Automaton::Medium(_), .. }]));
    for word in words {
        assert!(templates.matches(&format!("/a/b{word}c/d")), "{word}");
        assert!(!templates.matches(&format!("/a/{}", &word[1..])), "{word}");
    }
}

#[test]
fn a_path_is_not_read_to_its_end_where_the_answer_is_certain() {
    let long = format!("/x/word/{}", "y".repeat(8000));
    for (text, most) in [("/{id}/no", 5), ("/**/*word*/**", 8), ("/x/w*/**", 8)] {
        let pattern = pattern(text);
        let [Wild { prefix, automaton }] = &*pattern.wild else { panic!("{text}") };
        let rest = long.strip_prefix(&**prefix).unwrap();
        let reads = Cell::new(0);
        automaton.find(rest.bytes().inspect(|_| reads.set(reads.get() + 1)));
        assert!(reads.get() <= most, "{text}: {}", reads.get());
    }
}

/// The obvious way to match text, exponential in the number of `*`.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|n| glob(rest, &text[n..])),
        ([first, pattern @ ..], [byte, text @ ..]) => first == byte && glob(pattern, text),
        _ => false,
    }
}

/// The obvious way to match segments, exponential in the number of `**`.
fn slow(tail: &[&str], path: &[&str]) -> bool {
    match tail {
        [] => path.is_empty(),
        ["**", after @ ..] => (0..=path.len()).any(|n| slow(after, &path[n..])),
        [one, after @ ..] => path.split_first().is_some_and(|(first, rest)| {
            !first.is_empty() && glob(one.as_bytes(), first.as_bytes()) && slow(after, rest)
        }),
    }
}

proptest! {
    #[test]
    fn matching_agrees_with_the_obvious_way(
        tail in prop::collection::vec(
            prop::sample::select(vec!["a", "b", "ab", "*", "**", "a*", "*b", "*a*", "a*b", "a*a*b"]),
            1..6,
        ),
        path in prop::collection::vec("[ab]{1,4}", 0..7),
    ) {
        let compiled = pattern(&format!("/{}", tail.join("/")));
        let path: Vec<&str> = path.iter().map(|segment| &**segment).collect();
        prop_assert_eq!(compiled.matches(&format!("/{}", path.join("/"))), slow(&tail, &path));
    }

    #[test]
    fn a_list_matches_what_one_of_its_templates_matches(
        texts in prop::collection::vec("/(a|b|[*]|[*][*])(/(a|b|[*]|[*][*]|[*]a[*])){0,4}", 1..12),
        path in "(/[ab]{1,2}){1,5}",
    ) {
        let texts: Vec<&str> = texts.iter().map(|text| &**text).collect();
        let any = texts.iter().any(|text| pattern(text).matches(&path));
        prop_assert_eq!(list(&texts).matches(&path), any);
        // The name makes the order matter.
        let named: Vec<&str> = ["/x/{name}"].iter().chain(&texts).copied().collect();
        prop_assert_eq!(list(&named).matches(&path), any);
    }

    #[test]
    fn a_pattern_matches_alike_in_every_size_of_automaton(
        tail in prop::collection::vec(prop::sample::select(vec!["a", "*", "**", "*a*", "a*b"]), 1..6),
        path in prop::collection::vec("[ab]{1,3}", 0..7),
    ) {
        let text = tail.join("/");
        let path = path.join("/");
        // A long segment in front makes the automaton larger, and must change nothing else.
        for length in [70, 200] {
            let long = "x".repeat(length);
            prop_assert_eq!(
                pattern(&format!("/*/{long}/{text}")).matches(&format!("/y/{long}/{path}")),
                pattern(&format!("/*/{text}")).matches(&format!("/y/{path}")),
            );
        }
    }

    #[test]
    fn no_pattern_and_no_path_panics(
        text in "[/*{}a.%2FE9é]{0,12}",
        path in "[/ab.%2Fé]{0,12}",
        ignore_case in any::<bool>(),
        distinct_slash in any::<bool>(),
    ) {
        if let Ok(compiled) = read(&text, PathOptions { ignore_case, distinct_slash }) {
            compiled.matches(&path);
        }
    }
}
