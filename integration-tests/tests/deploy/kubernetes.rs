//! Tests of the Kubernetes manifests: they agree with each other and with the binary.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::{Container, PodSpec, Service},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
    serde::{Serialize, de::DeserializeOwned},
};
use serde_json::Value;

use super::{
    binary,
    documents::{deploy, manifests, yaml},
    types::monitoring::{PodMonitor, ServiceMonitor},
};

/// The manifest of the base with this kind and name.
fn manifest<T: Serialize + DeserializeOwned>(kind: &str, name: &str) -> T {
    let mut all = manifests("kubernetes").into_iter();
    let found = all.find(|manifest| manifest.kind() == kind && manifest.name() == name);
    found.unwrap_or_else(|| panic!("there is no {kind} {name}")).typed()
}

pub(super) fn pod(deployment: &Deployment) -> &PodSpec {
    deployment.spec.as_ref().unwrap().template.spec.as_ref().unwrap()
}

fn labels(deployment: &Deployment) -> BTreeMap<String, String> {
    let template = &deployment.spec.as_ref().unwrap().template;
    template.metadata.as_ref().unwrap().labels.clone().unwrap_or_default()
}

pub(super) fn container(deployment: &Deployment) -> &Container {
    pod(deployment).containers.first().expect("a container")
}

fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn match_labels(selector: &LabelSelector) -> &BTreeMap<String, String> {
    selector.match_labels.as_ref().expect("a selector by labels")
}

/// The configuration that both Deployments read.
pub(super) fn configuration() -> Value {
    yaml(&deploy("kubernetes/portcullis.yaml"))
}

#[test]
fn the_service_targets_the_ports_of_the_binary() {
    let (service, deployment): (Service, Deployment) =
        (manifest("Service", "portcullis"), manifest("Deployment", "portcullis"));
    let config = configuration();
    let opened = BTreeMap::from([
        ("grpc".to_owned(), binary::port(&config, "grpc")),
        ("metrics".to_owned(), binary::port(&config, "admin")),
    ]);
    let ports = container(&deployment).ports.iter().flatten();
    let ports =
        ports.map(|port| (port.name.clone().unwrap(), u16::try_from(port.container_port).unwrap()));
    assert_eq!(ports.collect::<BTreeMap<_, _>>(), opened);
    let spec = service.spec.unwrap();
    for port in spec.ports.unwrap() {
        let name = port.name.unwrap();
        assert_eq!(port.target_port, Some(IntOrString::String(name.clone())));
        assert_eq!(Some(&u16::try_from(port.port).unwrap()), opened.get(&name));
    }
    assert!(selects(&spec.selector.unwrap(), &labels(&deployment)));
    // A Service or a probe cannot reach a port on loopback.
    for section in ["grpc", "admin"] {
        let address = config[section]["listen"].as_str().map(str::to_owned);
        let address = address.unwrap_or_else(|| binary::default_of(&format!("{section}.listen")));
        assert!(address.starts_with("0.0.0.0:"), "{section}.listen: {address}");
    }
}

#[test]
fn selectors_find_the_replicas_and_not_the_relays() {
    let replicas: Deployment = manifest("Deployment", "portcullis");
    let relays: Deployment = manifest("Deployment", "portcullis-relay");
    let service: Service = manifest("Service", "portcullis");
    let budget: PodDisruptionBudget = manifest("PodDisruptionBudget", "portcullis");
    let policy: NetworkPolicy = manifest("NetworkPolicy", "portcullis");
    let relay_policy: NetworkPolicy = manifest("NetworkPolicy", "portcullis-relay");
    let own =
        |deployment: &Deployment| match_labels(&deployment.spec.as_ref().unwrap().selector).clone();
    let of_policy = |policy: NetworkPolicy| {
        match_labels(&policy.spec.unwrap().pod_selector.expect("some pods")).clone()
    };
    let find_replicas = [
        own(&replicas),
        service.spec.unwrap().selector.unwrap(),
        match_labels(&budget.spec.unwrap().selector.unwrap()).clone(),
        of_policy(policy),
    ];
    for selector in find_replicas {
        assert!(selects(&selector, &labels(&replicas)), "{selector:?}");
        assert!(!selects(&selector, &labels(&relays)), "{selector:?}");
    }
    for selector in [own(&relays), of_policy(relay_policy)] {
        assert!(selects(&selector, &labels(&relays)), "{selector:?}");
        assert!(!selects(&selector, &labels(&replicas)), "{selector:?}");
    }
    for deployment in [&replicas, &relays] {
        for spread in pod(deployment).topology_spread_constraints.iter().flatten() {
            assert!(selects(
                match_labels(spread.label_selector.as_ref().unwrap()),
                &labels(deployment)
            ));
        }
    }
}

