//! Tests of the container file, as far as possible without a build.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{
    binary,
    documents::{deploy, text},
};

/// The instructions: name and rest, with continued lines joined.
fn instructions() -> Vec<(String, String)> {
    let text = text(&deploy("Containerfile")).replace("\\\n", " ");
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let split =
        lines.map(|line| line.split_once(' ').expect("an instruction and what it is about"));
    split.map(|(name, rest)| (name.to_owned(), rest.trim().to_owned())).collect()
}

/// The only instruction of this name.
fn instruction(name: &str) -> String {
    let mut all = instructions().into_iter().filter(|(instruction, _)| instruction == name);
    let found = all.next().unwrap_or_else(|| panic!("there is no {name}")).1;
    assert!(all.next().is_none(), "there is one {name}");
    found
}

/// A list in the form that needs no shell.
fn list(name: &str) -> Vec<String> {
    serde_json::from_str(&instruction(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The user's number.
pub(super) fn user() -> i64 {
    let user = instruction("USER");
    user.split(':').next().unwrap().parse().expect("a number: Kubernetes cannot look names up")
}

/// The files in the image.
pub(super) fn shipped() -> BTreeSet<String> {
    let build = instructions().into_iter().map(|(_, rest)| rest).collect::<Vec<_>>().join(" ");
    let words = build.split([' ', ';']).filter_map(|word| word.strip_prefix("/out/"));
    words.filter(|word| !word.is_empty()).map(|word| format!("/{word}")).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_image_starts_what_it_ships() {
    let entrypoint = list("ENTRYPOINT");
    let files = shipped();
    assert!(files.contains(&entrypoint[0]), "{entrypoint:?} is not in {files:?}");
    assert!(files.contains("/usr/share/portcullis/portcullis_rules.wasm"), "{files:?}");
    binary::assert_understands(&list("CMD"), &deploy("Containerfile"));
}

#[test]
fn the_image_runs_unprivileged_and_exposes_the_ports_of_the_binary() {
    assert!(user() > 0);
    assert_eq!(instruction("STOPSIGNAL"), "SIGTERM");
    let ports = ["grpc", "admin"].map(|section| binary::port(&serde_json::Value::Null, section));
    assert_eq!(instruction("EXPOSE"), format!("{} {}", ports[0], ports[1]));
}

#[test]
fn the_image_is_built_by_the_toolchain_of_the_repository() {
    let toolchain = text(&root().join("rust-toolchain.toml"));
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap();
    let image = format!("rust:{}", channel.trim_matches('"'));
    let mut stages = instructions().into_iter().filter(|(name, _)| name == "FROM");
    assert!(stages.clone().any(|(_, stage)| stage == format!("{image} AS build")), "{image}");
    // The image contains nothing of the build system.
    assert_eq!(stages.next_back().unwrap().1, "scratch");
}

#[test]
fn the_context_has_every_member_of_the_workspace_and_nothing_else() {
    let ignored = text(&root().join(".dockerignore"));
    let kept: BTreeSet<_> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(ignored.lines().any(|line| line == "*"), "what is not named is left out");
    for name in &kept {
        assert!(root().join(name).exists(), "there is no {name}");
    }
    let manifest = text(&root().join("Cargo.toml"));
    let members = manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next());
    for member in members.unwrap().split(',').map(|member| member.trim().trim_matches('"')) {
        let folder = member.split('/').next().unwrap();
        assert!(folder.is_empty() || kept.contains(folder), "{member} is not in the context");
    }
    for name in ["Cargo.toml", "Cargo.lock", "wit"] {
        assert!(kept.contains(name), "{name} is not in the context");
    }
}

#[test]
fn installed_files_come_from_cargos_output_folders() {
    let build = instructions()
        .into_iter()
        .find(|(name, rest)| name == "RUN" && rest.contains("cargo build"));
    let build = build.expect("a build").1;
    // The profile of policies has a folder with its name.
    assert!(build.contains("--profile component"));
    assert!(build.contains("target/wasm32-wasip2/component/portcullis_rules.wasm"));
    assert!(build.contains("--release --package portcullis --target \"$native\""));
    assert!(build.contains("\"target/$native/release/portcullis\""));
}
