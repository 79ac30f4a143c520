//! Envoy configuration for tests. Tests change it by Envoy's own field names, without a layer of
//! other names.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

/// The cluster of authorization servers.
const AUTHORIZER: &str = "authorizer";
/// The cluster of the protected service.
const UPSTREAM: &str = "upstream";
/// The prefix of Envoy's type URLs.
const TYPES: &str = "type.googleapis.com/envoy";
/// How long Envoy waits for a connection and for an answer, on a busy machine; shorter than clients
/// of the tests wait.
const PATIENCE: &str = "10s";
/// The name of the external authorization filter.
const EXT_AUTHZ: &str = "envoy.filters.http.ext_authz";

/// A configuration of Envoy: every request is checked, then goes to the upstream.
#[derive(Debug, Clone)]
pub struct EnvoyConfig {
    ext_authz: Value,
    network_ext_authz: Option<Value>,
    authorizers: Value,
    upstream: Value,
    filters_before: Vec<Value>,
    per_route: Map<String, Value>,
    connection_manager: Map<String, Value>,
    transport_socket: Option<Value>,
    routing: Map<String, Value>,
    /// Name and domains of each.
    virtual_hosts: Vec<(String, Value)>,
}

/// The request header with the name of the virtual host that Envoy chose.
pub const VIRTUAL_HOST: &str = "x-virtual-host";

// === impl EnvoyConfig ===

