//! Import graph of a crate: which module names which, resolved to the module that owns the name.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Line, Module, SourceFile, child, code, without_visibility};

/// What a path leads to: a module, and a name in it if the path goes further.
type Target = (Module, Option<String>);

/// An import: the name that it brings into the module, unless it is a path within code.
struct Import {
    name: Option<String>,
    target: Target,
}

type Imports = BTreeMap<Module, Vec<Import>>;

/// Which siblings of one folder import which.
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// The circles among the children of each module of a crate. A name that a module only re-exports
/// counts as its owner's. An arrow that ends in an ancestor or in a descendant does not count.
pub(crate) fn circles(folder: &str) -> Vec<String> {
    let mut circles = Vec::new();
    for (parent, arrows) in arrows(&imports(folder)) {
        let in_circle = |module: &&String| reached(&arrows, module).contains(*module);
        let members: BTreeSet<&String> = arrows.keys().filter(in_circle).collect();
        for from in &members {
            let to: Vec<_> = arrows[*from].iter().filter(|to| members.contains(to)).collect();
            let parent = [&[folder.to_owned()][..], &parent[..]].concat().join("/");
            circles.push(format!("{parent}: {from} imports {to:?}"));
        }
    }
    circles
}

/// The arrows between siblings, by the module whose children they are.
fn arrows(imports: &Imports) -> BTreeMap<Module, Arrows> {
    let mut arrows: BTreeMap<Module, Arrows> = BTreeMap::new();
    for (from, imported) in imports {
        for import in imported {
            let to = owner(imports, &import.target);
            let shared = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
            if let (Some(one), Some(other)) = (from.get(shared), to.get(shared)) {
                let siblings = arrows.entry(from[..shared].to_vec()).or_default();
                siblings.entry(one.clone()).or_default().insert(other.clone());
            }
        }
    }
    arrows
}

/// The modules that `from` imports, and those that they import.
fn reached(arrows: &Arrows, from: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut pending = vec![from];
    while let Some(module) = pending.pop() {
        let imported = arrows.get(module).into_iter().flatten();
        let new = imported.filter(|module| reached.insert((*module).clone()));
        pending.extend(new.map(String::as_str));
    }
    reached
}

/// The module that has the name, wherever it was re-exported.
fn owner(imports: &Imports, target: &Target) -> Module {
    let mut seen = BTreeSet::new();
    let mut target = target.clone();
    while seen.insert(target.clone()) {
        let mut named = imports.get(&target.0).into_iter().flatten();
        let next = named.find(|import| import.name.is_some() && import.name == target.1);
        let Some(next) = next else { break };
        target = next.target.clone();
    }
    target.0
}

fn imports(folder: &str) -> Imports {
    let code = code(folder);
    let modules: BTreeSet<Module> = code.iter().map(|file| file.module.clone()).collect();
    let mut imports = Imports::new();
    for SourceFile { module, lines, .. } in &code {
        let (uses, rest) = statements(lines);
        let imported = uses.iter().flat_map(|tree| expand(tree)).map(|path| {
            let (path, name) = path.split_once(" as ").unwrap_or((path.as_str(), last(&path)));
            (path.to_owned(), Some(name.to_owned()))
        });
        let within_code = paths(&rest).into_iter().map(|path| (path, None));
        let resolved = imported.chain(within_code).filter_map(|(path, name)| {
            let target = resolve(&modules, module, &path)?;
            Some(Import { name, target })
        });
        imports.entry(module.clone()).or_default().extend(resolved);
    }
    imports
}

fn last(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path)
}

/// The trees of the `use` statements, and all other code.
fn statements(lines: &[Line]) -> (Vec<String>, String) {
    let (mut uses, mut rest) = (Vec::new(), String::new());
    let mut in_use = false;
    // Text may begin with the word, too.
    let is_path =
        |tree: &str| tree.split([' ', ';']).next().is_some_and(|path| path.contains("::"));
    for (_, line) in lines {
        let tree = without_visibility(line).strip_prefix("use ").filter(|tree| is_path(tree));
        match (tree, uses.last_mut()) {
            (Some(tree), _) => uses.push(tree.to_owned()),
            (None, Some(tree)) if in_use => tree.push_str(line.trim()),
            (None, _) => rest.extend([line.as_str(), "\n"]),
        }
        in_use = (in_use || tree.is_some()) && !line.ends_with(';');
    }
    (uses, rest)
}

/// The paths of a tree: `a::b` and `a::c::d` of `a::{b, c::{d}}`.
fn expand(tree: &str) -> Vec<String> {
    let tree = tree.trim().trim_end_matches(';');
    let Some((prefix, list)) = tree.strip_suffix('}').and_then(|tree| tree.split_once('{')) else {
        return if tree.is_empty() { Vec::new() } else { vec![tree.to_owned()] };
    };
    let mut depth = 0_i32;
    let elements = list.split(|c: char| {
        depth += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        c == ',' && depth == 0
    });
    let of_element = |element| expand(element).into_iter().map(|path| format!("{prefix}{path}"));
    elements.flat_map(of_element).collect()
}

/// The paths in code that begin in this crate.
fn paths(code: &str) -> Vec<String> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    code.split(|c: char| !is_part(c) && c != '$')
        .filter(|path| ["crate::", "super::", "self::"].iter().any(|root| path.starts_with(root)))
        .map(str::to_owned)
        .collect()
}

fn resolve(modules: &BTreeSet<Module>, from: &[String], path: &str) -> Option<Target> {
    let mut parts = path.split("::").peekable();
    let mut module = from.to_vec();
    match *parts.peek()? {
        "crate" => module.clear(),
        "self" | "super" => {}
        first if modules.contains(&child(from, first)) => {}
        _ => return None,
    }
    parts.next_if(|part| ["crate", "self"].contains(part));
    while parts.next_if_eq(&"super").is_some() {
        module.pop();
    }
    while let Some(name) = parts.next_if(|name| modules.contains(&child(&module, name))) {
        module.push(name.to_owned());
    }
    let name = parts.find(|part| *part != "self").map(str::to_owned);
    Some((module, name))
}
