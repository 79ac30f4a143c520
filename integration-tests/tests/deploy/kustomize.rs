//! Tests of Kustomize's files: what they list exists, and what exists is listed.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{
    documents::{deploy, files, manifests, yaml_documents},
    types::kustomize::{Behavior, Kustomization},
};

/// Each file with its folder.
fn kustomizations() -> Vec<(PathBuf, Kustomization)> {
    let documents = manifests("").into_iter();
    let of_kustomize = documents.filter(|document| document.path.ends_with("kustomization.yaml"));
    of_kustomize
        .map(|document| (document.path.parent().unwrap().to_owned(), document.typed()))
        .collect()
}

fn listed(kustomization: &Kustomization) -> impl Iterator<Item = &str> {
    let patches = kustomization.patches.iter().map(|patch| &patch.path);
    let generated = kustomization.config_map_generator.iter().flat_map(|map| &map.files);
    let resources = kustomization.resources.iter().chain(&kustomization.components);
    resources.chain(patches).chain(generated).map(String::as_str)
}

#[test]
fn listed_files_exist() {
    let kustomizations = kustomizations();
    assert_eq!(kustomizations.len(), 6);
    for (folder, kustomization) in kustomizations {
        for name in listed(&kustomization) {
            let path = folder.join(name);
            let file = if path.is_dir() { path.join("kustomization.yaml") } else { path };
            assert!(file.is_file(), "{} lists {name}", folder.display());
        }
    }
}

#[test]
fn every_manifest_of_a_kustomization_is_listed() {
    for (folder, kustomization) in kustomizations() {
        let listed: BTreeSet<_> = listed(&kustomization).map(|name| folder.join(name)).collect();
        for file in files(&folder) {
            let same_folder = file.parent() == Some(&folder);
            let manifest = file.extension().is_some_and(|extension| extension == "yaml")
                && !file.ends_with("kustomization.yaml");
            assert!(!(same_folder && manifest) || listed.contains(&file), "{}", file.display());
        }
    }
}

#[test]
fn every_patch_finds_its_target() {
    for (folder, kustomization) in kustomizations() {
        for patch in &kustomization.patches {
            assert_eq!(patch.target.kind, "Deployment");
            let (key, value) = patch.target.label_selector.split_once('=').expect("one label");
            let file = folder.join(&patch.path);
            let patched = &yaml_documents(&file)[0];
            assert_eq!(patched.kind(), "Deployment", "{}", file.display());
            // Ours, or one of the reader's, which must have this label by the README.
            let ours = manifests("kubernetes").into_iter().any(|document| {
                document.kind() == patch.target.kind
                    && document.value["metadata"]["labels"][key] == value
            });
            let readme = super::documents::text(&deploy("istio/same-pod/kustomization.yaml"));
            assert!(ours || readme.contains(&format!("`{key}: {value}`")), "{}", file.display());
        }
    }
}

#[test]
fn the_example_replaces_what_the_base_generates() {
    let find = |folder: &Path| {
        let all = kustomizations();
        all.into_iter().find(|(path, _)| path == folder).expect("it is there").1
    };
    let (base, example) = (find(&deploy("kubernetes")), find(&deploy("example")));
    let generated = &base.config_map_generator[0];
    let replaced = &example.config_map_generator[0];
    assert_eq!(replaced.behavior, Some(Behavior::Replace));
    assert_eq!(replaced.name, generated.name);
    assert_eq!(base.images[0].name, example.images[0].name);
    assert!(base.namespace.is_none(), "the base goes into any namespace");
}
