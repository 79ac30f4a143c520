//! Settings of the challenge of a route.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a denied client is told about the token that it needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Challenge")]
pub struct ChallengeConfig {
    /// What the resource is called (RFC 9110 section 11.5).
    pub realm: Option<String>,
    /// The scopes that a token needs.
    pub scope: Vec<String>,
    /// Where the metadata of the resource are (RFC 9728 section 5.1), an `https` URL. Clients of agents
    /// find the issuer by it.
    pub resource_metadata: Option<String>,
}
