//! Owns the rules about the source text itself: imports point downwards, files say what they own,
//! and knowledge stays where it belongs.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test reports")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The layers of `host/src`, top first. A file may name modules of its own layer's line only where
/// it is the same module, and of every line below.
const LAYERS: [&[&str]; 7] = [
    &["main", "lib"],
    &["cli"],
    &["app"],
    &["config"],
    &["grpc", "http", "admin"],
    &["authorizer"],
    &["token", "blacklist", "policy"],
];
/// The bottom: plain types, and what everything may use.
const BOTTOM: [&[&str]; 3] = [
    &["attributes", "decision", "token_id"],
    &["listen"],
    &[
        "boot_clock",
        "drain",
        "json",
        "readiness",
        "telemetry",
        "secret",
        "timestamp",
        "duration",
        "file_watch",
        "failpoint",
    ],
];
/// Crates that only one module may name, and that module's path in `host/src`.
const KNOWLEDGE: [(&str, &str); 9] = [
    ("envoy_types", "grpc"),
    ("tonic", "grpc"),
    ("wasmtime", "policy"),
    ("papaya", "blacklist"),
    ("lapin", "blacklist/rabbitmq"),
    ("tokio_postgres", "blacklist/postgres"),
    ("quick_cache", "token"),
    ("prometheus", "telemetry"),
    ("redis", "blacklist/redis"),
];

#[test]
fn imports_point_downwards() {
    let mut wrong = Vec::new();
    for file in sources("src") {
        let from = module(&file);
        let mut in_block = false;
        for (number, line) in code_lines(&file) {
            in_block = line == "use crate::{" || (in_block && line != "};");
            for to in named_modules(&line, in_block) {
                if to != from && rank(&to) <= rank(&from) {
                    wrong.push(format!("{}:{number}: `{from}` names `{to}`", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports that point upwards or sideways:\n{}", wrong.join("\n"));
}

#[test]
fn knowledge_stays_in_its_module() {
    let mut wrong = Vec::new();
    for file in sources("src") {
        for (crate_name, owner) in KNOWLEDGE {
            let mut lines = without_imports_of_ours(code_lines(&file), crate_name);
            lines.retain(|(_, line)| names_crate(line, crate_name) && !is_part_of(&file, owner));
            wrong
                .extend(lines.iter().map(|(n, _)| format!("{}:{n}: {crate_name}", file.display())));
        }
    }
    assert!(wrong.is_empty(), "crates that are another module's business:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_owns() {
    let folders = ["src", "tests", "../policy-component", "../integration-tests"];
    let silent: Vec<_> = folders
        .iter()
        .flat_map(|folder| sources(folder))
        .filter(|file| !read(file).starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "files without a `//!` header: {silent:?}");
}

#[test]
fn every_module_has_a_layer() {
    for file in sources("src") {
        assert!(rank(&module(&file)) < usize::MAX, "{}: give it a layer", file.display());
    }
}

fn rank(module: &str) -> usize {
    let layers = LAYERS.iter().chain(&BOTTOM);
    layers.into_iter().position(|layer| layer.contains(&module)).unwrap_or(usize::MAX)
}

/// Whether a file is the module at `path` or lies in its folder.
fn is_part_of(file: &Path, path: &str) -> bool {
    let owner = root().join("src").join(path);
    file.starts_with(&owner) || file == owner.with_extension("rs")
}

/// The lines that may speak of the crate: not those that import a module of ours, which may have the
/// name of the crate that it knows, and none if the module itself is imported.
fn without_imports_of_ours(lines: Vec<(usize, String)>, crate_name: &str) -> Vec<(usize, String)> {
    let mut in_ours = false;
    let (imports, others): (Vec<_>, Vec<_>) = lines.into_iter().partition(|(_, line)| {
        let begins =
            ["use self::", "use super::", "use crate::"].iter().any(|path| line.contains(path));
        in_ours = (begins && !line.ends_with(';')) || (in_ours && line != "};");
        begins || in_ours
    });
    let itself = [format!("{crate_name}::{{self"), format!("{crate_name},")];
    let imports_itself = |(_, line): &(_, String)| itself.iter().any(|name| line.contains(name));
    if imports.iter().any(imports_itself) { Vec::new() } else { others }
}

/// Whether a line names the crate, and not a module of the same name.
fn names_crate(line: &str, crate_name: &str) -> bool {
    line.match_indices(&format!("{crate_name}::"))
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
}

/// The top-level module that a file belongs to.
fn module(file: &Path) -> String {
    let path = file.strip_prefix(root().join("src")).unwrap_or(file);
    let first = path.components().next().map(|name| name.as_os_str().to_string_lossy());
    first.unwrap_or_default().trim_end_matches(".rs").to_owned()
}

/// The lines outside comments and before the unit tests, which may reach anywhere.
fn code_lines(file: &Path) -> Vec<(usize, String)> {
    if file.components().any(|part| part.as_os_str() == "tests") {
        return Vec::new();
    }
    read(file)
        .lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(index, line)| (index + 1, line.to_owned()))
        .collect()
}

/// Top-level modules that a line names after `crate::`, or inside a `use crate::{…}` block.
fn named_modules(line: &str, in_block: bool) -> Vec<String> {
    let known = |word: &str| rank(word) < usize::MAX && !["main", "lib"].contains(&word);
    let word = |text: &str| {
        text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
    };
    let mut named: Vec<String> = line.split("crate::").skip(1).map(word).collect();
    // rustfmt puts each module of a `use crate::{` block on a line of its own, one level in.
    if in_block && line.starts_with("    ") && !line.starts_with("     ") {
        let first = word(line.trim_start());
        let rest = &line.trim_start()[first.len()..];
        if rest.starts_with("::") && line.trim_end().ends_with([',', '{']) {
            named.push(first);
        }
    }
    named.retain(|name| known(name));
    named
}

fn sources(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut pending = vec![root().join(folder)];
    while let Some(folder) = pending.pop() {
        for entry in
            fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
