//! Owns the code generated from `wit/`; it never holds anything written by hand.

#![expect(clippy::same_length_and_capacity, reason = "generated: that is how lists cross over")]

wit_bindgen::generate!({
    path: "../../wit",
    world: "policy",
    pub_export_macro: true,
    export_macro_name: "export_evaluator",
    default_bindings_module: "portcullis_policy::bindings",
    additional_derives: [PartialEq],
});