impl EnvoyConfig {
    /// Checks over gRPC, for HTTP requests and raw connections.
    #[must_use]
    pub fn grpc(authorizers: &[SocketAddr], upstream: SocketAddr) -> Self {
        let service = json!({"envoy_grpc": {"cluster_name": AUTHORIZER}, "timeout": PATIENCE});
        let options = format!("{TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions");
        let mut cluster = cluster(AUTHORIZER, authorizers);
        cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": options,
            "explicit_http_config": {"http2_protocol_options": {}},
        }});
        Self {
            ext_authz: json!({
                "@type": http_type("ext_authz", "ExtAuthz"),
                "transport_api_version": "V3",
                "grpc_service": service,
            }),
            network_ext_authz: Some(json!({
                "@type": format!("{TYPES}.extensions.filters.network.ext_authz.v3.ExtAuthz"),
                "stat_prefix": "authorizer",
                "transport_api_version": "V3",
                "grpc_service": service,
            })),
            authorizers: cluster,
            upstream: cluster_of_upstream(upstream),
            filters_before: Vec::new(),
            per_route: Map::new(),
            connection_manager: Map::new(),
            transport_socket: None,
            routing: Map::new(),
            virtual_hosts: vec![("all".to_owned(), json!(["*"]))],
        }
    }

    /// Checks over HTTP, as Istio's `envoyExtAuthzHttp`.
    #[must_use]
    pub fn http(authorizer: SocketAddr, upstream: SocketAddr) -> Self {
        Self {
            ext_authz: json!({
                "@type": http_type("ext_authz", "ExtAuthz"),
                "transport_api_version": "V3",
                "http_service": {"server_uri": {
                    "uri": format!("http://{authorizer}"),
                    "cluster": AUTHORIZER,
                    "timeout": PATIENCE,
                }},
            }),
            network_ext_authz: None,
            authorizers: cluster(AUTHORIZER, &[authorizer]),
            upstream: cluster_of_upstream(upstream),
            filters_before: Vec::new(),
            per_route: Map::new(),
            connection_manager: Map::new(),
            transport_socket: None,
            routing: Map::new(),
            virtual_hosts: vec![("all".to_owned(), json!(["*"]))],
        }
    }

    /// Sets a field of the external authorization filter for HTTP requests.
    #[must_use]
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.ext_authz[field] = value;
        self
    }

    /// Sets a field of `http_service`.
    #[must_use]
    pub fn with_http_service(mut self, field: &str, value: Value) -> Self {
        self.ext_authz["http_service"][field] = value;
        self
    }

    /// Sets how long Envoy waits for an answer over HTTP.
    #[must_use]
    pub fn with_http_timeout(mut self, timeout: &str) -> Self {
        self.ext_authz["http_service"]["server_uri"]["timeout"] = json!(timeout);
        self
    }

    /// Sets how long Envoy waits for an answer over gRPC.
    #[must_use]
    pub fn with_timeout(mut self, timeout: &str) -> Self {
        self.ext_authz["grpc_service"]["timeout"] = json!(timeout);
        self
    }

    /// Sets a field of the cluster of authorization servers.
    #[must_use]
    pub fn with_cluster(mut self, field: &str, value: Value) -> Self {
        self.authorizers[field] = value;
        self
    }

    /// Sets a field of the HTTP connection manager; null is Envoy's default.
    #[must_use]
    pub fn with_connection_manager(mut self, field: &str, value: Value) -> Self {
        self.connection_manager.insert(field.to_owned(), value);
        self
    }

    /// Has clients connect over this transport socket.
    #[must_use]
    pub fn with_transport_socket(mut self, socket: Value) -> Self {
        self.transport_socket = Some(socket);
        self
    }

    /// Sets a field of the route configuration, for example `request_headers_to_remove`.
    #[must_use]
    pub fn with_route_config(mut self, field: &str, value: Value) -> Self {
        self.routing.insert(field.to_owned(), value);
        self
    }

    /// Applies the settings of an operator's file for the connection manager, the route
    /// configuration and the external authorization filter. Addresses, routes and other filters
    /// stay those of the test.
    ///
    /// # Panics
    /// When the file is not such a configuration.
    #[must_use]
    pub fn with_settings_of(mut self, file: &Value) -> Self {
        let filters = &file["static_resources"]["listeners"][0]["filter_chains"][0]["filters"];
        let manager =
            fields(&filters[0]["typed_config"], &["http_filters", "route_config", "stat_prefix"]);
        let routes = fields(&filters[0]["typed_config"]["route_config"], &["virtual_hosts"]);
        let filters = filters[0]["typed_config"]["http_filters"].as_array().expect("filters");
        let ext_authz = filters
            .iter()
            .find(|filter| filter["name"] == EXT_AUTHZ)
            .expect("there is an external authorization filter");
        for (field, value) in fields(&ext_authz["typed_config"], &["grpc_service"]) {
            self.ext_authz[field] = value;
        }
        self.connection_manager.extend(manager);
        self.routing.extend(routes);
        self
    }

    /// Sets these virtual hosts, each with one domain, instead of one for all. The upstream gets
    /// the domain in [`VIRTUAL_HOST`].
    #[must_use]
    pub fn with_virtual_hosts(mut self, domains: &[&str]) -> Self {
        let hosts = domains.iter().map(|domain| ((*domain).to_owned(), json!([domain])));
        self.virtual_hosts = hosts.collect();
        self
    }

    /// Adds a filter of `envoy.filters.http` before the external authorization filter.
    #[must_use]
    pub fn after_filter(mut self, name: &str, message: &str, mut config: Value) -> Self {
        config["@type"] = json!(http_type(name, message));
        let filter = json!({"name": format!("envoy.filters.http.{name}"), "typed_config": config});
        self.filters_before.push(filter);
        self
    }

    /// Sets `check_settings` of the route, for example its `context_extensions`.
    #[must_use]
    pub fn with_check_settings(mut self, settings: &Value) -> Self {
        let per_route = json!({
            "@type": http_type("ext_authz", "ExtAuthzPerRoute"), "check_settings": settings,
        });
        self.per_route.insert(EXT_AUTHZ.to_owned(), per_route);
        self
    }

    /// Checks only some paths, as an `AuthorizationPolicy` with `paths` and `notPaths`.
    #[must_use]
    pub fn only_for_paths(self, paths: &Value, not_paths: &Value) -> Self {
        let operation = json!({"paths": paths, "notPaths": not_paths});
        self.asking_as_istio(&json!([{"to": [{"operation": operation}]}]))
    }

    /// Checks what the `rules` of a CUSTOM `AuthorizationPolicy` match, with the filters that
    /// istiod generates: a role-based filter in shadow mode, and a condition on its result.
    ///
    /// # Panics
    /// When a rule has more than paths.
    #[must_use]
    pub fn asking_as_istio(self, rules: &Value) -> Self {
        let rules = rules.as_array().expect("a list of rules").iter().enumerate();
        let policies: Map<_, _> = rules
            .map(|(i, rule)| {
                let name = format!("istio-ext-authz-portcullis-ns[demo]-policy[gate]-rule[{i}]");
                let any = json!([{"any": true}]);
                (name, json!({"permissions": permissions(rule), "principals": any}))
            })
            .collect();
        let prefix = "istio_ext_authz_";
        self.after_filter(
            "rbac",
            "RBAC",
            json!({
                "shadow_rules": {"action": "DENY", "policies": policies},
                "shadow_rules_stat_prefix": prefix,
            }),
        )
        .with(
            "filter_enabled_metadata",
            json!({
                "filter": "envoy.filters.http.rbac",
                "path": [{"key": format!("{prefix}shadow_effective_policy_id")}],
                "value": {"string_match": {"prefix": "istio-ext-authz-portcullis"}},
            }),
        )
    }

    /// The complete file.
    pub(super) fn bootstrap(&self) -> Value {
        let mut http = listener("http", &self.connection_manager());
        if let Some(socket) = &self.transport_socket {
            http["filter_chains"][0]["transport_socket"] = socket.clone();
        }
        let mut listeners = vec![http];
        if let Some(filter) = &self.network_ext_authz {
            listeners.push(listener_with_proxy(filter));
        }
        json!({
            "admin": {"address": any_port()},
            "static_resources": {
                "listeners": listeners,
                "clusters": [self.authorizers, self.upstream],
            },
        })
    }

    fn connection_manager(&self) -> Value {
        let mut filters = self.filters_before.clone();
        filters.push(json!({"name": EXT_AUTHZ, "typed_config": self.ext_authz}));
        filters.push(json!({
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": http_type("router", "Router")},
        }));
        let network = format!("{TYPES}.extensions.filters.network");
        let mut manager = json!({
            "@type": format!("{network}.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "http",
            "route_config": self.routes(),
            "http_filters": filters,
        });
        for (field, value) in &self.connection_manager {
            manager[field] = value.clone();
        }
        json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager})
    }

    fn routes(&self) -> Value {
        let virtual_host = |(name, domains): &(String, Value)| {
            json!({
                "name": name,
                "domains": domains,
                "request_headers_to_add": [
                    {"header": {"key": VIRTUAL_HOST, "value": name}},
                ],
                "routes": [{
                    "match": {"prefix": "/"},
                    "route": {"cluster": UPSTREAM},
                    "typed_per_filter_config": self.per_route,
                }],
            })
        };
        let virtual_hosts: Vec<_> = self.virtual_hosts.iter().map(virtual_host).collect();
        let mut routes = json!({"virtual_hosts": virtual_hosts});
        for (field, value) in &self.routing {
            routes[field] = value.clone();
        }
        routes
    }
}

