//! The command `portcullis revoke`: revoking from the command line, for all replicas.
//!
//! It never prints a token or a token id.

use std::{
    fmt,
    future::pending,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{ArgGroup, Args};
use portcullis_revocation as revocation;
use portcullis_revocation::{
    BlankTargetError, Redis, RedisBuildError, Revocation, RevokeError, RevokeOptions, Revoked,
    Revoker, Target,
};
use portcullis_runtime::telemetry::RedisMetrics;
use portcullis_types::{duration::HumanDuration, secret::ShownPath, timestamp::Timestamp};

use super::{CliError, ConfigFile, print, runtime};
use crate::{
    config::Config,
    token::{UnverifiedToken, VerifyError},
};

#[derive(Args)]
#[command(
    group = ArgGroup::new("target").required(true).multiple(true),
    after_help = "Exit codes: 0 it is stored (with --wait: and applied by every ready replica), \
                  1 it is not stored, or it is unknown whether it is, 2 the options or the \
                  configuration are wrong, 3 it is stored but not all replicas have confirmed in \
                  time."
)]
pub(super) struct Revoke {
    #[command(flatten)]
    config: ConfigFile,
    /// The token with this id (`jti`).
    #[arg(long, value_name = "ID", group = "target",
          conflicts_with_all = ["token_file", "sub", "sid", "iss", "issued_before"])]
    jti: Option<String>,
    /// The token in this file, `-` being standard input, with or without `Bearer` before it. Its id,
    /// expiry and subject are taken from it WITHOUT checking its signature.
    #[arg(long, value_name = "FILE", group = "target",
          conflicts_with_all = ["sub", "sid", "iss", "issued_before", "expires_at"])]
    token_file: Option<PathBuf>,
    /// All tokens of this subject (`sub`), with --iss those of one issuer only.
    #[arg(long, value_name = "SUBJECT", group = "target", conflicts_with = "sid")]
    sub: Option<String>,
    /// All tokens whose `sid` is this, with --iss those of one issuer only.
    #[arg(long, value_name = "SESSION", group = "target")]
    sid: Option<String>,
    /// All tokens of this issuer (`iss`).
    #[arg(long, value_name = "ISSUER", group = "target")]
    iss: Option<String>,
    /// With --sub: but for tokens whose `sid` is this, so that one session goes on.
    #[arg(long, value_name = "SESSION", requires = "sub",
          conflicts_with_all = ["jti", "token_file", "sid", "remove"])]
    except_sid: Option<String>,
    /// Of many tokens, those that were issued at this time or earlier. Without it now, and
    /// `blacklist.skew` for the clock of the issuer, so that a login has to be repeated if it is made
    /// within that time. RFC 3339 or Unix seconds.
    #[arg(long, value_name = "TIME", value_parser = revocation::parse_time)]
    issued_before: Option<Timestamp>,
    /// Take a time that lies further ahead than `blacklist.skew`, although logins are refused until
    /// then.
    #[arg(long, requires = "issued_before", conflicts_with_all = ["jti", "token_file", "remove"])]
    future: bool,
    /// When the last of these tokens expires by itself; never without it, or before the year 2000.
    /// RFC 3339 or Unix seconds.
    #[arg(long, value_name = "TIME", value_parser = revocation::parse_time)]
    expires_at: Option<Timestamp>,
    /// Why, for people who read the store.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// End the revocation instead.
    #[arg(long, conflicts_with_all = ["issued_before", "expires_at"])]
    remove: bool,
    /// Wait until every replica that is ready and reaches the store has applied it, and say how long
    /// that took.
    #[arg(long)]
    wait: bool,
    /// How long to wait, at most a minute.
    #[arg(long, value_name = "DURATION", requires = "wait", default_value = "5s")]
    timeout: HumanDuration,
}

/// A revocation failed.
#[derive(Debug, thiserror::Error)]
pub enum RevokeCommandError {
    /// Nowhere to write it.
    #[error(
        "`blacklist.redis`: is missing, so there is no store that replicas share; add it, or revoke \
         through the admin API of the one process (`POST /v1/revocations`)"
    )]
    NoStore,
    /// The sections of the configuration contradict each other.
    #[error(transparent)]
    Config(#[from] revocation::ConfigError),
    /// The store is configured in a way that cannot work.
    #[error(transparent)]
    Redis(#[from] RedisBuildError),
    /// What is to be revoked has no name.
    #[error(transparent)]
    Target(#[from] BlankTargetError),
    /// The token cannot be read.
    #[error("{}: cannot read the token: {source}; check the path and the permissions", ShownPath::of(.path))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The text is not a token, or the token cannot be revoked by its id.
    #[error("{}: {source}; give a signed JWT with a `jti`, or use --sub, --sid or --iss", .path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: VerifyError,
    },
    /// It could not be stored.
    #[error(transparent)]
    Revoke(#[from] RevokeError),
    /// There is no replica, as far as the store knows.
    #[error(
        "stored, but no replica has reported ready within {0:?}; replicas that start will read it"
    )]
    NoReplica(Duration),
    /// Some replicas have not confirmed.
    #[error(
        "stored, but {missing} of {replicas} ready replicas have not confirmed within {took:?}; see \
         whether a relay runs, and `GET /v1/revocations` of each replica"
    )]
    NotConfirmed {
        /// How many have not.
        missing: usize,
        /// How many there are.
        replicas: usize,
        /// How long they had.
        took: Duration,
    },
    /// There may be more replicas than the store knows of.
    #[error(
        "stored, and applied by {replicas} replicas, but the store has known its replicas for less \
         than two seconds, and others may be ready; was it flushed? Repeat the command"
    )]
    MayLackSome {
        /// How many have confirmed.
        replicas: usize,
    },
}

