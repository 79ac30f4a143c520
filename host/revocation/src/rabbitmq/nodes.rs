//! The nodes of a cluster of brokers: where each is, and in which order they are tried.

use std::{fmt, net::SocketAddr, time::Duration};

/// Where a node listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) host: String,
    port: u16,
}

// === impl Node ===

impl Node {
    pub(super) const fn new(host: String, port: u16) -> Self {
        Self { host, port }
    }

    /// Reads `host:port`, an IPv6 address being in brackets.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(address) => address.strip_suffix(']')?,
            None if host.contains(':') => return None,
            None => host,
        };
        let sound = !host.is_empty() && !host.contains(['/', '@', ' ', ',']);
        sound.then_some(Self { host: host.to_owned(), port: port.parse().ok()? })
    }

    /// The present addresses of its host name.
    ///
    /// # Errors
    /// When it has none, or the name is not resolved within `limit`.
    pub(super) async fn resolve(&self, limit: Duration) -> Result<Vec<SocketAddr>, String> {
        let resolving = tokio::net::lookup_host((self.host.as_str(), self.port));
        match tokio::time::timeout(limit, resolving).await {
            Ok(Ok(addresses)) => Ok(addresses.collect()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("its name was not resolved in time".to_owned()),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// All nodes, starting with the one that `random` selects, so that replicas spread over them.
pub(super) fn in_turn(nodes: &[Node], random: u8) -> impl Iterator<Item = &Node> {
    let start = usize::from(random) % nodes.len().max(1);
    nodes.iter().cycle().skip(start).take(nodes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_a_host_and_a_port() {
        for (text, host, port) in [
            ("broker-0:5672", "broker-0", 5672),
            ("10.0.0.1:1", "10.0.0.1", 1),
            ("[::1]:2", "::1", 2),
        ] {
            let node = Node::parse(text).unwrap();
            assert_eq!((node.host.as_str(), node.port), (host, port));
            assert_eq!(node.to_string(), text);
        }
        for text in ["", "broker", ":5672", "broker:", "broker:x", "::1:5672", "[::1:5672", "u@b:1"]
        {
            assert_eq!(Node::parse(text), None, "{text}");
        }
    }

    #[test]
    fn each_node_is_tried_once_whichever_is_the_first() {
        let nodes = ["a:1", "b:2", "c:3"].map(|text| Node::parse(text).unwrap());
        let order = |random| in_turn(&nodes, random).map(Node::to_string).collect::<Vec<_>>();
        assert_eq!(order(0), ["a:1", "b:2", "c:3"]);
        assert_eq!(order(255), ["a:1", "b:2", "c:3"]);
        assert_eq!(order(4), ["b:2", "c:3", "a:1"]);
        assert_eq!(in_turn(&nodes[..1], 77).count(), 1);
    }

    #[tokio::test]
    async fn a_name_has_addresses_and_one_that_does_not_exist_has_none() {
        let limit = Duration::from_secs(10);
        let addresses = Node::parse("127.0.0.1:7").unwrap().resolve(limit).await.unwrap();
        assert_eq!(addresses, ["127.0.0.1:7".parse().unwrap()]);
        assert!(Node::parse("no-such-host.invalid:7").unwrap().resolve(limit).await.is_err());
    }
}
