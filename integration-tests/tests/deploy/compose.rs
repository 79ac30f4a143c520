//! Tests of the sandbox: its services, Envoy and Portcullis agree on names and ports.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

use super::{
    binary,
    configuration::named_files,
    documents::{deploy, read, text, yaml},
    types::compose::{Compose, Condition, Dependency, Service},
};

fn compose() -> Compose {
    read("compose/compose.yaml")
}

fn configuration() -> Value {
    yaml(&deploy("compose/portcullis.yaml"))
}

/// The services that run our image.
fn ours(compose: &Compose) -> BTreeMap<&str, &Service> {
    let services = compose.services.iter();
    services
        .filter(|(_, service)| service.image.starts_with("portcullis:"))
        .map(|(name, service)| (name.as_str(), service))
        .collect()
}

/// The port that a service listens on.
fn port(compose: &Compose, name: &str) -> u16 {
    let service = compose.services.get(name).unwrap_or_else(|| panic!("no service {name}"));
    match service.image.split(':').next().unwrap() {
        "portcullis" => binary::port(&configuration(), "grpc"),
        "rabbitmq" => 5672,
        "redis" if name.starts_with("sentinel") => sentinel("port").parse().unwrap(),
        "redis" => 6379,
        "python" => {
            let backend = text(&deploy("compose/backend.py"));
            let port = backend.lines().find_map(|line| line.strip_prefix("PORT = ")).unwrap();
            port.parse().unwrap()
        }
        other => panic!("{name}: who knows where {other} listens"),
    }
}

/// The rest of the line of `sentinel.conf` with this beginning.
fn sentinel(directive: &str) -> String {
    let file = text(&deploy("compose/sentinel.conf"));
    let line = file.lines().find_map(|line| line.strip_prefix(directive));
    line.unwrap_or_else(|| panic!("no {directive}")).trim().to_owned()
}

/// `host:port` as a service and its port.
fn assert_address(compose: &Compose, address: &str) {
    let (host, found) = address.rsplit_once(':').expect("host:port");
    assert_eq!(found.parse(), Ok(port(compose, host)), "{address}");
}

#[test]
fn the_sandbox_has_all_services() {
    let compose = compose();
    let ours = ours(&compose);
    assert_eq!(ours.keys().copied().collect::<Vec<_>>(), ["portcullis", "relay"]);
    assert_eq!(ours["portcullis"].deploy.as_ref().unwrap().replicas, 3);
    assert_eq!(ours["relay"].deploy.as_ref().unwrap().replicas, 2);
    let sentinels = compose.services.keys().filter(|name| name.starts_with("sentinel-"));
    assert_eq!(sentinels.count(), 3);
    for name in ["envoy", "backend", "rabbitmq", "redis-primary", "redis-replica"] {
        assert!(compose.services.contains_key(name), "{name}");
    }
}

#[test]
fn our_containers_run_commands_of_the_binary_and_are_restricted() {
    let path = deploy("compose/compose.yaml");
    let config = configuration();
    let drain = binary::seconds(&config, "shutdown", "grace")
        + binary::seconds(&config, "shutdown", "timeout");
    for (name, service) in ours(&compose()) {
        binary::assert_understands(&service.command, &path);
        assert!(service.entrypoint.is_empty() && service.environment.is_empty(), "{name}");
        assert!(service.read_only && service.cap_drop == ["ALL"], "{name}");
        assert_eq!(service.security_opt, ["no-new-privileges:true"], "{name}");
        let build = service.build.as_ref().expect("it is built here");
        let context = deploy("compose").join(&build.context);
        assert!(context.join(&build.dockerfile).is_file(), "{name}");
        if name == "portcullis" {
            let period = service.stop_grace_period.as_ref().expect("longer than the drain");
            assert!(binary::parse_seconds(period) > drain, "{name}");
        }
    }
}