// === impl Revoke ===

impl Revoke {
    pub(super) fn run(self) -> Result<(), CliError> {
        let config = self.config.read()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let text = runtime::block_on(runtime, self.revoke(&config))?;
        print(&text)
    }

    async fn revoke(&self, config: &Config) -> Result<String, RevokeCommandError> {
        config.blacklist.check()?;
        if config.blacklist.is_in_process() {
            return Err(RevokeCommandError::NoStore);
        }
        let margin = revocation::margin(&config.blacklist, config.longest_leeway());
        let redis = config.blacklist.redis.as_ref();
        let built = redis.map(|redis| Redis::build(redis, RedisMetrics::default())).transpose()?;
        let (redis, keeper) = built.unzip();
        let revoker = Revoker::new(&config.blacklist, margin, None, redis);
        let issued_before =
            self.issued_before.unwrap_or_else(|| revoker.issued_until(Timestamp::now()));
        let revocation = self.revocation(issued_before, config.tokens.max_bytes)?;
        let wait = self.wait.then(|| self.timeout.get());
        let options = RevokeOptions { wait, future: self.future };
        let keeping = async {
            match &keeper {
                Some(keeper) => keeper.keep().await,
                None => pending().await,
            }
        };
        let outcome = tokio::select! {
            outcome = revoker.revoke(&revocation, options) => outcome?,
            never = keeping => match never {},
        };
        self.say(outcome)
    }

    fn revocation(
        &self,
        issued_before: Timestamp,
        max_token_bytes: usize,
    ) -> Result<Revocation, RevokeCommandError> {
        let issuer = self.iss.as_deref();
        let mut expires_at = self.expires_at;
        let mut user_id = None;
        let target = if let Some(path) = &self.token_file {
            let token = read_token(path, max_token_bytes)?;
            expires_at = token.expires_at;
            user_id = token.subject;
            Target::token(&token.jti)?
        } else if let Some(jti) = &self.jti {
            Target::token(jti)?
        } else if let Some(subject) = &self.sub {
            Target::subject(issuer, subject)?
        } else if let Some(session_id) = &self.sid {
            Target::session(issuer, session_id)?
        } else {
            Target::issuer(issuer.unwrap_or_default())?
        };
        let revocation = if self.remove {
            Revocation::unrevoke(target)
        } else {
            let revocation = Revocation::revoke(target, issued_before).expires_at(expires_at);
            revocation.except_session(self.except_sid.as_deref())?
        };
        Ok(revocation.user_id(user_id).reason(self.reason.clone()))
    }

    fn say(&self, revoked: Revoked) -> Result<String, RevokeCommandError> {
        let unverified = match self.token_file {
            Some(_) => " (as the token says, whose signature was not checked)",
            None => "",
        };
        if revoked.over > 0 {
            return Ok(format!(
                "nothing to do: the token is refused already, as expired{unverified}\n"
            ));
        }
        let done = if self.remove { "no longer revoked" } else { "revoked" };
        let logins = revoked
            .logins_from
            .and_then(revocation::write_time)
            .map(|time| format!("; new logins pass from {time} on"))
            .unwrap_or_default();
        let Some(receipt) = revoked.receipt else {
            return Ok(format!("{done}: stored{unverified}{logins}\n"));
        };
        let took = receipt.took;
        if receipt.replicas == 0 {
            return Err(RevokeCommandError::NoReplica(took));
        }
        if receipt.missing == 0 && receipt.replicas_unknown {
            return Err(RevokeCommandError::MayLackSome { replicas: receipt.replicas });
        }
        if !receipt.is_complete() {
            let (missing, replicas) = (receipt.missing, receipt.replicas);
            return Err(RevokeCommandError::NotConfirmed { missing, replicas, took });
        }
        let (replicas, millis) = (receipt.replicas, took.as_millis());
        let replicas =
            if replicas == 1 { "1 replica".into() } else { format!("{replicas} replicas") };
        Ok(format!("{done}: applied by {replicas} after {millis} ms{unverified}{logins}\n"))
    }
}

impl fmt::Debug for Revoke {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revoke").field("config", &self.config).finish_non_exhaustive()
    }
}

// === impl RevokeCommandError ===

impl RevokeCommandError {
    /// 2 where the operator's input is wrong, 3 where it is stored but not confirmed.
    pub(super) const fn exit_code(&self) -> u8 {
        match self {
            Self::Revoke(RevokeError::Unconfirmed(_))
            | Self::NoReplica(_)
            | Self::MayLackSome { .. }
            | Self::NotConfirmed { .. } => 3,
            Self::Revoke(error) if !matches!(error, RevokeError::Future { .. }) => 1,
            _ => 2,
        }
    }
}

fn read_token(path: &Path, max_bytes: usize) -> Result<UnverifiedToken, RevokeCommandError> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(path).map(|content| text = content)
    };
    read.map_err(|source| RevokeCommandError::Unreadable { path: path.to_owned(), source })?;
    UnverifiedToken::read(text.trim(), max_bytes)
        .map_err(|source| RevokeCommandError::Token { path: path.to_owned(), source })
}
