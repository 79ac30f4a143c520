//! Owns the code generated from `wit/`; it never holds anything written by hand.

wit_bindgen::generate!({
    path: "../../wit",
    world: "policy",
    pub_export_macro: true,
    export_macro_name: "export_evaluator",
    default_bindings_module: "portcullis_policy::bindings",
    additional_derives: [PartialEq],
});
