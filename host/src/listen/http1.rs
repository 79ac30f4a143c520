//! Why an HTTP/1.1 connection ended, where hyper refused what came before a request was read.

use std::error::Error;

use super::Activity;
use crate::telemetry::Refusal;

type BoxError = Box<dyn Error + Send + Sync>;

/// What was wrong with a connection that has ended, if hyper refused something or the peer never
/// made a request. How peers hang up is their affair.
#[must_use]
pub fn refusal(ended: Result<(), BoxError>, activity: &Activity) -> Option<Refusal> {
    let error = ended.err()?.downcast::<hyper::Error>().ok()?;
    if error.is_parse_version_h2() {
        Some(Refusal::Http2)
    } else if error.is_parse_too_large() {
        Some(Refusal::HeadTooLarge)
    } else if error.is_parse() {
        Some(Refusal::BadRequest)
    } else if error.is_timeout() && activity.begun() == 0 {
        Some(Refusal::Silent)
    } else {
        None
    }
}
