//! Tests of paths as clients send them, and of path patterns as operators write them.

use proptest::prelude::*;

use super::*;
use crate::authorizer::pattern::Pattern;

const ALL: [Tolerance; 9] = [
    Tolerance::EmptySegments,
    Tolerance::EncodedSlash,
    Tolerance::DoubleEncoding,
    Tolerance::IncompleteEscape,
    Tolerance::DotSegments,
    Tolerance::Semicolon,
    Tolerance::Backslash,
    Tolerance::NotUtf8,
    Tolerance::RawUtf8,
];

fn read(raw: &str, config: &PathConfig) -> Result<String, PathError> {
    canonicalize(raw, config).map(|canonical| canonical.path.into_owned())
}

fn strict(raw: &str) -> Result<String, PathError> {
    read(raw, &PathConfig::default())
}

fn tolerating(tolerate: &[Tolerance], raw: &str) -> Result<String, PathError> {
    read(raw, &PathConfig { tolerate: tolerate.to_vec(), ..PathConfig::default() })
}

#[test]
fn escapes_are_decoded_once() {
    for (raw, path) in [
        ("/", "/"),
        ("/%61dmin", "/admin"),
        ("/caf%C3%A9", "/café"),
        ("/100%25", "/100%"),
        ("/a%3Fb?c", "/a?b"),
        ("/a%23b", "/a#b"),
        ("/a%20b", "/a b"),
    ] {
        assert_eq!(strict(raw).as_deref(), Ok(path), "{raw}");
    }
}

#[test]
fn ambiguous_paths_are_refused_with_the_cause() {
    use PathError as Cause;
    use Tolerance as T;
    for (raw, cause) in [
        ("", Cause::NotAbsolute),
        ("*", Cause::NotAbsolute),
        ("http://host/admin", Cause::NotAbsolute),
        ("/admin#x", Cause::Fragment),
        ("/a b", Cause::Space),
        ("/%00", Cause::Control),
        ("/a%0d%0ab", Cause::Control),
        ("/a\tb", Cause::Control),
        ("//", Cause::Ambiguous(T::EmptySegments)),
        ("//public/admin", Cause::Ambiguous(T::EmptySegments)),
        ("/a//b", Cause::Ambiguous(T::EmptySegments)),
        ("/a//", Cause::Ambiguous(T::EmptySegments)),
        ("/%", Cause::Ambiguous(T::IncompleteEscape)),
        ("/%2", Cause::Ambiguous(T::IncompleteEscape)),
        ("/%zz", Cause::Ambiguous(T::IncompleteEscape)),
        ("/%ff", Cause::Ambiguous(T::NotUtf8)),
        ("/%C3/%A9", Cause::Ambiguous(T::NotUtf8)),
        ("/é", Cause::Ambiguous(T::RawUtf8)),
        ("/a%2fb", Cause::Ambiguous(T::EncodedSlash)),
        ("/a%2Fb", Cause::Ambiguous(T::EncodedSlash)),
        ("/%252e%252e/admin", Cause::Ambiguous(T::DoubleEncoding)),
        ("/%252fadmin", Cause::Ambiguous(T::DoubleEncoding)),
        ("/%25%32%65%25%32%65/admin", Cause::Ambiguous(T::DoubleEncoding)),
        ("/a%252%46b", Cause::Ambiguous(T::DoubleEncoding)),
        ("/a%25%32Fb", Cause::Ambiguous(T::DoubleEncoding)),
        ("/a/../admin", Cause::Ambiguous(T::DotSegments)),
        ("/%2e%2e/admin", Cause::Ambiguous(T::DotSegments)),
        ("/./admin", Cause::Ambiguous(T::DotSegments)),
        ("/admin/.", Cause::Ambiguous(T::DotSegments)),
        ("/admin;x=1", Cause::Ambiguous(T::Semicolon)),
        ("/admin%3bx", Cause::Ambiguous(T::Semicolon)),
        ("/a\\b", Cause::Ambiguous(T::Backslash)),
        ("/a%5cb", Cause::Ambiguous(T::Backslash)),
    ] {
        assert_eq!(strict(raw), Err(cause), "{raw}");
    }
}

