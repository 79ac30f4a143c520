//! Fuzz target of paths: the first two bytes set which ambiguities are tolerated and how case and
//! slashes count, the rest is a path as a client sends it. Whatever is accepted can be read in one
//! way only.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::authorizer::{PathConfig, Tolerance, TrailingSlash, canonicalize};

const TOLERANCES: [Tolerance; 9] = [
    Tolerance::EncodedSlash,
    Tolerance::DoubleEncoding,
    Tolerance::DotSegments,
    Tolerance::Semicolon,
    Tolerance::Backslash,
    Tolerance::EmptySegments,
    Tolerance::IncompleteEscape,
    Tolerance::NotUtf8,
    Tolerance::RawUtf8,
];

fuzz_target!(|bytes: &[u8]| {
    let [low, high, raw @ ..] = bytes else { return };
    let flags = u16::from_le_bytes([*low, *high]);
    let Ok(raw) = str::from_utf8(raw) else { return };
    let is_set = |bit: usize| flags >> bit & 1 == 1;
    let tolerated = TOLERANCES.iter().enumerate().filter(|(bit, _)| is_set(*bit));
    let config = PathConfig {
        tolerate: tolerated.map(|(_, tolerance)| *tolerance).collect(),
        ignore_case: is_set(9),
        trailing_slash: if is_set(10) { TrailingSlash::Distinct } else { TrailingSlash::Ignore },
        ..PathConfig::default()
    };
    let Ok(canonical) = canonicalize(raw, &config) else { return };

    let path = &*canonical.path;
    assert!(path.starts_with('/'));
    assert!(!path.contains("//"));
    assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
    assert!(!path.bytes().any(|byte| byte.is_ascii_control()));
    assert_eq!(canonical.query, raw.split_once('?').map(|(_, query)| query));

    // However a path is spelled, it is the same one. What is kept encoded stays so.
    if has_escape(path) {
        assert!(!config.tolerate.is_empty(), "who decodes once more must not find anything");
    } else if let Ok(again) = canonicalize(&spell(path), &config) {
        assert_eq!(again.path, path);
    } else {
        assert!(!config.tolerate.is_empty());
    }
});

/// The path with every byte encoded but the slashes.
fn spell(path: &str) -> String {
    let spell = |byte| if byte == b'/' { "/".to_owned() } else { format!("%{byte:02X}") };
    path.bytes().map(spell).collect()
}

fn has_escape(path: &str) -> bool {
    path.as_bytes()
        .windows(3)
        .any(|w| w[0] == b'%' && w[1].is_ascii_hexdigit() && w[2].is_ascii_hexdigit())
}
