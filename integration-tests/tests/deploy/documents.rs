//! Parser of manifests: YAML into values, values into types, without losing a field.

use std::path::{Path, PathBuf};

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::{Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    serde::{Serialize, de::DeserializeOwned},
};
use serde_json::Value;

use super::types::{istio, kustomize::Kustomization, monitoring};

/// One document of a YAML file.
#[derive(Debug, Clone)]
pub(super) struct Document {
    pub(super) path: PathBuf,
    pub(super) value: Value,
}

/// A path in the folder `deploy`.
pub(super) fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

/// The text of a file.
pub(super) fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The only document of a YAML file.
pub(super) fn yaml(path: &Path) -> Value {
    let mut documents = yaml_documents(path);
    assert_eq!(documents.len(), 1, "{} is one document", path.display());
    documents.remove(0).value
}

/// Every document of a YAML file.
pub(super) fn yaml_documents(path: &Path) -> Vec<Document> {
    let values: Vec<Value> = serde_saphyr::from_multiple(&text(path))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    values.into_iter().map(|value| Document { path: path.to_owned(), value }).collect()
}

/// Every file below a folder.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    files.sort();
    files
}

/// Every manifest below a folder of `deploy`: the documents that have a `kind`.
pub(super) fn manifests(folder: &str) -> Vec<Document> {
    files(&deploy(folder))
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .flat_map(|path| yaml_documents(path))
        .filter(|document| document.value.get("kind").is_some())
        .collect()
}

/// Deserializes a value into its type, and panics with the fields that the type does not have.
pub(super) fn typed<T: Serialize + DeserializeOwned>(path: &Path, value: &Value) -> T {
    let typed: T = serde_json::from_value(value.clone())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    // Kubernetes' types ignore unknown fields, so these are missing after a round trip.
    let lost = lost(value, &serde_json::to_value(&typed).unwrap(), "");
    assert!(lost.is_empty(), "{}: unknown: {}", path.display(), lost.join(", "));
    typed
}

/// Deserializes the only document of a file in `deploy` into its type.
pub(super) fn read<T: Serialize + DeserializeOwned>(file: &str) -> T {
    let path = deploy(file);
    typed(&path, &yaml(&path))
}

/// The parts of `before` that differ in `after`, which may have more.
fn lost(before: &Value, after: &Value, place: &str) -> Vec<String> {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => before
            .iter()
            .flat_map(|(key, value)| {
                let place = format!("{place}.{key}");
                match after.get(key) {
                    Some(after) => lost(value, after, &place),
                    None => vec![place],
                }
            })
            .collect(),
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            let pairs = before.iter().zip(after).enumerate();
            pairs
                .flat_map(|(i, (before, after))| lost(before, after, &format!("{place}[{i}]")))
                .collect()
        }
        (before, after) if before == after => Vec::new(),
        _ => vec![place.to_owned()],
    }
}

// === impl Document ===

impl Document {
    pub(super) fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }

    pub(super) fn typed<T: Serialize + DeserializeOwned>(&self) -> T {
        typed(&self.path, &self.value)
    }

    /// Deserializes it into the type of its `apiVersion` and `kind`.
    fn check(&self) {
        let api_version = self.value["apiVersion"].as_str().unwrap_or_default();
        match (api_version, self.kind()) {
            ("v1", "ServiceAccount") => drop(self.typed::<ServiceAccount>()),
            ("v1", "Service") => drop(self.typed::<Service>()),
            ("apps/v1", "Deployment") => drop(self.typed::<Deployment>()),
            ("autoscaling/v2", "HorizontalPodAutoscaler") => {
                drop(self.typed::<HorizontalPodAutoscaler>());
            }
            ("policy/v1", "PodDisruptionBudget") => drop(self.typed::<PodDisruptionBudget>()),
            ("networking.k8s.io/v1", "NetworkPolicy") => drop(self.typed::<NetworkPolicy>()),
            ("monitoring.coreos.com/v1", "ServiceMonitor") => {
                drop(self.typed::<monitoring::ServiceMonitor>());
            }
            ("monitoring.coreos.com/v1", "PodMonitor") => {
                drop(self.typed::<monitoring::PodMonitor>());
            }
            ("monitoring.coreos.com/v1", "PrometheusRule") => {
                drop(self.typed::<monitoring::PrometheusRule>());
            }
            ("security.istio.io/v1", "AuthorizationPolicy") => {
                drop(self.typed::<istio::AuthorizationPolicy>());
            }
            ("networking.istio.io/v1", "ServiceEntry") => {
                drop(self.typed::<istio::ServiceEntry>());
            }
            ("networking.istio.io/v1", "DestinationRule") => {
                drop(self.typed::<istio::DestinationRule>());
            }
            ("networking.istio.io/v1alpha3", "EnvoyFilter") => {
                drop(self.typed::<istio::EnvoyFilter>());
            }
            ("install.istio.io/v1alpha1", "IstioOperator") => {
                drop(self.typed::<istio::IstioOperator>());
            }
            ("kustomize.config.k8s.io/v1beta1", "Kustomization")
            | ("kustomize.config.k8s.io/v1alpha1", "Component") => {
                drop(self.typed::<Kustomization>());
            }
            other => panic!("{}: no type for {other:?}", self.path.display()),
        }
    }
}

#[test]
fn every_manifest_has_only_known_fields() {
    let manifests = manifests("");
    assert!(manifests.len() > 20, "found {}", manifests.len());
    for manifest in manifests {
        manifest.check();
        assert!(
            manifest.kind() == "Kustomization"
                || manifest.kind() == "Component"
                || !manifest.name().is_empty(),
            "{} has no name",
            manifest.path.display()
        );
    }
}

#[test]
fn an_unknown_field_of_a_kubernetes_object_is_found() {
    let mut service = yaml(&deploy("kubernetes/service.yaml"));
    service["spec"]["ports"][1]["prot"] = serde_json::json!(9090);
    let typed: Service = serde_json::from_value(service.clone()).unwrap();
    let lost = lost(&service, &serde_json::to_value(&typed).unwrap(), "");
    assert_eq!(lost, [".spec.ports[1].prot"]);
}
