//! Tests of each `portcullis.yaml`: the binary accepts it once its secrets exist.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use portcullis_integration_tests::places;
use serde_json::{Value, json};

use super::{
    binary,
    documents::{deploy, files, text, yaml},
};

/// The folders for mounted files and for files of the image.
pub(super) const FOLDERS: [&str; 2] = ["/etc/portcullis/", "/usr/share/portcullis/"];

/// The files that a configuration names, by the paths of their keys.
pub(super) fn named_files(config: &Value) -> BTreeMap<String, String> {
    fn collect(value: &Value, place: &str, found: &mut BTreeMap<String, String>) {
        match value {
            Value::String(text) if text.starts_with('/') && place.ends_with("file") => {
                found.insert(place.to_owned(), text.clone());
            }
            Value::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    collect(item, &format!("{place}[{i}]"), found);
                }
            }
            Value::Object(fields) => {
                for (key, value) in fields {
                    collect(value, &format!("{place}.{key}"), found);
                }
            }
            _ => {}
        }
    }
    let mut found = BTreeMap::new();
    collect(config, "", &mut found);
    found
}

/// A stand-in for the file that a deployment would have under this key.
fn stand_in(key: &str, file: &str) -> Vec<u8> {
    match key.rsplit('.').next() {
        Some("jwks_file") => {
            let pair = Ed25519KeyPair::generate().expect("a key can be made");
            let x = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key());
            json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "1", "x": x}]})
                .to_string()
                .into()
        }
        Some("file") => {
            let name = Path::new(file).file_stem().expect("a component has a name");
            std::fs::read(places::component(name.to_str().unwrap())).expect("it was compiled")
        }
        _ => b"a secret of the tests, which is long enough and guards nothing".to_vec(),
    }
}

/// Lets the binary check a configuration, with stand-ins for the files that it names.
pub(super) fn check(path: &Path, variables: &[(String, String)]) {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let mut config = text(path);
    for (i, (key, file)) in named_files(&yaml(path)).into_iter().enumerate() {
        let folders = FOLDERS.iter().any(|folder| file.starts_with(folder));
        assert!(folders, "{}: `{key}`: {file} is in none of {FOLDERS:?}", path.display());
        let here = folder.path().join(format!("{i}"));
        std::fs::write(&here, stand_in(&key, &file)).expect("the folder is writable");
        config = config.replace(&file, here.to_str().unwrap());
    }
    let copy = folder.path().join("portcullis.yaml");
    std::fs::write(&copy, config).expect("the folder is writable");
    let output = binary::run(&["check-config", "--config", copy.to_str().unwrap()], variables);
    assert!(
        output.status.success(),
        "{}:\n{}",
        path.display(),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn configurations() -> Vec<PathBuf> {
    let files = files(&deploy("")).into_iter();
    let configurations: Vec<_> = files.filter(|path| path.ends_with("portcullis.yaml")).collect();
    assert_eq!(configurations.len(), 3, "{configurations:?}");
    configurations
}

#[test]
fn the_binary_accepts_every_configuration() {
    for path in configurations() {
        check(&path, &[]);
    }
}

#[test]
fn every_configuration_names_public_routes_and_protects_the_rest() {
    for path in configurations() {
        let (config, place) = (yaml(&path), path.display());
        let (rest, public) = config["routes"].as_array().unwrap().split_last().expect("routes");
        assert!(rest["match"].is_null(), "{place}: the last route takes what no other has taken");
        assert_eq!(rest["token"], "required", "{place}");
        assert!(!rest["identity_headers"].is_null(), "{place}");
        for route in public {
            assert_eq!(
                (&route["token"], &route["forward_token"]),
                (&json!("ignored"), &json!(false))
            );
            for pattern in route["match"]["paths"].as_array().expect("paths") {
                let exact = !pattern.as_str().unwrap().contains('*');
                assert!(exact, "{place}: {pattern} may have public paths that it does not name");
            }
            assert!(!route["match"]["methods"].is_null(), "{place}: any method is public");
        }
        for (name, issuer) in config["issuers"].as_object().unwrap() {
            let audiences = issuer["audiences"].as_array().map_or(0, Vec::len);
            assert!(audiences > 0, "{place}: {name} takes tokens that are meant for others");
        }
    }
}
