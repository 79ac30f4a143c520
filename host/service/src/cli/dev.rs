//! The command `portcullis dev`: a complete service on loopback, with generated keys, to play with.
//!
//! It is `serve` with its own configuration; production reaches nothing of it.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use clap::Args;
use jsonwebtoken::{Algorithm, EncodingKey};
use portcullis_types::timestamp::Timestamp;
use serde_json::{Value, json};

use super::{CliError, demo, serve};
use crate::config::{self, ConfigError, Env};

/// How long the sample tokens live.
const TOKEN_LIFETIME_SECS: i64 = 24 * 3600;

#[derive(Debug, Args)]
pub(super) struct Dev {
    /// The policy to start with: the default component, `portcullis_rules.wasm`.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// The policy to swap in: `portcullis_maintenance.wasm`.
    #[arg(long, value_name = "FILE")]
    swap_with: PathBuf,
    /// Where to put keys, tokens and policies. A new temporary folder without it.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Let the operating system choose the ports.
    #[arg(long)]
    any_port: bool,
}

/// The sandbox cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// A file cannot be written or copied.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// No random numbers, or a token that cannot be signed.
    #[error("cannot generate keys: {0}")]
    Keys(String),
    /// The generated configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Dev {
    pub(super) fn run(self) -> Result<(), CliError> {
        let folder = self.prepare()?;
        let file = folder.join("portcullis.yaml");
        let config = config::read(&file, &Env::default()).map_err(DevError::from)?;
        serve(&config, None, move |addresses| {
            let addresses = addresses.clone();
            // Nothing waits for its reader.
            std::thread::spawn(move || demo::print(&folder, &addresses));
        })
    }

    /// Fills the folder and returns it.
    fn prepare(&self) -> Result<PathBuf, DevError> {
        let folder = match &self.folder {
            Some(folder) => folder.clone(),
            None => std::env::temp_dir().join(format!("portcullis-dev-{}", random_text(6)?)),
        };
        create_private(&folder)?;
        let secret = random_text(32)?;
        write(&folder.join("jwt.secret"), &secret)?;
        write(&folder.join("admin.token"), &random_text(32)?)?;
        for user in ["alice", "bob"] {
            let jti = format!("{user}-{}", random_text(9)?);
            let now = Timestamp::now().as_secs();
            let claims = json!({
                "iss": "https://dev.portcullis.invalid", "aud": "dev", "sub": user, "jti": jti,
                "scope": "reports:read", "iat": now, "exp": now + TOKEN_LIFETIME_SECS,
            });
            write(&folder.join(format!("{user}.jwt")), &sign(&claims, &secret)?)?;
            write(
                &folder.join(format!("revoke-{user}.json")),
                &json!({ "type": "add", "jti": jti }).to_string(),
            )?;
        }
        copy(&self.policy, &folder.join("rules.wasm"))?;
        copy(&self.policy, &folder.join("policy.wasm"))?;
        copy(&self.swap_with, &folder.join("maintenance.wasm"))?;
        let yaml = demo::config(&folder, |port| {
            SocketAddr::from(([127, 0, 0, 1], if self.any_port { 0 } else { port }))
        });
        write(&folder.join("portcullis.yaml"), &yaml)?;
        Ok(folder)
    }
}

/// It holds keys, so other users may not look inside.
fn create_private(folder: &Path) -> Result<(), DevError> {
    use std::os::unix::fs::DirBuilderExt;

    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder).map_err(at(folder))
}

fn write(path: &Path, text: &str) -> Result<(), DevError> {
    fs::write(path, text).map_err(at(path))
}

fn copy(from: &Path, to: &Path) -> Result<(), DevError> {
    fs::copy(from, to).map(drop).map_err(at(from))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DevError + '_ {
    move |source| DevError::File { path: path.to_owned(), source }
}

fn random_text(bytes: usize) -> Result<String, DevError> {
    let mut buffer = vec![0; bytes];
    SystemRandom::new()
        .fill(&mut buffer)
        .map_err(|_| DevError::Keys("the operating system gives no random numbers".to_owned()))?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(buffer))
}

fn sign(claims: &Value, secret: &str) -> Result<String, DevError> {
    let header = jsonwebtoken::Header::new(Algorithm::HS256);
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes()))
        .map_err(|error| DevError::Keys(error.to_string()))
}
