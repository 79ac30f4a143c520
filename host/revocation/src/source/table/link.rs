//! One connection to PostgreSQL: opening it, and polling it while its results are awaited.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    path::Path,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, Error, Notification, Socket,
    config::{SslMode, TargetSessionAttrs},
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{SECTION, fault::Fault};
use crate::{
    config::{Endpoint, EndpointError, PostgresConfig},
    tls,
};

/// For name resolution, the handshakes and the login together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// After this long the kernel notices a peer that is gone.
const PEER_TIMEOUT: Duration = Duration::from_secs(2);

/// Turns off time limits of servers that are configured for short queries: reading a table may take
/// long, and a listening connection is idle.
const PREPARE: &str = "SELECT set_config(name, '0', false) FROM pg_settings \
     WHERE name IN ('statement_timeout', 'transaction_timeout', 'idle_session_timeout')";

/// Opens connections.
pub(super) struct PgConnector {
    config: Config,
    tls: MakeRustlsConnect,
}

/// An open connection.
pub(super) struct PgLink {
    pub(super) client: Arc<Client>,
    pub(super) wire: Wire,
}

/// The connection itself. It makes progress only while one of its methods is awaited. All of them
/// are cancel safe.
pub(super) struct Wire {
    connection: Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>,
    heard: VecDeque<Notification>,
}

// === impl PgConnector ===

impl PgConnector {
    pub(super) fn new(config: &PostgresConfig) -> Result<Self, EndpointError> {
        let endpoint = Endpoint::resolve(
            SECTION,
            config.url.as_ref(),
            config.url_file.as_deref(),
            config.password_file.as_deref(),
        )?;
        let ca_file = config.ca_file.as_deref();
        let config = settings(&endpoint, ca_file)?;
        let tls = match tls::client_config(SECTION, ca_file) {
            Err(error) if ca_file.is_some() || config.get_ssl_mode() == SslMode::Require => {
                return Err(error);
            }
            // Without TLS it does not matter that the system has no certificates.
            Err(_) => no_certificates()?,
            Ok(tls) => tls,
        };
        Ok(Self { config, tls: MakeRustlsConnect::new(tls) })
    }

    pub(super) async fn connect(&self) -> Result<PgLink, Fault> {
        let connect = async {
            let (client, connection) = self.config.connect(self.tls.clone()).await?;
            let mut wire = Wire { connection, heard: VecDeque::new() };
            wire.during(client.batch_execute(PREPARE)).await?;
            Ok(PgLink { client: Arc::new(client), wire })
        };
        tokio::time::timeout(CONNECT_TIMEOUT, connect).await.map_err(|_| Fault::Unreachable)?
    }
}

/// A configuration without any trust root.
fn no_certificates() -> Result<ClientConfig, EndpointError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| EndpointError::new(SECTION, "url", &error.to_string()))?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn settings(endpoint: &Endpoint, ca_file: Option<&Path>) -> Result<Config, EndpointError> {
    let unusable = |message: &str| EndpointError::new(SECTION, "url", message);
    // The client's own message may quote a part of the password.
    let mut config: Config = with_known_mode(endpoint.expose()).parse().map_err(|_| {
        unusable(
            "not an address of PostgreSQL; write `postgres://user@host:5432/database`, escape \
             what is special in a URL (%40 for @), and let `sslmode` be disable, prefer or require",
        )
    })?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(unusable("no host; write `postgres://user@host:5432/database`"));
    }
    match (ca_file, config.get_ssl_mode()) {
        (Some(_), SslMode::Disable) => {
            return Err(unusable("`sslmode=disable` contradicts `ca_file`; remove one of them"));
        }
        // A configured CA file means that TLS must not be downgraded.
        (Some(_), _) => drop(config.ssl_mode(SslMode::Require)),
        (None, _) => {}
    }
    let several = config.get_hosts().len() > 1;
    if several && config.get_target_session_attrs() == TargetSessionAttrs::Any {
        // A standby has no notifications.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    if config.get_application_name().is_none() {
        config.application_name("portcullis");
    }
    if config.get_connect_timeout().is_none() {
        // For each host, so that the next one is tried in time.
        config.connect_timeout(PEER_TIMEOUT);
    }
    config
        .tcp_user_timeout(PEER_TIMEOUT)
        .keepalives_idle(Duration::from_secs(1))
        .keepalives_interval(Duration::from_secs(1))
        .keepalives_retries(2);
    Ok(config)
}

