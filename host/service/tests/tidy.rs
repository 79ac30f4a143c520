//! Rules about the source text itself: imports form no circles, names are unique in their crate, files
//! have headers, libraries are known to one module, and prose uses standard terms.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test reports")]

#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/words.rs"]
mod words;

use std::{collections::BTreeMap, path::Path};

use source::{Line, code, files, indent, read, root, without_visibility};

/// Our crates, top first. Cargo keeps their order.
const CRATES: [&str; 4] = ["service/src", "revocation/src", "runtime/src", "types/src"];
/// Libraries that only one module may name, and that module's path in `host`.
const KNOWLEDGE: [(&str, &str); 10] = [
    ("envoy_types", "service/src/grpc"),
    ("tonic", "service/src/grpc"),
    ("wasmtime", "service/src/policy"),
    ("quick_cache", "service/src/token"),
    ("reqwest", "service/src/fetch"),
    ("papaya", "revocation/src/blacklist"),
    ("lapin", "revocation/src/rabbitmq"),
    ("tokio_postgres", "revocation/src/source/table"),
    ("redis", "revocation/src/redis"),
    ("prometheus", "runtime/src/telemetry"),
];

#[test]
fn siblings_do_not_import_each_other_in_a_circle() {
    let crates = CRATES.into_iter().chain(["../chaos/src"]);
    let circles: Vec<_> = crates.flat_map(imports::circles).collect();
    assert!(circles.is_empty(), "modules that import each other:\n{}", circles.join("\n"));
}

#[test]
fn a_type_name_occurs_once_in_a_crate() {
    let mut twins = Vec::new();
    for folder in CRATES.into_iter().chain(["../chaos/src", "../policy-component/rules/src"]) {
        let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for file in code(folder) {
            for (number, name) in file.lines.iter().filter_map(type_name) {
                let place = format!("{}:{number}", file.module.join("::"));
                places.entry(name).or_default().push(place);
            }
        }
        places.retain(|_, places| places.len() > 1);
        twins.extend(places.iter().map(|(name, at)| format!("{folder}: {name}: {at:?}")));
    }
    assert!(twins.is_empty(), "names of several types of one crate:\n{}", twins.join("\n"));
}

#[test]
fn prose_and_names_use_standard_terms() {
    let refused = words::refused();
    assert!(refused.is_empty(), "{} refused words:\n{}", refused.len(), refused.join("\n"));
}

#[test]
fn knowledge_stays_in_its_module() {
    let mut wrong = Vec::new();
    for file in CRATES.into_iter().flat_map(code) {
        for (crate_name, owner) in KNOWLEDGE {
            let mut lines = without_imports_of_ours(file.lines.clone(), crate_name);
            lines.retain(|(_, line)| {
                names_crate(line, crate_name) && !is_part_of(&file.path, owner)
            });
            let path = file.path.display();
            wrong.extend(lines.iter().map(|(n, _)| format!("{path}:{n}: {crate_name}")));
        }
    }
    assert!(wrong.is_empty(), "crates that are another module's business:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_has_a_header() {
    let folders =
        ["service/tests", "../policy-component", "../integration-tests", "../bench", "../chaos"];
    let silent: Vec<_> = CRATES
        .iter()
        .chain(&folders)
        .flat_map(|folder| files(folder, &["rs"]))
        .filter(|file| !read(file).starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "files without a `//!` header: {silent:?}");
}

/// The type that a line defines. Associated types and aliases within functions do not count.
fn type_name((number, line): &Line) -> Option<(usize, String)> {
    let item = without_visibility(line);
    let (kind, rest) = item.split_once(' ')?;
    let is_type = ["struct", "enum", "union", "trait"].contains(&kind) || kind == "type";
    if !is_type || indent(line) > 4 || kind == "type" && indent(line) > 0 {
        return None;
    }
    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    Some((*number, name))
}

/// Whether a file is the module at `path` or lies in its folder.
fn is_part_of(file: &Path, path: &str) -> bool {
    let owner = root().join(path);
    file.starts_with(&owner) || file == owner.with_extension("rs")
}

/// The lines that may name the crate: not those that import a module of ours, which may have the name
/// of the crate that it knows, and none if the module itself is imported.
fn without_imports_of_ours(lines: Vec<Line>, crate_name: &str) -> Vec<Line> {
    let mut in_ours = false;
    let (imports, others): (Vec<_>, Vec<_>) = lines.into_iter().partition(|(_, line)| {
        let begins =
            ["use self::", "use super::", "use crate::"].iter().any(|path| line.contains(path));
        in_ours = (begins && !line.ends_with(';')) || (in_ours && line != "};");
        begins || in_ours
    });
    let itself = [format!("{crate_name}::{{self"), format!("{crate_name},")];
    let imports_itself = |(_, line): &Line| itself.iter().any(|name| line.contains(name));
    if imports.iter().any(imports_itself) { Vec::new() } else { others }
}

/// Whether a line names the crate, and not a module of the same name.
fn names_crate(line: &str, crate_name: &str) -> bool {
    line.match_indices(&format!("{crate_name}::"))
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
}
