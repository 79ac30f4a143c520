//! Settings of the policy host.

use std::path::PathBuf;

use portcullis_types::duration::{HumanDuration, longer_than_zero};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// Limits that hold for every policy.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HostConfig {
    /// How often policy files are checked for changes.
    #[serde(deserialize_with = "longer_than_zero")]
    pub reload_interval: HumanDuration,
    /// After this long, an attempt to load a changed policy is reported as hanging: in the log, in
    /// `GET /v1/policies`, as a failed reload in the metrics, and as 504 to the caller that asked for it. The
    /// attempt goes on meanwhile, and so do all other policies.
    #[serde(deserialize_with = "longer_than_zero")]
    pub reload_timeout: HumanDuration,
    /// How many requests one policy instance serves before it is replaced by a new one; 1 gives
    /// every request its own instance.
    pub instance_reuse: u32,
    /// How much memory one instance may use, in bytes.
    pub memory_limit_bytes: usize,
    /// How many elements the tables of one instance may have.
    pub table_elements: usize,
    /// How large one answer of a policy may be, in bytes, all its strings and lists together.
    pub output_limit_bytes: usize,
    /// How large a policy file may be, in bytes.
    pub max_component_bytes: u64,
    /// How much processor time a policy may take to read its settings.
    #[serde(deserialize_with = "longer_than_zero")]
    pub configure_deadline: HumanDuration,
    /// How many threads the slow calls of one route's policy may hold at once. A call is slow from
    /// 1 ms of processor time on; what exceeds the bound waits for its turn, and is denied when the
    /// caller's time is up. Without it, half as many as there are processors, and at least one.
    #[serde(deserialize_with = "at_least_one")]
    pub slow_calls: Option<usize>,
    /// How many slow calls of all policies together may run at once. Where there are more, they take
    /// turns of 5 ms, policy by policy, and each policy has an equal part. Together they hold 256
    /// threads at most. Without it, half as many as there are processors, and at least one: the
    /// other processors are left to everything else.
    #[serde(deserialize_with = "at_least_one")]
    pub all_slow_calls: Option<usize>,
}

/// Where one policy comes from.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// The component, a `.wasm` file. It is reloaded when it changes.
    pub file: PathBuf,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            reload_interval: HumanDuration::from_millis(1000),
            reload_timeout: HumanDuration::from_millis(10_000),
            instance_reuse: 1000,
            memory_limit_bytes: 16 << 20,
            table_elements: 20_000,
            output_limit_bytes: 64 << 10,
            max_component_bytes: 16 << 20,
            configure_deadline: HumanDuration::from_millis(5000),
            slow_calls: None,
            all_slow_calls: None,
        }
    }
}

fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    match Option::deserialize(deserializer)? {
        Some(0) => {
            Err(serde::de::Error::custom("must be at least 1; leave it out for the default"))
        }
        count => Ok(count),
    }
}
