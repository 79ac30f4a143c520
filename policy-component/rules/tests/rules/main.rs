//! The rules as an operator meets them, in one binary: settings in, decisions out.

mod case;
mod examples;
mod meaning;
mod settings;
