//! Code generated from `wit/`. Nothing here is written by hand.

#![expect(clippy::same_length_and_capacity, reason = "generated: that is how lists cross over")]

wit_bindgen::generate!({
    path: "../../wit",
    world: "policy",
    pub_export_macro: true,
    export_macro_name: "export_evaluator",
    default_bindings_module: "portcullis_policy::bindings",
    additional_derives: [PartialEq],
});
