//! Owns how a connection to the primary comes about: straight to its address, or by asking
//! sentinels for it and checking that they are right.

use std::{fmt, path::Path, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisConnectionInfo, TlsCertificates, aio::MultiplexedConnection,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::time::timeout;

use super::{
    super::config::{Endpoint, RedisConfig},
    BuildError,
    error::{StoreError, describe},
};
use crate::secret::{Secret, ShownPath};

/// Knows where the primary is, or who knows it.
pub(super) struct Connector {
    /// The primary; with sentinels, everything about it but where it is.
    primary: ConnectionInfo,
    sentinels: Option<Sentinels>,
}

/// A connection, and where it leads.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) to: MultiplexedConnection,
    pub(super) address: Address,
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    host: String,
    port: u16,
}

/// What is known of the server at the other end of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is the primary.
    Primary,
    /// It is none, or none any more.
    Former,
    /// It may be cut off: nobody who knows could be asked.
    Unknown(StoreError),
}

struct Sentinels {
    master_name: String,
    all: Vec<ConnectionInfo>,
}

/// How long one server may take to let us in.
const CONNECT_LIMIT: Duration = Duration::from_millis(500);

/// How long a sentinel may take to answer. All are asked at the same time.
const SENTINEL_LIMIT: Duration = Duration::from_millis(500);

// === impl Connector ===

impl Connector {
    /// Reads the files that the configuration names; connects to nothing.
    pub(super) fn new(config: &RedisConfig) -> Result<Self, BuildError> {
        let primary = primary(config)?;
        let sentinels = match &config.master_name {
            Some(master_name) if !config.sentinels.is_empty() => {
                Some(Sentinels::new(master_name, config, &primary)?)
            }
            _ => None,
        };
        Ok(Self { primary, sentinels })
    }

    /// Whether sentinels say who the primary is.
    pub(super) const fn has_sentinels(&self) -> bool {
        self.sentinels.is_some()
    }

    /// Connects to the primary.
    pub(super) async fn connect(&self) -> Result<Connection, StoreError> {
        let Some(sentinels) = &self.sentinels else {
            let address = Address::of(&self.primary);
            return Ok(Connection { to: connect(&self.primary).await?, address });
        };
        let address = sentinels.primary().await?;
        let to = self.connect_to_primary(&address).await?;
        Ok(Connection { to, address })
    }

    /// Whether a connection that was made to `address` still leads to the primary. Without
    /// sentinels the address is taken at its word.
    pub(super) async fn leads_to_primary(
        &self,
        connection: MultiplexedConnection,
        address: &Address,
    ) -> Result<bool, StoreError> {
        if self.sentinels.is_none() {
            return Ok(true);
        }
        match self.standing(connection, address).await {
            Standing::Primary => Ok(true),
            Standing::Former => Ok(false),
            Standing::Unknown(error) => Err(error),
        }
    }

    /// Whether most sentinels, if there are any, name the server at `address`.
    pub(super) async fn is_named(&self, address: &Address) -> Result<bool, StoreError> {
        match &self.sentinels {
            Some(sentinels) => Ok(sentinels.primary().await? == *address),
            None => Ok(true),
        }
    }

    /// What is known of the server to which a connection was made. One that was cut off from its
    /// sentinels calls itself the primary still, so its own word is not enough.
    pub(super) async fn standing(
        &self,
        mut connection: MultiplexedConnection,
        address: &Address,
    ) -> Standing {
        let Some(sentinels) = &self.sentinels else {
            // Another server may have got the address meanwhile. Whoever may not ask has to hope.
            return match is_primary(&mut connection).await {
                Ok(false) => Standing::Former,
                Ok(true) | Err(_) => Standing::Primary,
            };
        };
        let (is_primary, named) = tokio::join!(is_primary(&mut connection), sentinels.primary());
        match (is_primary, named) {
            (Ok(true), Ok(named)) if named == *address => Standing::Primary,
            (Err(error), Ok(named)) if named == *address => Standing::Unknown(error),
            (Ok(true) | Err(_), Err(error)) => Standing::Unknown(error),
            _ => Standing::Former,
        }
    }

