//! Component compilation: from bytes to what can be instantiated, and the reasons why they cannot
//! be.

use std::{fmt, sync::Arc};

use aws_lc_rs::digest;
use wasmtime::{
    Engine,
    component::{Component, types::ComponentItem},
};

use super::{
    bindings::PolicyPre,
    instance::StoreState,
    linker::{self, LinkError},
};

/// The interface that a policy exports, without its version.
const EVALUATOR: &str = "portcullis:policy/evaluator";
/// The version of the contract that this host implements.
const VERSION: &str = "0.1.0";
/// The first bytes of a core module and of a component.
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// A compiled and type-checked policy.
#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) pre: PolicyPre<StoreState>,
    pub(super) digest: Arc<str>,
}

/// What a component imports and exports, for `portcullis policy inspect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Digest of the file, as `sha256:` and 64 hexadecimal digits.
    pub digest: Arc<str>,
    /// Names of the imports.
    pub imports: Vec<String>,
    /// Names of the exports.
    pub exports: Vec<String>,
    /// Why it could not serve as a policy; `None` if it can.
    pub refusal: Option<String>,
}

/// Bytes are not a policy.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// Not WebAssembly.
    #[error("it is not a WebAssembly component; build it with `--target wasm32-wasip2`")]
    NotWasm,
    /// A core module.
    #[error(
        "it is a core WebAssembly module, not a component; build it with `--target wasm32-wasip2`"
    )]
    CoreModule,
    /// Broken, cut short, or uses features that are switched off.
    #[error("it does not compile: {0}")]
    Invalid(String),
    /// Exports another version of the contract.
    #[error(
        "it exports `{found}`, this host speaks `{EVALUATOR}@{VERSION}`; rebuild it against \
             the `wit/` folder of this release"
    )]
    WrongVersion {
        /// What it exports instead.
        found: String,
    },
    /// Does not export the contract at all.
    #[error(
        "it does not export `{EVALUATOR}@{VERSION}`; implement the world `portcullis:policy/policy`"
    )]
    WrongWorld,
    /// Exports the interface with other types.
    #[error("its `{EVALUATOR}` has other types than the contract: {0}")]
    WrongTypes(String),
    /// Cannot be linked.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Compiles and type-checks. Takes long; never call it on a task that serves requests.
///
/// # Errors
/// When the bytes are not a component, or not a policy.
pub(super) fn prepare(engine: &Engine, bytes: &[u8]) -> Result<Prepared, PrepareError> {
    let component = compile(engine, bytes)?;
    check_exports(&exports(engine, &component))?;
    let instance_pre = linker::link(engine, &component)?;
    let pre = PolicyPre::new(instance_pre)
        .map_err(|error| PrepareError::WrongTypes(format!("{error:#}")))?;
    Ok(Prepared { pre, digest: digest_of(bytes) })
}

/// Describes a component, usable or not.
///
/// # Errors
/// When the bytes are no component at all.
pub(super) fn inspect(engine: &Engine, bytes: &[u8]) -> Result<Inspection, PrepareError> {
    let component = compile(engine, bytes)?;
    Ok(Inspection {
        digest: digest_of(bytes),
        imports: linker::imports(engine, &component),
        exports: exports(engine, &component),
        refusal: prepare(engine, bytes).err().map(|error| error.to_string()),
    })
}

fn compile(engine: &Engine, bytes: &[u8]) -> Result<Component, PrepareError> {
    if bytes.starts_with(CORE_MODULE) {
        return Err(PrepareError::CoreModule);
    }
    if !bytes.starts_with(COMPONENT) {
        return Err(PrepareError::NotWasm);
    }
    Component::from_binary(engine, bytes)
        .map_err(|error| PrepareError::Invalid(format!("{error:#}")))
}

fn exports(engine: &Engine, component: &Component) -> Vec<String> {
    let ty = component.component_type();
    ty.exports(engine)
        .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentInstance(_)))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// Distinguishes a missing interface from one of another version; wasmtime reports both alike.
fn check_exports(exports: &[String]) -> Result<(), PrepareError> {
    let versions = exports.iter().filter(|name| name.split('@').next() == Some(EVALUATOR));
    let mut found = None;
    for name in versions {
        let version = name.split('@').nth(1).unwrap_or_default();
        // Within 0.1, every later version has at least what earlier ones have.
        if version.starts_with("0.1.") && !version.contains('-') {
            return Ok(());
        }
        found = Some(name.clone());
    }
    Err(found.map_or(PrepareError::WrongWorld, |found| PrepareError::WrongVersion { found }))
}

fn digest_of(bytes: &[u8]) -> Arc<str> {
    use fmt::Write;

    let mut text = String::from("sha256:");
    for byte in digest::digest(&digest::SHA256, bytes).as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("digest", &self.digest).finish_non_exhaustive()
    }
}
