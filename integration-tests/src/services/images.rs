//! Images of the services, as `make images` has found or built them.

use std::sync::LazyLock;

use serde::Deserialize;
use testcontainers::GenericImage;

use crate::places;

/// The images by service.
#[derive(Debug, Deserialize)]
pub(super) struct Images {
    pub(super) redis: String,
    pub(super) rabbitmq: String,
    pub(super) postgres: String,
}

/// The output of `make images`.
pub(super) static IMAGES: LazyLock<Images> = LazyLock::new(|| {
    let file = places::images();
    let text = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        panic!("{}: {error}; remove it and run `make images`", file.display())
    })
});

/// An image by its reference, such as `redis:7`.
pub(super) fn image(reference: &str) -> GenericImage {
    // A colon before a slash belongs to the port of a registry.
    let (name, tag) = match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (reference, "latest"),
    };
    GenericImage::new(name, tag)
}

#[cfg(test)]
mod tests {
    use testcontainers::Image;

    use super::*;

    #[test]
    fn a_reference_is_a_name_and_a_tag_or_a_digest() {
        let parts = |reference| {
            let image = image(reference);
            (image.name().to_owned(), image.tag().to_owned())
        };
        let pair = |name: &str, tag: &str| (name.to_owned(), tag.to_owned());
        assert_eq!(parts("redis:7"), pair("redis", "7"));
        assert_eq!(parts("redis"), pair("redis", "latest"));
        assert_eq!(parts("registry.test:5000/redis"), pair("registry.test:5000/redis", "latest"));
        assert_eq!(parts("registry.test:5000/redis:7"), pair("registry.test:5000/redis", "7"));
        assert_eq!(parts("redis@sha256:0123"), pair("redis@sha256", "0123"));
    }
}
