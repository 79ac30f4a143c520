//! The address of the broker, its nodes and its TLS settings, read from the configuration.

use lapin::{
    tcp::RustlsConnector,
    uri::{AMQPAuthority, AMQPScheme, AMQPUri},
};

use super::nodes::Node;
use crate::{
    config::{Endpoint, EndpointError, RabbitMqConfig},
    tls,
};

/// The section of the configuration.
const SECTION: &str = "blacklist.rabbitmq";
/// After twice this long without any data from the broker, its connection is closed, even if no
/// task reads from it.
const HEARTBEAT_SECS: u16 = 10;
const NO_ADDRESS: &str =
    "not the address of a broker; write `amqp://user@host:5672/vhost`, or `amqps://` for TLS";

/// The address of the broker, with its secrets. `Debug` shows no secret.
#[derive(Clone)]
pub(crate) struct BrokerAddress {
    /// Everything except the addresses of the nodes.
    pub(super) uri: AMQPUri,
    /// At least one.
    pub(super) nodes: Vec<Node>,
    pub(super) tls: Option<RustlsConnector>,
}

// === impl BrokerAddress ===

impl BrokerAddress {
    /// Reads the section, its files included.
    ///
    /// # Errors
    /// When the address or one of the files is unusable.
    pub(crate) fn new(config: &RabbitMqConfig) -> Result<Self, EndpointError> {
        let endpoint = Endpoint::resolve(
            SECTION,
            config.url.as_ref(),
            config.url_file.as_deref(),
            config.password_file.as_deref(),
        )?;
        let uri = parse(endpoint.expose())
            .ok_or_else(|| EndpointError::new(SECTION, "url", NO_ADDRESS))?;
        let tls = match uri.scheme {
            AMQPScheme::AMQPS => {
                Some(tls::client_config(SECTION, config.ca_file.as_deref())?.into())
            }
            AMQPScheme::AMQP => None,
        };
        let nodes = nodes(config, &uri)?;
        Ok(Self { uri, nodes, tls })
    }
}

/// The nodes that are listed, or else the one of the address.
fn nodes(config: &RabbitMqConfig, uri: &AMQPUri) -> Result<Vec<Node>, EndpointError> {
    if config.nodes.is_empty() {
        let AMQPAuthority { host, port, .. } = &uri.authority;
        return Ok(vec![Node::new(host.clone(), *port)]);
    }
    // The text is not shown: it may be a URL with a password.
    let node = |(index, text): (usize, &String)| {
        Node::parse(text).ok_or_else(|| {
            let message = format!("[{index}] is not an address; write host:port");
            EndpointError::new(SECTION, "nodes", &message)
        })
    };
    config.nodes.iter().enumerate().map(node).collect()
}

impl std::fmt::Debug for BrokerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BrokerAddress").field(&self.nodes).field(&self.uri.vhost).finish()
    }
}

fn parse(url: &str) -> Option<AMQPUri> {
    let mut uri: AMQPUri = url.parse().ok()?;
    // The parser does not understand an address in brackets and falls back to localhost.
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host.is_empty() {
        return None;
    }
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        address.clone_into(&mut uri.authority.host);
    }
    // A trailing slash means the default virtual host: no virtual host has an empty name.
    if uri.vhost.is_empty() {
        "/".clone_into(&mut uri.vhost);
    }
    uri.query.heartbeat = uri.query.heartbeat.or(Some(HEARTBEAT_SECS));
    Some(uri)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn address(section: Value) -> Result<BrokerAddress, String> {
        let config: RabbitMqConfig = serde_json::from_value(section).unwrap();
        BrokerAddress::new(&config).map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_names_user_host_port_and_virtual_host() {
        let cases = [
            ("amqp://u:p@broker:5673/eco2", "broker", 5673, "eco2"),
            ("amqp://broker", "broker", 5672, "/"),
            ("amqp://broker/", "broker", 5672, "/"),
            ("amqp://broker/%2f", "broker", 5672, "/"),
            ("amqp://10.0.0.1/a%20b", "10.0.0.1", 5672, "a b"),
            ("amqp://u:p@[::1]:5673/v", "::1", 5673, "v"),
        ];
        for (url, host, port, vhost) in cases {
            let uri = address(json!({"url": url})).unwrap().uri;
            assert_eq!(
                (uri.authority.host.as_str(), uri.authority.port, uri.vhost.as_str()),
                (host, port, vhost),
                "{url}"
            );
            assert_eq!(uri.query.heartbeat, Some(HEARTBEAT_SECS));
        }
    }

    #[test]
    fn the_password_of_a_file_is_used_and_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hu/sh@\n").unwrap();
        let section = json!({"url": "amqp://u:old@broker/v", "password_file": file.path()});
        let address = address(section).unwrap();
        assert_eq!(address.uri.authority.userinfo.username, "u");
        assert_eq!(address.uri.authority.userinfo.password, "hu/sh@");
        let shown = format!("{address:?}");
        assert!(shown.contains("broker") && !shown.contains("hu/sh"), "{shown}");
    }

    #[test]
    fn nodes_take_the_place_of_host_and_port() {
        let nodes = |section| {
            address(section).map(|it| it.nodes.iter().map(Node::to_string).collect::<Vec<_>>())
        };
        let one = nodes(json!({"url": "amqp://u:p@[::1]:5673/v"})).unwrap();
        assert_eq!(one, ["[::1]:5673"]);
        let section = json!({"url": "amqp://u:p@ignored/v", "nodes": ["a:5672", "b:5673"]});
        assert_eq!(nodes(section).unwrap(), ["a:5672", "b:5673"]);
        let section = json!({"url": "amqp://u:p@ignored/v", "nodes": ["a:5672", "amqp://hush@b"]});
        let error = nodes(section).unwrap_err();
        assert!(error.starts_with("`blacklist.rabbitmq.nodes`: [1] is not an address"), "{error}");
        assert!(!error.contains("hush"), "{error}");
    }

    #[test]
    fn what_is_no_address_of_a_broker_is_refused_without_being_shown() {
        for url in ["hush", "http://hush@broker", "amqp://", "amqp://:hush@", "amqp:hush"] {
            let error = address(json!({"url": url})).unwrap_err();
            assert!(error.starts_with("`blacklist.rabbitmq.url`"), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
        let error = address(json!({"url_file": "/nonexistent"})).unwrap_err();
        assert!(error.starts_with("`blacklist.rabbitmq.url_file`"), "{error}");
    }

    #[test]
    fn tls_is_set_up_where_it_is_asked_for() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "none").unwrap();
        let error = address(json!({"url": "amqps://broker", "ca_file": file.path()})).unwrap_err();
        assert!(error.starts_with("`blacklist.rabbitmq.ca_file`"), "{error}");
        assert!(address(json!({"url": "amqp://broker"})).unwrap().tls.is_none());
    }
}
