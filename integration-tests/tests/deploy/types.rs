//! Types of manifests for which there is no suitable maintained crate: the part of each API that
//! `deploy` uses, from its documentation. All of them reject unknown fields.

pub(super) mod compose;
pub(super) mod istio;
pub(super) mod kustomize;
pub(super) mod monitoring;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// A manifest whose type is not Kubernetes' own.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Resource<Spec> {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) metadata: ObjectMeta,
    pub(super) spec: Spec,
}