#[test]
fn the_service_monitor_finds_the_port_of_the_service() {
    let monitor: ServiceMonitor = manifest("ServiceMonitor", "portcullis");
    let service: Service = manifest("Service", "portcullis");
    assert!(selects(
        match_labels(&monitor.spec.selector),
        service.metadata.labels.as_ref().unwrap()
    ));
    let ports = service.spec.unwrap().ports.unwrap();
    for endpoint in monitor.spec.endpoints {
        assert!(ports.iter().any(|port| port.name.as_ref() == Some(&endpoint.port)));
        assert_eq!(endpoint.path, "/metrics");
    }
}

#[test]
fn the_pod_monitor_finds_the_port_of_the_relays_and_may_reach_it() {
    let monitor: PodMonitor = manifest("PodMonitor", "portcullis-relay");
    let relays: Deployment = manifest("Deployment", "portcullis-relay");
    let policy: NetworkPolicy = manifest("NetworkPolicy", "portcullis-relay");
    assert!(selects(match_labels(&monitor.spec.selector), &labels(&relays)));
    let ports = container(&relays).ports.as_ref().expect("a port");
    let ingress = policy.spec.unwrap().ingress.expect("there is an ingress rule");
    let admin = i32::from(binary::port(&configuration(), "admin"));
    for endpoint in monitor.spec.pod_metrics_endpoints {
        let port = ports.iter().find(|port| port.name.as_ref() == Some(&endpoint.port));
        assert_eq!(port.expect("the port").container_port, admin);
        assert_eq!(endpoint.path, "/metrics");
        let name = IntOrString::String(endpoint.port);
        let mut open = ingress.iter().flat_map(|rule| rule.ports.iter().flatten());
        assert!(open.any(|port| port.port.as_ref() == Some(&name)), "{name:?}");
    }
}

#[test]
fn there_are_at_least_three_replicas_and_the_autoscaler_owns_the_count() {
    let scaler: HorizontalPodAutoscaler = manifest("HorizontalPodAutoscaler", "portcullis");
    let spec = scaler.spec.unwrap();
    let deployment: Deployment = manifest(&spec.scale_target_ref.kind, &spec.scale_target_ref.name);
    assert_eq!(spec.scale_target_ref.api_version.as_deref(), Some("apps/v1"));
    assert_eq!(spec.min_replicas, Some(3));
    assert_eq!(spec.max_replicas, 10);
    assert_eq!(deployment.spec.as_ref().unwrap().replicas, None, "applying would undo scaling");
    let container = container(&deployment);
    for metric in spec.metrics.unwrap() {
        let source = metric.container_resource.expect("of the container, not of sidecars");
        assert_eq!(source.container, container.name);
        assert_eq!(source.target.average_utilization, Some(70));
        // Utilization is a share of what is requested.
        let requests = container.resources.as_ref().unwrap().requests.as_ref().unwrap();
        assert!(requests.contains_key(&source.name));
    }
}

#[test]
fn the_network_policies_allow_what_the_configuration_needs() {
    let config = configuration();
    let feed = &config["blacklist"];
    let mut needed: Vec<u16> =
        vec![authority_port(feed["rabbitmq"]["url"].as_str().unwrap()), 6379];
    let sentinels = feed["redis"]["sentinels"].as_array().unwrap().iter();
    needed.extend(sentinels.map(|sentinel| authority_port(sentinel.as_str().unwrap())));
    for name in ["portcullis", "portcullis-relay"] {
        let policy: NetworkPolicy = manifest("NetworkPolicy", name);
        let spec = policy.spec.unwrap();
        assert_eq!(spec.policy_types, Some(vec!["Ingress".to_owned(), "Egress".to_owned()]));
        let open: BTreeSet<_> = spec
            .egress
            .iter()
            .flatten()
            .flat_map(|rule| rule.ports.iter().flatten())
            .filter_map(|port| match &port.port {
                Some(IntOrString::Int(port)) => u16::try_from(*port).ok(),
                _ => None,
            })
            .collect();
        for port in needed.iter().chain(&[53]) {
            assert!(open.contains(port), "{name}: {port}");
        }
        let deployment: Deployment = manifest("Deployment", name);
        let ports = container(&deployment).ports.clone().unwrap_or_default();
        for rule in spec.ingress.iter().flatten() {
            assert!(rule.from.as_ref().is_some_and(|from| !from.is_empty()), "{name}: open to all");
            for port in rule.ports.iter().flatten() {
                let Some(IntOrString::String(named)) = &port.port else {
                    panic!("{name}: by name")
                };
                assert!(ports.iter().any(|port| port.name.as_ref() == Some(named)), "{named}");
            }
        }
    }
}

/// The port in `scheme://user@host:port/path` or `host:port`.
fn authority_port(address: &str) -> u16 {
    let authority = address.split("://").last().unwrap().split('/').next().unwrap();
    authority.rsplit(':').next().unwrap().parse().unwrap_or_else(|_| panic!("{address}: a port"))
}