#[test]
fn mounted_files_exist_and_named_files_are_mounted() {
    let compose = compose();
    for (name, service) in &compose.services {
        for volume in &service.volumes {
            let source = volume.split(':').next().unwrap();
            let exists = match source.strip_prefix("./") {
                Some(file) => deploy("compose").join(file).is_file(),
                None => compose.volumes.contains_key(source),
            };
            assert!(exists, "{name}: {volume}");
        }
        for dependency in service.depends_on.keys() {
            assert!(compose.services.contains_key(dependency), "{name}: {dependency}");
        }
        for (dependency, Dependency { condition }) in &service.depends_on {
            let waits = *condition == Condition::Healthy;
            let healthcheck = compose.services[dependency].healthcheck.is_some();
            assert!(!waits || healthcheck, "{name} waits for ever for {dependency}");
        }
    }
    let secrets = made_secrets();
    for (key, file) in named_files(&configuration()) {
        let secret = file.strip_prefix("/etc/portcullis/secrets/");
        let there = secret.map_or(file.starts_with("/usr/share/portcullis/"), |name| {
            secrets.contains(&name.to_owned())
        });
        assert!(there, "nothing makes {file} (`{key}`)");
    }
}

/// The files that the program for secrets creates.
fn made_secrets() -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new("python3")
        .arg(deploy("compose/make_secrets.py"))
        .arg(folder.path())
        .status()
        .expect("python3 is missing; install it");
    assert!(status.success());
    let files = std::fs::read_dir(folder.path()).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn only_loopback_ports_are_opened() {
    for (name, service) in compose().services {
        for port in service.ports {
            assert!(port.starts_with("127.0.0.1:"), "{name} is open to the network: {port}");
        }
    }
    let config = configuration();
    let (compose, admin) = (compose(), binary::port(&config, "admin"));
    let published = &compose.services["portcullis"].ports[0];
    assert!(published.ends_with(&format!(":{admin}")), "{published}");
    // One for each replica.
    assert!(published.contains(&format!(":{admin}-{}:", admin + 2)), "{published}");
    assert!(config["admin"]["listen"].as_str().unwrap().starts_with("0.0.0.0:"));
}

#[test]
fn envoys_clusters_are_services_of_the_sandbox() {
    let compose = compose();
    let envoy = yaml(&deploy("compose/envoy.yaml"));
    let resources = &envoy["static_resources"];
    for cluster in resources["clusters"].as_array().unwrap() {
        let endpoint = &cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
        let address = &endpoint["address"]["socket_address"];
        let address = format!("{}:{}", address["address"].as_str().unwrap(), address["port_value"]);
        assert_address(&compose, &address);
    }
    let listener = &resources["listeners"][0]["address"]["socket_address"]["port_value"];
    let published = &compose.services["envoy"].ports[0];
    assert!(published.ends_with(&format!(":{listener}")), "{published}");
}

#[test]
fn the_envoy_of_the_sandbox_is_the_example_with_other_addresses() {
    let strip = |file: &str| {
        let mut envoy = yaml(&deploy(file));
        for cluster in envoy["static_resources"]["clusters"].as_array_mut().unwrap() {
            let endpoint = &mut cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0];
            endpoint["endpoint"]["address"]["socket_address"]["address"] = Value::Null;
        }
        envoy
    };
    assert_eq!(strip("compose/envoy.yaml"), strip("envoy/envoy.yaml"));
}

#[test]
fn the_services_of_the_feed_are_in_the_sandbox() {
    let compose = compose();
    let feed = &configuration()["blacklist"];
    let url = feed["rabbitmq"]["url"].as_str().unwrap();
    let (user, rest) = url.strip_prefix("amqp://").unwrap().split_once('@').unwrap();
    let (address, vhost) = rest.split_once('/').unwrap();
    assert_address(&compose, address);
    let rabbitmq = &compose.services["rabbitmq"];
    assert_eq!(rabbitmq.environment["RABBITMQ_DEFAULT_USER"], user);
    assert_eq!(rabbitmq.environment["RABBITMQ_DEFAULT_VHOST"], vhost);
    // The name of the node is part of the path of its data.
    assert_eq!(rabbitmq.hostname.as_deref(), Some("rabbitmq"));
    let sentinels = feed["redis"]["sentinels"].as_array().unwrap();
    assert_eq!(sentinels.len(), 3);
    for address in sentinels {
        assert_address(&compose, address.as_str().unwrap());
    }
    let monitored = sentinel("sentinel monitor");
    let monitored: Vec<_> = monitored.split(' ').collect();
    assert_eq!(monitored[0], feed["redis"]["master_name"]);
    assert_address(&compose, &format!("{}:{}", monitored[1], monitored[2]));
}