#[test]
fn a_tolerated_ambiguity_is_read_as_documented() {
    use Tolerance as T;
    for (tolerate, raw, path) in [
        (&[T::EmptySegments][..], "//x/people?a=1", "/x/people"),
        (&[T::EmptySegments], "/a//b///", "/a/b"),
        (&[T::EmptySegments], "///", "/"),
        (&[T::EncodedSlash], "/repos/group%2fproject", "/repos/group%2Fproject"),
        (&[T::DoubleEncoding], "/a%252F", "/a%252F"),
        (&[T::DoubleEncoding], "/a%2525", "/a%2525"),
        (&[T::DoubleEncoding], "/100%25", "/100%"),
        (&[T::IncompleteEscape], "/100%", "/100%"),
        (&[T::IncompleteEscape], "/100%/%zz%2", "/100%/%zz%2"),
        (&[T::DotSegments], "/a/../../b/%2e", "/b"),
        (&[T::DotSegments], "/a/..", "/"),
        (&[T::Semicolon], "/a;b", "/a;b"),
        (&[T::Backslash], "/a\\b%5C", "/a\\b\\"),
        (&[T::NotUtf8], "/caf%e9", "/caf%E9"),
        (&[T::NotUtf8], "/caf%E9%C3%A9", "/caf%E9é"),
        (&[T::RawUtf8], "/é", "/é"),
        (&[T::DotSegments, T::EmptySegments], "/a//b/../c", "/a/c"),
    ] {
        assert_eq!(tolerating(tolerate, raw).as_deref(), Ok(path), "{raw}");
    }
}

#[test]
fn tolerances_together_let_nothing_through_that_has_two_readings_still() {
    use PathError as Cause;
    use Tolerance as T;
    for (tolerate, raw, cause) in [
        // A percent sign that becomes the first of an escape is one all the same.
        (&[T::IncompleteEscape][..], "/%%32%46", Cause::Ambiguous(T::DoubleEncoding)),
        (&[T::IncompleteEscape], "/%2%46", Cause::Ambiguous(T::DoubleEncoding)),
        // Envoy and nginx differ in what `..` leaves.
        (&[T::DotSegments, T::EmptySegments], "/a//../b", Cause::Ambiguous(T::EmptySegments)),
        (&[T::DotSegments, T::EmptySegments], "/a//b/../../c", Cause::Ambiguous(T::EmptySegments)),
        (&[T::DotSegments], "/a//../b", Cause::Ambiguous(T::EmptySegments)),
        (&ALL, "/a%00", Cause::Control),
        (&ALL, "/a b", Cause::Space),
        (&ALL, "/a#b", Cause::Fragment),
        (&ALL, "a", Cause::NotAbsolute),
    ] {
        assert_eq!(tolerating(tolerate, raw), Err(cause), "{raw}");
    }
}

#[test]
fn a_slash_at_the_end_counts_only_where_it_is_distinct() {
    let distinct = PathConfig { trailing_slash: TrailingSlash::Distinct, ..PathConfig::default() };
    for raw in ["/a/", "/%61/", "/a/?x=/"] {
        assert_eq!(strict(raw).as_deref(), Ok("/a"), "{raw}");
        assert_eq!(read(raw, &distinct).as_deref(), Ok("/a/"), "{raw}");
    }
    assert_eq!(strict("/").as_deref(), Ok("/"));
}

#[test]
fn case_is_ignored_where_that_is_configured() {
    let ignoring = PathConfig {
        ignore_case: true,
        tolerate: vec![Tolerance::EncodedSlash, Tolerance::NotUtf8],
        ..PathConfig::default()
    };
    for (raw, path) in [
        ("/Admin/Users", "/admin/users"),
        ("/%41dmin", "/admin"),
        ("/A%2fB", "/a%2Fb"),
        ("/A%e9", "/a%E9"),
        ("/%C3%9Cber", "/über"),
        ("/%C3%BCber", "/über"),
        // Both sigmas have the same upper case.
        ("/%CE%A3%CF%82", "/σσ"),
    ] {
        assert_eq!(read(raw, &ignoring).as_deref(), Ok(path), "{raw}");
    }
    // The Kelvin sign, the long s, the sharp s in both cases, the Turkish letters, a ligature.
    for letter in ["\u{212a}", "ſ", "ß", "ẞ", "ı", "İ", "ﬁ"] {
        let raw = letter.bytes().fold("/".to_owned(), |raw, byte| format!("{raw}%{byte:02X}"));
        assert_eq!(read(&raw, &ignoring), Err(PathError::Case), "{letter}");
        assert_eq!(strict(&raw), Ok(format!("/{letter}")));
    }
}

