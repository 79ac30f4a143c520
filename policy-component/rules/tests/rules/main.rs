//! Tests of the rules as an operator meets them, in one binary: settings in, decisions out.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::case_sensitive_file_extension_comparisons,
    clippy::struct_field_names,
    reason = "a panic is how a test reports, and tables of cases are long"
)]

mod case;
mod examples;
mod meaning;
mod order;
mod reads;
mod settings;
