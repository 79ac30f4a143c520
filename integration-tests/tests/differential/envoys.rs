//! One Envoy with several listeners: each asks its own Portcullis, normalizes paths and hosts in
//! its own way, and forwards to the upstream of the virtual host that it selects.

use std::net::SocketAddr;

use serde_json::{Value, json};

const TYPES: &str = "type.googleapis.com/envoy";

/// A listener.
#[derive(Debug, Clone)]
pub(super) struct Listener {
    pub(super) name: &'static str,
    /// The Portcullis to ask.
    pub(super) authorizer: SocketAddr,
    /// Fields of the connection manager.
    pub(super) manager: Value,
    /// Whether `ignore_port_in_host_matching` is set.
    pub(super) ignores_ports: bool,
    /// Upstreams by the domain of their virtual host.
    pub(super) upstreams: Vec<(&'static str, SocketAddr)>,
}

/// The whole configuration.
pub(super) fn bootstrap(listeners: &[Listener]) -> Value {
    let clusters = listeners.iter().flat_map(Listener::clusters);
    json!({
        "admin": {"address": address(SocketAddr::from(([127, 0, 0, 1], 0)))},
        "static_resources": {
            "listeners": listeners.iter().map(Listener::written).collect::<Vec<_>>(),
            "clusters": clusters.collect::<Vec<_>>(),
        },
    })
}

fn address(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}})
}

fn cluster(name: &str, at: SocketAddr) -> Value {
    let endpoints = json!([{"lb_endpoints": [{"endpoint": {"address": address(at)}}]}]);
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
    })
}

// === impl Listener ===

impl Listener {
    fn clusters(&self) -> Vec<Value> {
        let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        let mut authorizer = cluster(&self.cluster("authorizer"), self.authorizer);
        authorizer["typed_extension_protocol_options"][options] = json!({
            "@type": format!("type.googleapis.com/{options}"),
            "explicit_http_config": {"http2_protocol_options": {}},
        });
        let upstreams = self.upstreams.iter();
        let upstreams = upstreams.map(|(domain, at)| cluster(&self.cluster(domain), *at));
        [authorizer].into_iter().chain(upstreams).collect()
    }

    /// The name of a cluster. Envoy sends it as the authority of its checks, so it is one.
    fn cluster(&self, of: &str) -> String {
        format!("{}-{of}", self.name.replace([' ', ','], "-"))
    }

    fn written(&self) -> Value {
        let filters = json!([
            {"name": "envoy.filters.http.ext_authz", "typed_config": {
                "@type": format!("{TYPES}.extensions.filters.http.ext_authz.v3.ExtAuthz"),
                "transport_api_version": "V3",
                "grpc_service": {
                    "envoy_grpc": {"cluster_name": self.cluster("authorizer")}, "timeout": "10s",
                },
            }},
            {"name": "envoy.filters.http.router", "typed_config": {
                "@type": format!("{TYPES}.extensions.filters.http.router.v3.Router"),
            }},
        ]);
        let hosts = self.upstreams.iter().map(|(domain, _)| {
            json!({
                "name": domain,
                "domains": [domain],
                "routes": [{
                    "match": {"prefix": "/"},
                    "route": {"cluster": self.cluster(domain)},
                }],
            })
        });
        let mut manager = self.manager.clone();
        let network = format!("{TYPES}.extensions.filters.network");
        manager["@type"] =
            json!(format!("{network}.http_connection_manager.v3.HttpConnectionManager"));
        manager["stat_prefix"] = json!(self.name);
        manager["http_filters"] = filters;
        manager["route_config"] = json!({
            "virtual_hosts": hosts.collect::<Vec<_>>(),
            "ignore_port_in_host_matching": self.ignores_ports,
        });
        // A bad request over HTTP/2 costs its stream, not the connection.
        manager["http2_protocol_options"] =
            json!({"override_stream_error_on_invalid_http_message": true});
        json!({
            "name": self.name,
            "address": address(SocketAddr::from(([127, 0, 0, 1], 0))),
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager", "typed_config": manager,
            }]}],
        })
    }
}