#[test]
fn a_path_over_the_limit_is_refused_whatever_its_query() {
    let config = PathConfig { max_bytes: NonZeroU32::new(5).unwrap(), ..PathConfig::default() };
    assert_eq!(read("/abcd?and=more", &config).as_deref(), Ok("/abcd"));
    for raw in ["/abcde", "/%61bc"] {
        assert_eq!(read(raw, &config), Err(PathError::TooLong));
    }
    assert_eq!(PathError::TooLong.reason(), Reason::RequestTooLarge);
    assert_eq!(PathError::Space.reason(), Reason::AmbiguousPath);
}

fn compiled(pattern: &str, config: &PathConfig) -> Result<Vec<String>, String> {
    let pattern: Pattern = pattern.parse().unwrap();
    let patterns = compile(&pattern, config).map_err(std::borrow::Cow::into_owned)?;
    Ok(patterns.iter().map(ToString::to_string).collect())
}

#[test]
fn a_pattern_is_brought_into_the_form_of_paths() {
    let all = PathConfig { tolerate: ALL.to_vec(), ..PathConfig::default() };
    let ignoring = PathConfig { ignore_case: true, ..PathConfig::default() };
    let strict = PathConfig::default();
    for (config, pattern, expected) in [
        (&strict, "/", &["/"][..]),
        (&strict, "*", &["*"]),
        (&strict, "/*", &["*"]),
        (&strict, "/admin/", &["/admin"]),
        (&strict, "/admin/*", &["/admin/*", "/admin"]),
        (&strict, "*/login/", &["*/login"]),
        (&strict, "*.php", &["*.php"]),
        (&strict, "/caf%*", &["/caf%*"]),
        (&strict, "/100%", &["/100%"]),
        (&strict, "/a b", &["/a b"]),
        (&strict, "/a%3Fb%2A", &["/a?b*"]),
        (&ignoring, "/Admin", &["/admin"]),
        (&all, "/repos/group%2Fproject", &["/repos/group%2Fproject"]),
        (&all, "/caf%E9", &["/caf%E9"]),
        (&all, "/a%252F;\\", &["/a%252F;\\"]),
    ] {
        let expected = expected.iter().map(ToString::to_string).collect();
        assert_eq!(compiled(pattern, config), Ok(expected), "{pattern}");
    }
}

#[test]
fn a_pattern_that_no_path_matches_is_refused_with_the_remedy() {
    for (pattern, remedy) in [
        ("admin/*", "write `/admin/*`"),
        ("//admin/*", "write one slash"),
        ("/a//", "write one slash"),
        ("/admin/../x", "dot segment"),
        ("/admin/..", "dot segment"),
        ("*/../x", "dot segment"),
        ("/admin/./*", "dot segment"),
        ("/admin;x", "`semicolon`"),
        ("/a\\b", "`backslash`"),
        ("/admin?x=1", "`%3F`"),
        ("/admin#x", "`%23`"),
        ("/admin/{id}", "`/users/*`"),
        ("/a%20b/*", "write ` ` for `%20`"),
        ("/caf%C3%A9/*", "`é`"),
        ("/caf%E9", "`not_utf8`"),
        ("/a%2Fb", "`encoded_slash`"),
        ("/a%252F", "`double_encoding`"),
        ("/100%25", "write `%` for `%25`"),
        ("/a\tb", "control character"),
        (&format!("/{}", "a".repeat(9000)), "longer than `paths.max_bytes`"),
    ] {
        let refused = compiled(pattern, &PathConfig::default()).unwrap_err();
        assert!(refused.contains(remedy), "{pattern}: {refused}");
    }
    let all = PathConfig { tolerate: ALL.to_vec(), ignore_case: true, ..PathConfig::default() };
    for pattern in ["/a%2fb", "/caf%e9", "/a//b", "/a/../b", "/straße", "/%C3%A9", "/100%25"] {
        assert!(compiled(pattern, &all).is_err(), "{pattern}");
    }
}

/// Text out of the pieces that make paths ambiguous.
fn paths() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/",
        "/",
        "a",
        "A",
        ".",
        "..",
        "%",
        "%25",
        "2",
        "F",
        "e",
        "%2F",
        "%2f",
        "%32",
        "%46",
        ";",
        "\\",
        "%5C",
        "%C3",
        "%A9",
        "%e9",
        "é",
        "%3F",
        "?",
        "#",
        " ",
        "%20",
        "%00",
        "%E2%84%AA",
    ]);
    prop::collection::vec(piece, 0..10).prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn settings() -> impl Strategy<Value = PathConfig> {
    let tolerate = prop::sample::subsequence(ALL.to_vec(), 0..=ALL.len());
    (tolerate, any::<bool>(), any::<bool>()).prop_map(|(tolerate, ignore_case, distinct)| {
        let trailing_slash = if distinct { TrailingSlash::Distinct } else { TrailingSlash::Ignore };
        PathConfig { tolerate, ignore_case, trailing_slash, ..PathConfig::default() }
    })
}

