//! Tests of the Istio configuration.

use std::{collections::BTreeMap, path::Path};

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use serde_json::{Value, json};

use super::{
    binary,
    documents::{deploy, manifests, read, text, typed, yaml},
    types::{
        istio::{
            Action, ApplyTo, AuthorizationPolicy, DestinationRule, EnvoyFilter, ExtensionProvider,
            HelmValues, IstioOperator, MeshConfig, Normalization, PatchContext, PatchOperation,
            Protocol, ProxyConfig, Resolution, ServiceEntry,
        },
        kustomize::Kustomization,
    },
};

fn mesh_config() -> MeshConfig {
    read("istio/meshconfig.yaml")
}

fn provider(name: &str) -> ExtensionProvider {
    let mut providers = mesh_config().extension_providers.into_iter();
    providers.find(|provider| provider.name == name).unwrap_or_else(|| panic!("no provider {name}"))
}

fn service_entry(folder: &str) -> ServiceEntry {
    read(&format!("istio/{folder}/service-entry.yaml"))
}

fn policies() -> Vec<AuthorizationPolicy> {
    let all = manifests("istio").into_iter();
    all.filter(|manifest| manifest.kind() == "AuthorizationPolicy")
        .map(|manifest| manifest.typed())
        .collect()
}

#[test]
fn the_three_forms_of_the_mesh_configuration_agree() {
    let operator: IstioOperator = read("istio/istio-operator.yaml");
    assert_eq!(operator.spec.mesh_config, mesh_config());
    let values: HelmValues = read("istio/helm-values.yaml");
    assert_eq!(values.mesh_config, mesh_config());
}

#[test]
fn providers_have_valid_names_timeouts_and_fail_closed() {
    for provider in mesh_config().extension_providers {
        let name = &provider.name;
        let accepted = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(name.len() <= 63 && name.chars().all(accepted), "{name}: Istio 1.30 refuses it");
        let grpc = provider.envoy_ext_authz_grpc;
        assert!(!grpc.fail_open, "{name}");
        assert_eq!(grpc.status_on_error, "503", "{name}");
        // Istio would otherwise wait for ten minutes.
        assert!(binary::parse_seconds(&grpc.timeout) <= 5, "{name}");
        assert_eq!(grpc.port, binary::port(&Value::Null, "grpc"), "{name}");
    }
    // Otherwise VirtualServices, policies and the service could read a path in different ways.
    let normalization = mesh_config().path_normalization.normalization;
    assert_eq!(normalization, Normalization::DecodeAndMergeSlashes);
}

#[test]
fn every_policy_names_an_existing_provider() {
    let policies = policies();
    assert_eq!(policies.len(), 2);
    for policy in policies {
        assert_eq!(policy.spec.action, Action::Custom);
        provider(&policy.spec.provider.expect("a CUSTOM policy has a provider").name);
        assert!(!policy.spec.rules.is_empty(), "a policy without rules never applies");
        let selector = policy.spec.selector.expect("some workload");
        assert!(!selector.match_labels.is_empty());
    }
}

#[test]
fn every_policy_covers_every_request() {
    let manifests = manifests("istio").into_iter();
    for policy in manifests.filter(|manifest| manifest.kind() == "AuthorizationPolicy") {
        // An operation, even one with `notPaths` alone, leaves requests unchecked, with the
        // client's identity headers.
        assert_eq!(policy.value["spec"]["rules"], json!([{}]), "{}", policy.path.display());
    }
}

#[test]
fn the_variant_on_the_page_is_a_policy_for_the_same_provider() {
    let path = deploy("../docs/hardening.md");
    let page = text(&path);
    let mut blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let variant = blocks.find(|block| block.contains("kind: AuthorizationPolicy")).expect("it");
    let variant: Value = serde_saphyr::from_str(variant).expect("YAML");
    let variant: AuthorizationPolicy = typed(&path, &variant);
    assert_eq!(variant.spec.provider.unwrap().name, "portcullis");
    let operation = &variant.spec.rules[0].to[0].operation;
    assert!(operation.paths.is_empty(), "the form that fails open");
    assert!(operation.not_paths.iter().all(|path| !path.contains('*')), "{operation:?}");
}

#[test]
fn the_policy_is_the_one_of_the_gateway() {
    let policy: AuthorizationPolicy = read("istio/authorization-policy.yaml");
    assert_eq!(policy.spec.provider.unwrap().name, "portcullis");
    let selector = policy.spec.selector.unwrap().match_labels;
    assert_eq!(selector, BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]));
}

