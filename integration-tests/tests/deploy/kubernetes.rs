//! Owns the tests of the Kubernetes manifests: they agree with each other and with the binary.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::{Container, PodSpec, Probe, Service},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
    serde::{Serialize, de::DeserializeOwned},
};
use portcullis_integration_tests::{
    client::Request,
    portcullis::{self, Portcullis},
};
use serde_json::Value;

use super::{
    binary,
    configuration::{self, named_files},
    container_file,
    documents::{Document, deploy, manifests, yaml},
    types::{kustomize::Kustomization, monitoring::ServiceMonitor},
};

/// The manifest of the base with this kind and name.
fn manifest<T: Serialize + DeserializeOwned>(kind: &str, name: &str) -> T {
    let mut all = manifests("kubernetes").into_iter();
    let found = all.find(|manifest| manifest.kind() == kind && manifest.name() == name);
    found.unwrap_or_else(|| panic!("there is no {kind} {name}")).typed()
}

/// Every Deployment, and every patch that adds a container of ours to one.
fn deployments() -> Vec<(Document, Deployment)> {
    let all = manifests("kubernetes").into_iter().chain(manifests("istio"));
    all.filter(|manifest| !manifest.value["spec"]["template"]["spec"]["containers"].is_null())
        .map(|manifest| (manifest.clone(), manifest.typed()))
        .collect()
}

fn pod(deployment: &Deployment) -> &PodSpec {
    deployment.spec.as_ref().unwrap().template.spec.as_ref().unwrap()
}

fn labels(deployment: &Deployment) -> BTreeMap<String, String> {
    let template = &deployment.spec.as_ref().unwrap().template;
    template.metadata.as_ref().unwrap().labels.clone().unwrap_or_default()
}

fn container(deployment: &Deployment) -> &Container {
    pod(deployment).containers.first().expect("a container")
}

fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn match_labels(selector: &LabelSelector) -> &BTreeMap<String, String> {
    selector.match_labels.as_ref().expect("a selector by labels")
}

/// The configuration that both Deployments read.
fn configuration() -> Value {
    yaml(&deploy("kubernetes/portcullis.yaml"))
}

/// The files that a pod of this Deployment finds in the folder of the configuration.
fn projected_files(deployment: &Deployment) -> BTreeSet<String> {
    let mount = &container(deployment).volume_mounts.as_ref().expect("a mount")[0];
    let volumes = pod(deployment).volumes.as_ref().expect("a volume");
    let volume = volumes.iter().find(|volume| volume.name == mount.name).expect("the mount's");
    let sources = volume.projected.as_ref().and_then(|volume| volume.sources.as_ref()).unwrap();
    let generated: Kustomization = super::documents::typed(
        &deploy("kubernetes"),
        &yaml(&deploy("kubernetes/kustomization.yaml")),
    );
    let generated = &generated.config_map_generator[0];
    let mut files = BTreeSet::new();
    for source in sources {
        if let Some(map) = &source.config_map {
            assert_eq!(map.name, generated.name);
            files.extend(generated.files.iter().map(|file| format!("{}/{file}", mount.mount_path)));
        }
        for item in source.secret.iter().flat_map(|secret| secret.items.iter().flatten()) {
            files.insert(format!("{}/{}", mount.mount_path, item.path));
        }
    }
    files
}

#[test]
fn every_container_runs_a_command_that_the_binary_has() {
    let deployments = deployments();
    assert_eq!(deployments.len(), 3);
    for (document, deployment) in deployments {
        let container = container(&deployment);
        assert_eq!(container.image.as_deref(), Some("portcullis"), "Kustomize's name of the image");
        assert!(container.command.is_none(), "the image knows its program");
        binary::assert_understands(container.args.as_ref().unwrap(), &document.path);
    }
}

#[test]
fn every_file_of_the_configuration_is_in_the_pod() {
    for (document, deployment) in deployments() {
        let files = projected_files(&deployment);
        let arguments = container(&deployment).args.clone().unwrap();
        assert!(files.contains(&arguments[2]), "{}: {arguments:?}", document.path.display());
        for (key, file) in named_files(&configuration()) {
            let shipped = container_file::shipped().contains(&file);
            // A relay verifies no token and has no admin API.
            let needed = arguments[0] == "serve" || key.starts_with(".blacklist.");
            assert!(
                !needed || shipped || files.contains(&file),
                "{}: nothing puts {file} (`{key}`) into the pod",
                document.path.display()
            );
        }
    }
}

