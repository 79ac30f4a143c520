//! Rust types generated from `wit/`. Only `convert` and `instance` use them.

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "policy",
    // Requests are lowered from borrowed strings, so that nothing is copied twice.
    ownership: Borrowing { duplicate_if_necessary: true },
});
