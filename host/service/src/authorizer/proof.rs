//! Possession check of the pipeline: whether a request comes from the client that its token is bound to,
//! and the denial if not.

use portcullis_types::{
    attributes::HttpAttributes,
    decision::{Decision, Header, Reason, Verdict},
};

use super::{Authorizer, Check, credentials::Presented, request_line::RequestLine, target};
use crate::token::{BoundRequest, PossessionFault, VerifiedToken};

/// The header with a nonce for the next proof (RFC 9449 section 9).
const NONCE: &str = "dpop-nonce";

// === impl Authorizer ===

impl Authorizer {
    /// Checks what the token is bound to, if it is bound. This comes before the blacklist: a request that
    /// proves nothing learns nothing of the token, and costs no lookup.
    pub(super) fn check_possession(
        &self,
        check: &Check<'_>,
        presented: &Presented<'_>,
        token: &VerifiedToken,
        http: &HttpAttributes,
        line: &RequestLine<'_>,
    ) -> Result<(), Box<Decision>> {
        let is_target =
            |uri: &str| target::is_target(uri, http, line, &self.paths, self.possession.origins());
        let request = BoundRequest {
            token: presented.token,
            scheme: presented.scheme,
            http,
            source: &check.attributes.source,
            is_target: &is_target,
        };
        self.possession.check(token, &request, check.now).map_err(|fault| Box::new(denied(fault)))
    }
}

fn denied(fault: PossessionFault) -> Decision {
    let deny = |reason, detail: String| Decision::deny(reason).with_detail(detail);
    match fault {
        PossessionFault::Token(error) => deny(Reason::InvalidToken, error.detail()),
        PossessionFault::Certificate(fault) => deny(Reason::InvalidToken, fault.code().to_owned()),
        PossessionFault::Proof(fault) => deny(Reason::InvalidProof, fault.detail()),
        PossessionFault::Full => deny(Reason::NotReady, "tokens.dpop.remembered_proofs".to_owned()),
        PossessionFault::NonceNeeded(nonce) => {
            let mut decision = Decision::deny(Reason::NonceNeeded);
            if let Verdict::Deny(deny) = &mut decision.verdict {
                deny.headers.push(Header { name: NONCE.to_owned(), value: nonce });
            }
            decision
        }
    }
}