#[test]
fn the_binary_accepts_the_variables_of_every_container() {
    for (_, deployment) in deployments() {
        let variables = container(&deployment).env.iter().flatten();
        let variables: Vec<_> = variables
            .map(|variable| (variable.name.clone(), variable.value.clone().unwrap_or_default()))
            .collect();
        if !variables.is_empty() {
            configuration::check(&deploy("kubernetes/portcullis.yaml"), &variables);
        }
    }
}

#[test]
fn every_container_is_restricted() {
    for (document, deployment) in deployments() {
        let (place, pod) = (document.path.display(), pod(&deployment));
        let own = container(&deployment).security_context.as_ref().expect("a security context");
        let of_pod = pod.security_context.clone().unwrap_or_default();
        assert_eq!(own.run_as_non_root.or(of_pod.run_as_non_root), Some(true), "{place}");
        assert_eq!(own.run_as_user.or(of_pod.run_as_user), Some(container_file::user()), "{place}");
        assert_eq!(own.read_only_root_filesystem, Some(true), "{place}");
        assert_eq!(own.allow_privilege_escalation, Some(false), "{place}");
        let drop = own.capabilities.as_ref().and_then(|capabilities| capabilities.drop.clone());
        assert_eq!(drop, Some(vec!["ALL".to_owned()]), "{place}");
        let seccomp = own.seccomp_profile.clone().or(of_pod.seccomp_profile).expect("a profile");
        assert_eq!(seccomp.type_, "RuntimeDefault", "{place}");
        let resources = container(&deployment).resources.clone().expect("resources");
        assert!(resources.requests.is_some_and(|requests| requests.len() == 2), "{place}");
        assert!(resources.limits.is_some_and(|limits| limits.contains_key("memory")), "{place}");
    }
}

#[test]
fn pods_live_longer_than_the_drain_takes() {
    let config = configuration();
    let drain = binary::seconds(&config, "shutdown", "grace")
        + binary::seconds(&config, "shutdown", "timeout");
    for (document, deployment) in deployments() {
        let period = pod(&deployment).termination_grace_period_seconds.unwrap_or(30);
        let period = u64::try_from(period).unwrap();
        assert!(
            period > drain,
            "{}: {period} s, and a drain takes {drain} s",
            document.path.display()
        );
    }
}

#[tokio::test]
async fn probes_ask_for_what_the_admin_edge_answers() {
    let config = portcullis::Config::new([portcullis::public_route("all", &["*"])]);
    let portcullis = Portcullis::start(&config).await;
    for (document, deployment) in deployments() {
        let container = container(&deployment);
        let ports = container.ports.clone().unwrap_or_default();
        let probes =
            [&container.startup_probe, &container.liveness_probe, &container.readiness_probe];
        let is_relay = container.args.as_ref().unwrap()[0] == "relay";
        assert_eq!(probes.iter().all(|probe| probe.is_some()), !is_relay);
        for probe in probes.into_iter().flatten() {
            let (path, port) = target(probe);
            let port =
                ports.iter().find(|named| named.name.as_ref() == Some(port)).expect("a port");
            let admin = binary::port(&configuration(), "admin");
            assert_eq!(port.container_port, i32::from(admin), "{}", document.path.display());
            let answer = Request::get(path).send(portcullis.addresses().admin).await;
            assert_eq!(answer.status, 200, "{path}");
        }
        if let Some(probe) = &container.readiness_probe {
            assert_eq!(target(probe).0, "/readyz");
            // A broker that is away must not restart replicas.
            assert_eq!(target(container.liveness_probe.as_ref().unwrap()).0, "/livez");
            assert_eq!(target(container.startup_probe.as_ref().unwrap()).0, "/livez");
        }
    }
}

fn target(probe: &Probe) -> (&str, &String) {
    let get = probe.http_get.as_ref().expect("a probe over HTTP");
    let IntOrString::String(port) = &get.port else { panic!("a probe by the port's name") };
    (get.path.as_deref().expect("a path"), port)
}

#[test]
fn the_service_leads_to_the_ports_that_the_binary_opens() {
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
    // What listens on loopback cannot be reached by a Service, nor by a probe.
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
fn there_are_three_replicas_at_least_and_scaling_is_left_alone() {
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
fn the_network_policies_let_through_what_the_configuration_needs() {
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
