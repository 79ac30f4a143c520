//! Source files of the repository, and their code without comments and test code.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The path of a module in its crate; that of the root is empty.
pub(crate) type Module = Vec<String>;

/// A line of code, and its number.
pub(crate) type Line = (usize, String);

/// A file of a crate.
pub(crate) struct SourceFile {
    pub(crate) path: PathBuf,
    pub(crate) module: Module,
    /// The lines outside comments and test code.
    pub(crate) lines: Vec<Line>,
}

/// The folder `host`, from which all paths of the checks start.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The files below `folder` with one of these extensions, but for hidden folders and build output.
pub(crate) fn files(folder: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut pending = vec![root().join(folder)];
    while let Some(folder) = pending.pop() {
        let entries =
            fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    pending.push(path);
                }
            } else if path.extension().is_some_and(|own| extensions.iter().any(|one| own == *one)) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The files of a crate with their code, without those of modules that only tests have.
pub(crate) fn code(folder: &str) -> Vec<SourceFile> {
    let mut code = Vec::new();
    let mut of_tests = Vec::new();
    for path in files(folder, &["rs"]) {
        let module = module(folder, &path);
        let (lines, tests) = split(&read(&path));
        of_tests.extend(tests.iter().map(|name| child(&module, name)));
        code.push(SourceFile { path, module, lines });
    }
    code.retain(|file| !of_tests.iter().any(|tests| file.module.starts_with(tests)));
    code
}

/// The module `name` of another module.
pub(crate) fn child(module: &[String], name: &str) -> Module {
    [module, &[name.to_owned()]].concat()
}

fn module(folder: &str, file: &Path) -> Module {
    let path = file.strip_prefix(root().join(folder)).unwrap_or(file).with_extension("");
    let mut module: Module = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| ["lib", "main", "mod"].contains(&last.as_str())) {
        module.pop();
    }
    module
}

/// The lines of code of a file, and the names of its modules for tests. It relies on rustfmt: an item
/// ends at a closing bracket that is indented as its beginning is.
fn split(text: &str) -> (Vec<Line>, Vec<String>) {
    let (mut code, mut tests) = (Vec::new(), Vec::new());
    let mut lines = text.lines().enumerate().filter(|(_, line)| !is_comment(line));
    while let Some((index, line)) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            code.push((index + 1, line.to_owned()));
            continue;
        }
        let Some((_, item)) = lines.find(|(_, line)| !line.trim_start().starts_with("#[")) else {
            break;
        };
        if let Some(name) = without_visibility(item).strip_prefix("mod ") {
            tests.push(name.trim_end_matches([';', ' ', '{', '}']).to_owned());
        }
        if item.ends_with([';', ',', '}']) {
            continue;
        }
        let indent = indent(item);
        let is_end = |line: &str| {
            indent == self::indent(line)
                && line.trim_start().starts_with(['}', ')', ']'])
                && !line.ends_with('{')
        };
        lines.find(|(_, line)| is_end(line));
    }
    (code, tests)
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

pub(crate) fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// A line of an item without `pub` or `pub(crate)` at its beginning.
pub(crate) fn without_visibility(line: &str) -> &str {
    let line = line.trim_start();
    let Some(rest) = line.strip_prefix("pub") else { return line };
    match rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        Some((_, rest)) => rest.trim_start(),
        None if rest.starts_with(' ') => rest.trim_start(),
        None => line,
    }
}
