//! Istio's types: `security.istio.io/v1`, `networking.istio.io/v1`, `MeshConfig`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Resource;

pub(crate) type AuthorizationPolicy = Resource<AuthorizationPolicySpec>;
pub(crate) type ServiceEntry = Resource<ServiceEntrySpec>;
pub(crate) type DestinationRule = Resource<DestinationRuleSpec>;
pub(crate) type EnvoyFilter = Resource<EnvoyFilterSpec>;
pub(crate) type IstioOperator = Resource<IstioOperatorSpec>;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AuthorizationPolicySpec {
    pub(crate) selector: Option<WorkloadSelector>,
    pub(crate) action: Action,
    pub(crate) provider: Option<ProviderReference>,
    pub(crate) rules: Vec<Rule>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WorkloadSelector {
    pub(crate) match_labels: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Action {
    Allow,
    Deny,
    Audit,
    Custom,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderReference {
    pub(crate) name: String,
}

/// Without `from` and `when`: a CUSTOM policy may not use principals or claims.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    #[serde(default)]
    pub(crate) to: Vec<To>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct To {
    pub(crate) operation: Operation,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
pub(crate) struct Operation {
    pub(crate) hosts: Vec<String>,
    pub(crate) not_hosts: Vec<String>,
    pub(crate) ports: Vec<String>,
    pub(crate) not_ports: Vec<String>,
    pub(crate) methods: Vec<String>,
    pub(crate) not_methods: Vec<String>,
    pub(crate) paths: Vec<String>,
    pub(crate) not_paths: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ServiceEntrySpec {
    pub(crate) hosts: Vec<String>,
    #[serde(default)]
    pub(crate) export_to: Vec<String>,
    pub(crate) location: Location,
    pub(crate) resolution: Resolution,
    pub(crate) ports: Vec<ServicePort>,
    #[serde(default)]
    pub(crate) endpoints: Vec<WorkloadEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Location {
    MeshExternal,
    MeshInternal,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Resolution {
    None,
    Static,
    Dns,
    DnsRoundRobin,
    DynamicDns,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ServicePort {
    pub(crate) name: String,
    pub(crate) number: u16,
    pub(crate) protocol: Protocol,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Protocol {
    Http,
    Https,
    Grpc,
    Http2,
    Mongo,
    Tcp,
    Tls,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkloadEntry {
    pub(crate) address: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DestinationRuleSpec {
    pub(crate) host: String,
    pub(crate) traffic_policy: TrafficPolicy,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TrafficPolicy {
    pub(crate) load_balancer: LoadBalancer,
    pub(crate) connection_pool: ConnectionPool,
    pub(crate) tls: Option<ClientTls>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoadBalancer {
    pub(crate) simple: SimpleLoadBalancer,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum SimpleLoadBalancer {
    Random,
    Passthrough,
    RoundRobin,
    LeastRequest,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConnectionPool {
    pub(crate) tcp: TcpSettings,
    pub(crate) http: HttpSettings,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TcpSettings {
    pub(crate) connect_timeout: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HttpSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) h2_upgrade_policy: Option<H2UpgradePolicy>,
    pub(crate) http2_max_requests: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum H2UpgradePolicy {
    Default,
    DoNotUpgrade,
    Upgrade,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClientTls {
    pub(crate) mode: TlsMode,
    pub(crate) sni: Option<String>,
    #[serde(default)]
    pub(crate) subject_alt_names: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum TlsMode {
    Disable,
    Simple,
    Mutual,
    IstioMutual,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EnvoyFilterSpec {
    pub(crate) workload_selector: EnvoyFilterSelector,
    pub(crate) config_patches: Vec<ConfigPatch>,
}

/// Unlike other selectors of Istio it has `labels`, not `matchLabels`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnvoyFilterSelector {
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ConfigPatch {
    pub(crate) apply_to: ApplyTo,
    #[serde(rename = "match")]
    pub(crate) matches: PatchMatch,
    pub(crate) patch: EnvoyPatch,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum ApplyTo {
    Listener,
    FilterChain,
    NetworkFilter,
    HttpFilter,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PatchMatch {
    pub(crate) context: PatchContext,
    pub(crate) listener: ListenerMatch,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum PatchContext {
    Any,
    SidecarInbound,
    SidecarOutbound,
    Gateway,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ListenerMatch {
    pub(crate) filter_chain: FilterChainMatch,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FilterChainMatch {
    pub(crate) filter: FilterMatch,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FilterMatch {
    pub(crate) name: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnvoyPatch {
    pub(crate) operation: PatchOperation,
    /// In Envoy's format: a test passes it to Envoy.
    pub(crate) value: serde_json::Value,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum PatchOperation {
    Merge,
    Add,
    Replace,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct IstioOperatorSpec {
    pub(crate) mesh_config: MeshConfig,
}

/// Values of the chart `istiod`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HelmValues {
    pub(crate) mesh_config: MeshConfig,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MeshConfig {
    pub(crate) extension_providers: Vec<ExtensionProvider>,
    pub(crate) path_normalization: PathNormalization,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ExtensionProvider {
    pub(crate) name: String,
    pub(crate) envoy_ext_authz_grpc: ExtAuthzGrpc,
}

/// Every existing field. Header selection, which only the HTTP provider has, is silently ignored
/// by istiod and refused here.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ExtAuthzGrpc {
    pub(crate) service: String,
    pub(crate) port: u16,
    pub(crate) timeout: String,
    pub(crate) fail_open: bool,
    pub(crate) status_on_error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) include_request_body_in_check: Option<RequestBody>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RequestBody {
    pub(crate) max_request_bytes: u32,
    pub(crate) allow_partial_message: bool,
    pub(crate) pack_as_bytes: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PathNormalization {
    pub(crate) normalization: Normalization,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Normalization {
    Default,
    None,
    Base,
    MergeSlashes,
    DecodeAndMergeSlashes,
}

/// The annotation `proxy.istio.io/config`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ProxyConfig {
    pub(crate) hold_application_until_proxy_starts: bool,
    pub(crate) termination_drain_duration: String,
}
