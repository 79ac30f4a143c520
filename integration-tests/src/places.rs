//! Paths of the built binaries and other files for the tests, with the fix if one is missing.

use std::path::{Path, PathBuf};

/// The folder of the profile that the tests were built with, for example `target/debug`.
#[must_use]
pub fn profile_folder() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    // target/debug/deps/main-0123456789abcdef for tests, target/debug/chaos for programs.
    let folder = test.parent().expect("a program is in a folder");
    let folder = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
    folder.expect("cargo puts tests into `deps`").to_owned()
}

/// The binary under test.
///
/// # Panics
/// When it was not built, or when its sources are newer: the test would run another program.
#[must_use]
pub fn portcullis() -> PathBuf {
    fresh("portcullis")
}

/// The same with failpoints at which tests can stop or kill it.
///
/// # Panics
/// When it was not built, or when its sources are newer.
#[must_use]
pub fn portcullis_with_failpoints() -> PathBuf {
    fresh("portcullis-failpoints")
}

fn fresh(name: &str) -> PathBuf {
    let binary = existing(profile_folder().join(name), "make test");
    let built = modified(&binary);
    // One line: `binary: source source ...`, with spaces in paths escaped.
    let sources = std::fs::read_to_string(binary.with_extension("d")).unwrap_or_default();
    let sources = sources.replace("\\ ", "\0");
    for source in sources.split_whitespace().skip(1).map(|path| path.replace('\0', " ")) {
        let source = Path::new(&source);
        assert!(
            !source.exists() || modified(source) <= built,
            "{} is older than {}; run `make test`, or rebuild it",
            binary.display(),
            source.display(),
        );
    }
    binary
}

/// A policy that `make components` compiles, by its file name without `.wasm`.
///
/// # Panics
/// When it was not compiled.
#[must_use]
pub fn component(name: &str) -> PathBuf {
    let target = profile_folder();
    let target = target.parent().expect("the profile's folder is in the target folder");
    let file = target.join("wasm32-wasip2/component").join(name).with_extension("wasm");
    existing(file, "make components")
}

/// Envoy.
///
/// # Panics
/// When there is none.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one variable that chooses what is tested")]
pub fn envoy() -> PathBuf {
    if let Ok(binary) = std::env::var("ENVOY_BIN") {
        return binary.into();
    }
    let target = profile_folder();
    let target = target.parent().expect("the profile's folder is in the target folder");
    existing(target.join("tools/envoy"), "make envoy")
}

/// The library that fakes the wall clock of a process.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn faketime() -> PathBuf {
    let target = profile_folder();
    let target = target.parent().expect("the profile's folder is in the target folder");
    existing(target.join("tools/libfaketime.so"), "make faketime")
}

/// The file with the images of the services.
///
/// # Panics
/// When `make images` has not run.
#[must_use]
pub fn images() -> PathBuf {
    let target = profile_folder();
    let target = target.parent().expect("the profile's folder is in the target folder");
    existing(target.join("images.json"), "make images")
}

fn existing(path: PathBuf, fix: &str) -> PathBuf {
    assert!(path.exists(), "{} is missing; run `{fix}`", path.display());
    path
}

fn modified(path: &Path) -> std::time::SystemTime {
    path.metadata()
        .and_then(|metadata| metadata.modified())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