    /// A sentinel may not have heard yet that a primary is none any more.
    async fn connect_to_primary(
        &self,
        address: &Address,
    ) -> Result<MultiplexedConnection, StoreError> {
        let mut connection = connect(&address.on(&self.primary)).await?;
        if is_primary(&mut connection).await? {
            return Ok(connection);
        }
        Err(StoreError::Connect {
            address: address.to_string(),
            cause: "the sentinels name it, but it is no primary (yet, or any more)".to_owned(),
        })
    }
}

/// Whether the server at the other end calls itself a primary.
async fn is_primary(connection: &mut MultiplexedConnection) -> Result<bool, StoreError> {
    let role = redis::cmd("ROLE");
    let answer = timeout(CONNECT_LIMIT, role.query_async::<Vec<redis::Value>>(connection)).await;
    let role = answer
        .map_err(|_| StoreError::Timeout(CONNECT_LIMIT))?
        .map_err(|error| StoreError::of(&error))?;
    Ok(matches!(role.first(), Some(redis::Value::BulkString(name)) if name == b"master"))
}

async fn connect(info: &ConnectionInfo) -> Result<MultiplexedConnection, StoreError> {
    let failed = |cause| StoreError::Connect { address: Address::of(info).to_string(), cause };
    let client = Client::open(info.clone()).map_err(|error| failed(describe(&error)))?;
    // The limits are ours; those of the library would only be second ones.
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    match timeout(CONNECT_LIMIT, connecting).await {
        Ok(connected) => connected.map_err(|error| failed(describe(&error))),
        Err(_) => Err(failed(format!(
            "no answer within {CONNECT_LIMIT:?}; check host and port, and whether it needs TLS \
             (`rediss://`) or has none"
        ))),
    }
}

fn primary(config: &RedisConfig) -> Result<ConnectionInfo, BuildError> {
    const SECTION: &str = "blacklist.redis";
    let by_sentinels = Endpoint::new("redis://sentinels");
    let url = match (&config.url, &config.url_file) {
        (None, None) if !config.sentinels.is_empty() => Some(&by_sentinels),
        (url, _) => url.as_ref(),
    };
    let (url_file, password_file) = (config.url_file.as_deref(), config.password_file.as_deref());
    let endpoint = Endpoint::resolve(SECTION, url, url_file, password_file)?;
    if !["redis://", "rediss://"].iter().any(|scheme| endpoint.expose().starts_with(scheme)) {
        return Err(BuildError::new("url", "write `redis://host:port/database`, or `rediss://`"));
    }
    let info = endpoint.expose().into_connection_info().map_err(|_| {
        BuildError::new("url", "not an address; write `redis://user@host:port/database`")
    })?;
    if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
        return Err(BuildError::new(
            "url",
            "`#insecure` would trust anybody; remove it, and name a `ca_file`",
        ));
    }
    let mut redis = info.redis_settings().clone();
    if let Some(username) = &config.username {
        redis = redis.set_username(username);
    }
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    let info = info.set_redis_settings(redis).set_tcp_settings(tcp);
    match (info.addr(), &config.ca_file) {
        (ConnectionAddr::TcpTls { .. }, Some(file)) => with_roots(info, file),
        (_, Some(_)) => Err(BuildError::new(
            "ca_file",
            "means nothing without TLS; write the address with `rediss://`, or remove this",
        )),
        (_, None) => Ok(info),
    }
}

/// The same, trusting the certificates in `file` only.
fn with_roots(info: ConnectionInfo, file: &Path) -> Result<ConnectionInfo, BuildError> {
    let unusable =
        |message: &str| BuildError::new("ca_file", format!("{}: {message}", ShownPath::of(file)));
    let pem = std::fs::read(file).map_err(|error| unusable(&format!("cannot read it: {error}")))?;
    let roots = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    if !roots.is_ok_and(|roots| !roots.is_empty()) {
        return Err(unusable("holds no certificate; it must be PEM"));
    }
    let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
    let client = Client::build_with_tls(info, certificates)
        .map_err(|_| unusable("holds a certificate that cannot be a trust anchor"))?;
    Ok(client.get_connection_info().clone())
}

// === impl Sentinels ===