/// The fields of an object of Envoy's configuration, except for some.
fn fields(object: &Value, except: &[&str]) -> Vec<(String, Value)> {
    let fields = object.as_object().expect("an object of Envoy's configuration").iter();
    fields
        .filter(|(field, _)| !except.contains(&field.as_str()))
        .map(|(field, value)| (field.clone(), value.clone()))
        .collect()
}

fn http_type(filter: &str, message: &str) -> String {
    format!("{TYPES}.extensions.filters.http.{filter}.v3.{message}")
}

fn any_port() -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}})
}

fn listener(name: &str, filter: &Value) -> Value {
    json!({"name": name, "address": any_port(), "filter_chains": [{"filters": [filter]}]})
}

fn listener_with_proxy(ext_authz: &Value) -> Value {
    json!({"name": "tcp", "address": any_port(), "filter_chains": [{"filters": [
        {"name": "envoy.filters.network.ext_authz", "typed_config": ext_authz},
        {"name": "envoy.filters.network.tcp_proxy", "typed_config": {
            "@type": format!("{TYPES}.extensions.filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": "tcp",
            "cluster": UPSTREAM,
        }},
    ]}]})
}

fn cluster_of_upstream(upstream: SocketAddr) -> Value {
    cluster(UPSTREAM, &[upstream])
}

fn cluster(name: &str, addresses: &[SocketAddr]) -> Value {
    let endpoint = |address: &SocketAddr| {
        let ip = address.ip().to_string();
        let socket = json!({"socket_address": {"address": ip, "port_value": address.port()}});
        json!({"endpoint": {"address": socket}})
    };
    let endpoints: Vec<_> = addresses.iter().map(endpoint).collect();
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": PATIENCE,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    })
}

/// What a rule of an `AuthorizationPolicy` matches: one of its operations, or everything if it has
/// none.
fn permissions(rule: &Value) -> Vec<Value> {
    assert!(rule.as_object().is_some_and(|rule| rule.keys().all(|key| key == "to")), "{rule}");
    match rule["to"].as_array() {
        Some(to) => to.iter().map(|to| operation(&to["operation"])).collect(),
        None => vec![json!({"any": true})],
    }
}

fn operation(operation: &Value) -> Value {
    let known = |key: &String| key == "paths" || key == "notPaths";
    assert!(operation.as_object().is_some_and(|fields| fields.keys().all(known)), "{operation}");
    let any = |patterns: &Vec<Value>| {
        let rules: Vec<_> = patterns.iter().map(path_permission).collect();
        json!({"or_rules": {"rules": rules}})
    };
    let paths = operation["paths"].as_array().map(any);
    let not_paths = operation["notPaths"].as_array().map(|paths| json!({"not_rule": any(paths)}));
    let rules: Vec<_> = paths.into_iter().chain(not_paths).collect();
    json!({"and_rules": {"rules": rules}})
}

/// A path of an `AuthorizationPolicy`, which is exact or a prefix, as Istio translates it.
fn path_permission(pattern: &Value) -> Value {
    let pattern = pattern.as_str().expect("a pattern is text");
    let matcher = match pattern.strip_suffix('*') {
        Some(prefix) => json!({"prefix": prefix}),
        None => json!({"exact": pattern}),
    };
    json!({"url_path": {"path": matcher}})
}