/// Certificates are always verified in full, so the stricter modes of other clients mean the same.
fn with_known_mode(url: &str) -> String {
    let Some((address, query)) = url.split_once('?') else { return url.to_owned() };
    let options = query.split('&').map(|option| match option {
        "sslmode=verify-full" | "sslmode=verify-ca" => "sslmode=require",
        other => other,
    });
    format!("{address}?{}", options.collect::<Vec<_>>().join("&"))
}

// === impl Wire ===

impl Wire {
    /// Awaits `work`, a request over this connection.
    pub(super) async fn during<T>(
        &mut self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Fault> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done?),
                message = self.message() => self.keep(message?),
            }
        }
    }

    /// The next notification.
    pub(super) async fn notification(&mut self) -> Result<Notification, Fault> {
        loop {
            if let Some(notification) = self.heard.pop_front() {
                return Ok(notification);
            }
            let message = self.message().await?;
            self.keep(message);
        }
    }

    async fn message(&mut self) -> Result<AsyncMessage, Fault> {
        match poll_fn(|context| self.connection.poll_message(context)).await {
            Some(message) => Ok(message?),
            None => Err(Fault::Closed),
        }
    }

    fn keep(&mut self, message: AsyncMessage) {
        match message {
            AsyncMessage::Notification(notification) => self.heard.push_back(notification),
            AsyncMessage::Notice(notice) => {
                tracing::debug!(message = notice.message(), "notice from PostgreSQL");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str, ca_file: Option<&str>) -> Result<Config, String> {
        settings(&Endpoint::new(url), ca_file.map(Path::new)).map_err(|error| error.to_string())
    }

    #[test]
    fn certificates_are_asked_for_as_strictly_as_the_address_says() {
        let mode = |url: &str, ca| parse(url, ca).unwrap().get_ssl_mode();
        assert_eq!(mode("postgres://u@h/d", None), SslMode::Prefer);
        assert_eq!(mode("postgres://u@h/d", Some("ca.pem")), SslMode::Require);
        assert_eq!(mode("postgres://u@h/d?sslmode=prefer", Some("ca.pem")), SslMode::Require);
        assert_eq!(mode("postgres://u@h/d?sslmode=disable", None), SslMode::Disable);
        for strict in ["require", "verify-ca", "verify-full"] {
            let url = format!("postgres://u@h/d?application_name=x&sslmode={strict}");
            assert_eq!(mode(&url, None), SslMode::Require);
        }
        let error = parse("postgres://u@h/d?sslmode=disable", Some("ca.pem")).unwrap_err();
        assert!(error.contains("`blacklist.postgres.url`") && error.contains("ca_file"), "{error}");
    }

    #[test]
    fn of_several_hosts_the_one_that_can_notify_is_taken() {
        let config = parse("postgres://u@a,b/d", None).unwrap();
        assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        let config = parse("postgres://u@a/d", None).unwrap();
        assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::Any);
    }

    #[test]
    fn an_invalid_address_is_refused_without_showing_it() {
        for url in [
            "hush",
            "mysql://u:hush@h/d",
            "postgres://u:hush@h/d?sslmode=hush",
            "postgres://u:hush@h:port/d",
            "postgres:///d",
        ] {
            let error = parse(url, None).unwrap_err();
            assert!(error.starts_with("`blacklist.postgres.url`: "), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
