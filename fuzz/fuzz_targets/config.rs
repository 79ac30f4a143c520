//! Fuzz target of the configuration file.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use portcullis::{config, config::Env};

fuzz_target!(|text: &str| {
    match config::parse(text, Path::new("portcullis.yaml"), &Env::default()) {
        Ok(config) => drop(format!("{config:?}")),
        Err(error) => drop(error.to_string()),
    }
});