impl Sentinels {
    fn new(
        master_name: &str,
        config: &RedisConfig,
        primary: &ConnectionInfo,
    ) -> Result<Self, BuildError> {
        let mut redis = RedisConnectionInfo::default();
        if let Some(file) = &config.sentinel_password_file {
            let unusable = |message: String| BuildError::new("sentinel_password_file", message);
            let secret = Secret::read(file).map_err(|error| unusable(error.to_string()))?;
            let password = std::str::from_utf8(secret.expose())
                .map_err(|_| unusable(format!("{}: the file is not UTF-8", file.display())))?;
            redis = redis.set_password(password);
        }
        // The text is not shown: it may be a URL with a password.
        let info = |(index, text): (usize, &String)| {
            let address = Address::parse(text).ok_or_else(|| {
                let message = format!("[{index}] is not an address; write host:port");
                BuildError::new("sentinels", message)
            })?;
            Ok(address.on(primary).set_redis_settings(redis.clone()))
        };
        let all =
            config.sentinels.iter().enumerate().map(info).collect::<Result<_, BuildError>>()?;
        Ok(Self { master_name: master_name.to_owned(), all })
    }

    /// Where the primary is. Most sentinels have to say so: one of them may be cut off together with
    /// a primary that the others have replaced.
    async fn primary(&self) -> Result<Address, StoreError> {
        let mut asked: FuturesUnordered<_> = self.all.iter().map(|info| self.ask(info)).collect();
        let majority = self.all.len() / 2 + 1;
        let mut votes: Vec<(usize, Address)> = Vec::new();
        let mut cause = None;
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(address) => match votes.iter_mut().find(|(_, other)| *other == address) {
                    Some((count, _)) => *count += 1,
                    None => votes.push((1, address)),
                },
                Err(error) => cause = Some(error),
            }
            if let Some(most) = votes.iter().position(|(count, _)| *count >= majority) {
                return Ok(votes.swap_remove(most).1);
            }
        }
        let known = votes.iter().map(|(count, _)| count).max().unwrap_or(&0);
        let few = format!("it takes {majority} that name the same one, and there are {known}");
        Err(StoreError::NoPrimary {
            master_name: self.master_name.clone(),
            cause: cause.map_or_else(|| few.clone(), |cause| format!("{few}; {cause}")),
        })
    }

    async fn ask(&self, sentinel: &ConnectionInfo) -> Result<Address, String> {
        let asked = async {
            let mut connection = connect(sentinel).await.map_err(|error| error.to_string())?;
            let mut question = redis::cmd("SENTINEL");
            question.arg("get-master-addr-by-name").arg(&self.master_name);
            let address: Option<(String, u16)> = question
                .query_async(&mut connection)
                .await
                .map_err(|error| StoreError::of(&error).to_string())?;
            let unknown = || format!("{} knows no primary of this name", Address::of(sentinel));
            address.map(|(host, port)| Address { host, port }).ok_or_else(unknown)
        };
        timeout(SENTINEL_LIMIT, asked).await.unwrap_or_else(|_| {
            Err(format!("{} did not answer within {SENTINEL_LIMIT:?}", Address::of(sentinel)))
        })
    }
}

// === impl Address ===

impl Address {
    fn of(info: &ConnectionInfo) -> Self {
        match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Self { host: host.clone(), port: *port }
            }
            other => Self { host: other.to_string(), port: 0 },
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.strip_prefix('[').map_or(Some(host), |host| host.strip_suffix(']'))?;
        let sound = !host.is_empty() && !host.contains(['/', '@', ' ']);
        sound.then_some(Self { host: host.to_owned(), port: port.parse().ok()? })
    }

    /// `info` with this address, with TLS if it has TLS.
    fn on(&self, info: &ConnectionInfo) -> ConnectionInfo {
        let host = self.host.clone();
        let address = match info.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host,
                port: self.port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host, self.port),
        };
        info.clone().set_addr(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sentinels {
            Some(sentinels) => write!(f, "Connector(sentinels of {})", sentinels.master_name),
            None => write!(f, "Connector({})", Address::of(&self.primary)),
        }
    }
}

#[cfg(test)]
mod tests;
