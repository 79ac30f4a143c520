//! Presets of issuers: what the access tokens of well-known issuers look like.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::credential::{Credential, HeaderCredential};

portcullis_types::listed_enum! {
    /// What is known of an issuer's access tokens. It sets `required_claims`, `header_types`,
    /// `token_type` and `token_from` where these are left out.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
    #[serde(rename_all = "kebab-case")]
    #[schemars(rename = "Preset")]
    pub enum IssuerPreset: name {
        /// Access tokens have `typ: Bearer` among their claims. Refresh and ID tokens do not.
        Keycloak = "keycloak",
        /// Custom authorization servers: access tokens have `cid`, ID tokens do not.
        Okta = "okta",
        /// Microsoft Entra: tokens have no `jti`, so they are revoked by subject or session only.
        Entra = "entra",
        /// Tokens of the default profile have no `jti`, so they are revoked by subject or session only.
        Auth0 = "auth0",
        /// Amazon Cognito: access tokens have `token_use: access`, and no `aud`. Name your clients in
        /// `authorized_parties`.
        Cognito = "cognito",
        /// Google's Identity-Aware Proxy: in the header `x-goog-iap-jwt-assertion`, without `jti`.
        GoogleIap = "google-iap",
        /// Cloudflare Access: in the header `cf-access-jwt-assertion`, with `type: app`, without `jti`.
        CloudflareAccess = "cloudflare-access",
        /// Kubernetes and Istio: tokens of service accounts and of Istio's examples, without `jti`.
        Istio = "istio",
        /// JWT-SVIDs: with `aud`, without `jti`.
        Spiffe = "spiffe",
    }
}

/// The settings of a preset.
pub(super) struct PresetSettings {
    pub(super) required_claims: &'static [&'static str],
    pub(super) header_types: &'static [&'static str],
    /// A claim, and its values.
    pub(super) token_type: Option<(&'static str, &'static [&'static str])>,
    /// The header in which the token is, if it is not `authorization`.
    pub(super) header: Option<&'static str>,
}

/// The settings without a preset.
const GENERAL: PresetSettings = PresetSettings {
    required_claims: &["exp", "sub", "jti"],
    header_types: &["at+jwt", "JWT", "absent"],
    token_type: None,
    header: None,
};

/// What most issuers leave out.
const WITHOUT_ID: PresetSettings = PresetSettings { required_claims: &["exp", "sub"], ..GENERAL };

// === impl PresetSettings ===

impl PresetSettings {
    /// Those of a preset, or the general ones.
    pub(super) fn of(preset: Option<IssuerPreset>) -> Self {
        let Some(preset) = preset else { return GENERAL };
        match preset {
            IssuerPreset::Keycloak => Self { token_type: Some(("typ", &["Bearer"])), ..GENERAL },
            IssuerPreset::Okta => {
                Self { required_claims: &["exp", "sub", "jti", "cid"], ..GENERAL }
            }
            IssuerPreset::Entra | IssuerPreset::Auth0 | IssuerPreset::Istio => WITHOUT_ID,
            IssuerPreset::Cognito => Self {
                required_claims: &["exp", "sub", "jti", "client_id"],
                token_type: Some(("token_use", &["access"])),
                ..GENERAL
            },
            IssuerPreset::GoogleIap => {
                Self { header: Some("x-goog-iap-jwt-assertion"), ..WITHOUT_ID }
            }
            IssuerPreset::CloudflareAccess => Self {
                token_type: Some(("type", &["app"])),
                header: Some("cf-access-jwt-assertion"),
                ..WITHOUT_ID
            },
            IssuerPreset::Spiffe => Self {
                required_claims: &["exp", "sub", "aud"],
                header_types: &["JWT", "JOSE", "absent"],
                ..GENERAL
            },
        }
    }

    /// Where the token is.
    pub(super) fn credential(&self) -> Credential {
        self.header.map_or_else(Credential::default, |header| {
            Credential::Header(HeaderCredential { header: header.to_owned(), scheme: None })
        })
    }
}