#[test]
fn underscores_are_refused_wherever_a_policy_applies() {
    for (folder, context) in
        [("istio", PatchContext::Gateway), ("istio/same-pod", PatchContext::SidecarInbound)]
    {
        let policy: AuthorizationPolicy = read(&format!("{folder}/authorization-policy.yaml"));
        let filter: EnvoyFilter = read(&format!("{folder}/envoy-filter.yaml"));
        assert_eq!(filter.metadata.namespace, policy.metadata.namespace, "{folder}");
        let labels = policy.spec.selector.unwrap().match_labels;
        assert_eq!(filter.spec.workload_selector.labels, labels, "{folder}");
        let [patch] = filter.spec.config_patches.as_slice() else { panic!("{folder}: one patch") };
        assert_eq!(patch.apply_to, ApplyTo::NetworkFilter, "{folder}");
        assert_eq!(patch.matches.context, context, "{folder}");
        let manager = "envoy.filters.network.http_connection_manager";
        assert_eq!(patch.matches.listener.filter_chain.filter.name, manager, "{folder}");
        assert_eq!(patch.patch.operation, PatchOperation::Merge, "{folder}");
        let options = &patch.patch.value["typed_config"]["common_http_protocol_options"];
        assert_eq!(options["headers_with_underscores_action"], "REJECT_REQUEST", "{folder}");
    }
}

#[test]
fn the_provider_in_the_mesh_is_the_service_of_the_example() {
    let example: Kustomization = read("example/kustomization.yaml");
    let service: Service = read("kubernetes/service.yaml");
    let name = service.metadata.name.unwrap();
    let namespace = example.namespace.unwrap();
    let grpc = provider("portcullis").envoy_ext_authz_grpc;
    assert_eq!(grpc.service, format!("{name}.{namespace}.svc.cluster.local"));
    let ports = service.spec.unwrap().ports.unwrap();
    let port = ports.iter().find(|port| port.port == i32::from(grpc.port)).expect("the port");
    // Istio detects gRPC by the name of the port or by `appProtocol`.
    assert_eq!(port.name.as_deref(), Some("grpc"));
    assert_eq!(port.app_protocol.as_deref(), Some("grpc"));
    let rule: DestinationRule = read("istio/in-mesh/destination-rule.yaml");
    assert_eq!(rule.spec.host, name);
}

#[test]
fn the_providers_outside_the_mesh_are_service_entries() {
    for (folder, name) in
        [("same-pod", "portcullis-same-pod"), ("outside-mesh", "portcullis-outside-mesh")]
    {
        let (entry, grpc) = (service_entry(folder).spec, provider(name).envoy_ext_authz_grpc);
        assert_eq!(entry.hosts, [grpc.service]);
        assert_eq!(entry.ports.len(), 1);
        assert_eq!(entry.ports[0].number, grpc.port);
        assert_eq!(entry.ports[0].protocol, Protocol::Grpc);
    }
    let same_pod = service_entry("same-pod").spec;
    assert_eq!(same_pod.resolution, Resolution::Static);
    assert_eq!(same_pod.endpoints[0].address, "127.0.0.1");
    assert_eq!(same_pod.export_to, ["."]);
    let rule: DestinationRule = read("istio/outside-mesh/destination-rule.yaml");
    assert_eq!([rule.spec.host], *service_entry("outside-mesh").spec.hosts);
}

#[test]
fn the_pods_that_get_a_container_are_those_that_use_it() {
    let patch: Deployment = read("istio/same-pod/container-patch.yaml");
    let labels = patch.spec.unwrap().template.metadata.unwrap().labels.unwrap();
    let policy: AuthorizationPolicy = read("istio/same-pod/authorization-policy.yaml");
    assert_eq!(policy.spec.selector.unwrap().match_labels, labels);
}

#[test]
fn sidecars_outlive_the_drain_and_keep_off_the_admin_port() {
    let config = yaml(&deploy("kubernetes/portcullis.yaml"));
    for file in ["in-mesh/sidecar-patch.yaml", "same-pod/container-patch.yaml"] {
        let deployment: Deployment = read(&format!("istio/{file}"));
        let metadata = deployment.spec.unwrap().template.metadata.unwrap();
        let annotations = metadata.annotations.unwrap();
        let admin = binary::port(&config, "admin").to_string();
        assert_eq!(annotations["traffic.sidecar.istio.io/excludeInboundPorts"], admin);
        let Some(proxy) = annotations.get("proxy.istio.io/config") else { continue };
        let proxy: Value = serde_saphyr::from_str(proxy).unwrap();
        let proxy: ProxyConfig = typed(Path::new(file), &proxy);
        let drain = binary::seconds(&config, "shutdown", "grace")
            + binary::seconds(&config, "shutdown", "timeout");
        assert!(binary::parse_seconds(&proxy.termination_drain_duration) > drain);
        assert!(proxy.hold_application_until_proxy_starts);
    }
}
