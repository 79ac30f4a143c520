//! Refused words: those for which the field has a standard term.

use std::path::Path;

use super::source::{files, read, root};

/// A word or phrase in lower case, and what to write instead.
const REFUSED: [(&str, &str); 25] = [
    ("whoever", "the caller, the publisher, any client"),
    ("nobody", "no client, no caller; or the passive"),
    ("nobodys", "of no client"),
    ("somebody", "a client, a caller"),
    ("anybody", "any client, any caller"),
    ("everybody", "all clients, every caller"),
    ("heed", "apply"),
    ("heeds", "applies"),
    ("heeded", "applied"),
    ("heeding", "applying"),
    ("mend", "heal, repair, fix"),
    ("mends", "heals, repairs, fixes"),
    ("mended", "healed, repaired, fixed"),
    ("mending", "healing, repairing, fixing"),
    ("befall", "affect"),
    ("befalls", "affects"),
    ("befallen", "affected"),
    ("befell", "affected"),
    ("in good order", "gracefully"),
    ("struck off", "removed"),
    ("in force", "effective, applied"),
    ("at the most", "at most"),
    ("at the least", "at least"),
    ("anew", "again"),
    ("nochance", "RandomError"),
];

/// The places of refused words in the sources and the documents of the repository. Letter case, line
/// ends, comment signs and the parts of a name such as `harms_nobody` make no difference.
pub(crate) fn refused() -> Vec<String> {
    let this = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tidy/words.rs");
    let this = this.canonicalize().unwrap();
    let mut found = Vec::new();
    for file in files("..", &["rs", "md", "yaml", "wit", "sql", "toml"]) {
        if file.canonicalize().unwrap() != this {
            let name = file.strip_prefix(root().join("..")).unwrap_or(&file);
            found.extend(refused_in(&name.display().to_string(), &read(&file)));
        }
    }
    found
}

fn refused_in(file: &str, text: &str) -> Vec<String> {
    let words: Vec<(usize, String)> = text
        .lines()
        .enumerate()
        .flat_map(|(index, line)| {
            let words = line.split(|c: char| !c.is_ascii_alphabetic());
            words.filter(|word| !word.is_empty()).map(move |word| (index + 1, word.to_lowercase()))
        })
        .collect();
    let mut found = Vec::new();
    for (phrase, instead) in REFUSED {
        let phrase: Vec<&str> = phrase.split(' ').collect();
        for place in words.windows(phrase.len()) {
            if place.iter().map(|(_, word)| word).eq(phrase.iter().copied()) {
                let (line, phrase) = (place[0].0, phrase.join(" "));
                found.push(format!("{file}:{line}: `{phrase}`; write: {instead}"));
            }
        }
    }
    found
}

#[test]
fn words_are_found_across_line_ends_and_in_names() {
    let text =
        "/// At the\n/// most 5.\nfn harms_nobody() {}\n// Utmost, recommend, at the moment.\n";
    let found = refused_in("a.rs", text);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("a.rs:3: `nobody`"), "{found:?}");
    assert!(found[1].starts_with("a.rs:1: `at the most`"), "{found:?}");
}
