//! Test of image names: all can be pulled from the registry that the reader uses.

use super::documents::{deploy, manifests, read, text};
use crate::deploy::types::compose::Compose;

/// The image names in a file.
fn images() -> Vec<String> {
    let compose: Compose = read("compose/compose.yaml");
    let mut images: Vec<_> = compose.services.into_values().map(|service| service.image).collect();
    for manifest in manifests("") {
        let containers = &manifest.value["spec"]["template"]["spec"]["containers"];
        for container in containers.as_array().into_iter().flatten() {
            images.push(container["image"].as_str().expect("a container has an image").to_owned());
        }
    }
    let container_file = text(&deploy("Containerfile"));
    let stages = container_file.lines().filter_map(|line| line.strip_prefix("FROM "));
    images.extend(stages.map(|stage| stage.split(' ').next().unwrap().to_owned()));
    images
}

#[test]
fn no_image_is_tied_to_a_registry() {
    let images = images();
    assert!(images.len() > 10, "{images:?}");
    for image in images {
        let (first, rest) = image.split_once('/').unwrap_or(("", &image));
        // As container engines distinguish a host from an organisation.
        assert!(!first.contains(['.', ':']) && first != "localhost", "{image} names a registry");
        let ours = rest == "portcullis" || rest == "scratch";
        assert!(ours || rest.contains(':'), "{image} may be another one tomorrow: give it a tag");
    }
}
