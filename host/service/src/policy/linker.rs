//! Linker of policies: the list of what a policy can reach, which is nothing.
//!
//! A policy is a function of its settings and the request. Standard libraries nevertheless import
//! interfaces for streams, arguments and exit codes, used or not, so those may be imported; but
//! there is nothing behind them, and a call to one ends like any other trap.

use wasmtime::{
    Engine,
    component::{Component, InstancePre, Linker},
};

use super::instance::StoreState;

/// Interface packages that may be imported, and that trap when called.
pub const INERT_PACKAGES: [&str; 2] = ["wasi:cli/", "wasi:io/"];

/// A component cannot be linked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It imports something that policies do not get.
    #[error(
        "it imports `{import}`, which policies do not get; remove what needs it (in Rust, \
         `std::fs`, `std::net`, clocks, random numbers and `HashMap` with its default hasher)"
    )]
    ForbiddenImport {
        /// The name of the import.
        import: String,
    },
    /// wasmtime refuses it.
    #[error("it cannot be instantiated: {0}")]
    Refused(String),
}

/// Resolves the imports of `component`.
///
/// # Errors
/// When it imports anything that is not on the list.
pub(super) fn link(
    engine: &Engine,
    component: &Component,
) -> Result<InstancePre<StoreState>, LinkError> {
    if let Some(import) = imports(engine, component).into_iter().find(|name| !is_inert(name)) {
        return Err(LinkError::ForbiddenImport { import });
    }
    let refused = |error: wasmtime::Error| LinkError::Refused(format!("{error:#}"));
    let mut linker = Linker::new(engine);
    linker.define_unknown_imports_as_traps(component).map_err(refused)?;
    linker.instantiate_pre(component).map_err(refused)
}

/// The names of everything that `component` imports.
pub(super) fn imports(engine: &Engine, component: &Component) -> Vec<String> {
    component.component_type().imports(engine).map(|(name, _)| name.to_owned()).collect()
}

fn is_inert(import: &str) -> bool {
    INERT_PACKAGES.iter().any(|package| import.starts_with(package))
}
