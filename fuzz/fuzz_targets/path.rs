//! The first byte says which ambiguities are tolerated, the rest is a path as a client sends it.
//! Whatever is accepted can be read in one way only.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::authorizer::{PathConfig, Tolerance, canonicalize};

const TOLERANCES: [Tolerance; 5] = [
    Tolerance::EncodedSlash,
    Tolerance::DoubleEncoding,
    Tolerance::DotSegments,
    Tolerance::Semicolon,
    Tolerance::Backslash,
];

fuzz_target!(|bytes: &[u8]| {
    let Some((flags, raw)) = bytes.split_first() else { return };
    let Ok(raw) = str::from_utf8(raw) else { return };
    let tolerated = TOLERANCES.iter().enumerate().filter(|(bit, _)| flags >> bit & 1 == 1);
    let config = PathConfig { tolerate: tolerated.map(|(_, tolerance)| *tolerance).collect() };
    let Ok(canonical) = canonicalize(raw, &config) else { return };

    let path = &*canonical.path;
    assert!(path.starts_with('/'));
    assert!(!path.contains("//"));
    assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
    assert!(!path.bytes().any(|byte| byte.is_ascii_control()));
    assert_eq!(canonical.query, raw.split_once('?').map(|(_, query)| query));

    // However a path is spelled, it is the same one, or refused.
    let spelled = spell(path);
    let again = canonicalize(&spelled, &config).map(|again| again.path.into_owned());
    if config.tolerate.is_empty() {
        assert_eq!(again.as_deref(), Ok(path));
        assert!(!has_escape(path), "who decodes once more must not find anything");
    } else if let Ok(again) = again {
        assert_eq!(again, path);
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