/// The bytes that a canonical path stands for: what it keeps encoded is decoded, but for `%2F`, which
/// becomes a byte that no path has.
fn meant(path: &str) -> Vec<u8> {
    let bytes = path.as_bytes();
    let (mut meant, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let escaped = if bytes[at] == b'%' { hex(&bytes[at + 1..]) } else { None };
        meant.push(match escaped {
            Some(b'/') => 0,
            Some(byte) => byte,
            None => bytes[at],
        });
        at += if escaped.is_some() { 3 } else { 1 };
    }
    meant
}

/// The path with every byte encoded but the slashes, and `%2F` as it is.
fn spell(path: &str) -> String {
    let spell = |byte| match byte {
        b'/' => "/".to_owned(),
        0 => "%2F".to_owned(),
        byte => format!("%{byte:02X}"),
    };
    meant(path).into_iter().map(spell).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn a_canonical_path_has_no_empty_and_no_dot_segment(raw in paths(), config in settings()) {
        if let Ok(path) = read(&raw, &config) {
            prop_assert!(path.starts_with('/'));
            prop_assert!(!path.contains("//"));
            prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
            prop_assert!(!path.bytes().any(|byte| byte.is_ascii_control()));
        }
    }

    /// Decoding a canonical path once more finds nothing, where nothing is tolerated.
    #[test]
    fn a_canonical_path_has_no_escape(raw in paths()) {
        if let Ok(path) = strict(&raw) {
            let is_escape = |at: usize| path.as_bytes()[at] == b'%' && hex(&path.as_bytes()[at + 1..]).is_some();
            prop_assert!(!(0..path.len()).any(is_escape), "{}", path);
        }
    }

    /// Two spellings of one path have one canonical form, or are refused; and two paths never have.
    #[test]
    fn the_canonical_form_stands_for_one_path(raw in paths(), config in settings()) {
        if let Ok(path) = read(&raw, &config) {
            if let Ok(again) = read(&spell(&path), &config) {
                prop_assert_eq!(&again, &path, "{}", raw);
            }
            let loose = PathConfig { tolerate: ALL.to_vec(), ..config };
            prop_assert_eq!(read(&spell(&path), &loose), Ok(path), "{}", raw);
        }
    }

    /// What is decided without a tolerance is decided alike with it.
    #[test]
    fn a_tolerance_changes_nothing_about_other_paths(raw in paths(), config in settings()) {
        let loose = PathConfig { tolerate: ALL.to_vec(), ..config.clone() };
        if let Ok(path) = read(&raw, &config) {
            prop_assert_eq!(read(&raw, &loose), Ok(path));
        }
    }

    /// What Envoy's normalization makes of a path is decided as the path itself is, or refused.
    #[test]
    fn a_normalized_path_is_decided_alike(raw in "(/{1,2}[ab.]{0,2}){1,4}", config in settings()) {
        let resolved = PathConfig {
            tolerate: vec![Tolerance::DotSegments, Tolerance::EmptySegments],
            ..config.clone()
        };
        if let (Ok(path), Ok(normalized)) = (read(&raw, &config), read(&raw, &resolved)) {
            prop_assert_eq!(&path, &normalized);
            prop_assert_eq!(read(&normalized, &config), Ok(path));
        }
    }

    /// Whatever canonical path a pattern is made of, it is accepted and matches that path.
    #[test]
    fn a_part_of_a_canonical_path_is_a_pattern(raw in paths(), config in settings()) {
        let Ok(path) = read(&raw, &config) else { return Ok(()) };
        let text = ['*', '?', '#', '{', '}'].iter().fold(path.clone(), |text, special| {
            text.replace(*special, &format!("%{:02X}", u32::from(*special)))
        });
        let compiled = compile(&Pattern::Exact(text), &config);
        let matches = compiled.as_ref().is_ok_and(|all| all.iter().any(|one| one.matches(&path)));
        prop_assert!(matches, "{}: {:?}", path, compiled);
    }
}
