//! Tests of the pods: their commands, mounts and permissions.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use portcullis_integration_tests::{
    client::Request,
    portcullis::{self, Portcullis},
};

use super::{
    binary,
    configuration::{self, named_files},
    container_file,
    documents::{Document, deploy, manifests, read},
    kubernetes::{configuration, container, pod},
    types::kustomize::Kustomization,
};

/// Every Deployment, and every patch that adds a container of ours to one.
fn deployments() -> Vec<(Document, Deployment)> {
    let all = manifests("kubernetes").into_iter().chain(manifests("istio"));
    all.filter(|manifest| !manifest.value["spec"]["template"]["spec"]["containers"].is_null())
        .map(|manifest| (manifest.clone(), manifest.typed()))
        .collect()
}

/// The files in the folder of the configuration in a pod of this Deployment.
fn projected_files(deployment: &Deployment) -> BTreeSet<String> {
    let mount = &container(deployment).volume_mounts.as_ref().expect("a mount")[0];
    let volumes = pod(deployment).volumes.as_ref().expect("a volume");
    let volume = volumes.iter().find(|volume| volume.name == mount.name).expect("the mount's");
    let sources = volume.projected.as_ref().and_then(|volume| volume.sources.as_ref()).unwrap();
    let generated: Kustomization = read("kubernetes/kustomization.yaml");
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
fn every_container_runs_a_command_of_the_binary() {
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
async fn probes_use_paths_of_the_admin_edge() {
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
            // An unavailable broker must not restart replicas.
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
