//! The guard: the last step of every allow, and of every deny that a policy wrote. It bounds and checks
//! each part of the answer.
//!
//! Envoy applies whatever an answer asks. It would let a policy send a request to another host
//! (`:path` and `host` are rewritten), answers 503 to a header with a line break, cannot read an
//! answer that is nested deeply, which lets a request pass where the filter fails open, and leaves
//! whatever the client sent under a name that is not mentioned. So each change passes here,
//! whichever path produced it.

mod metadata;
mod query;
mod request_size;

use std::collections::BTreeSet;

use portcullis_types::{
    attributes::{fold_alike, is_end_to_end},
    decision::{Allow, Deny, Header},
};
pub(super) use query::rewrite as rewrite_query;
pub use request_size::RequestLimits;
pub(super) use request_size::check as check_request_size;

use crate::token::AUTHORIZATION;

/// The headers that a decision sets on a message, be it the request or the response, and the
/// parameters of the query. Envoy by default refuses messages with more than 60 KiB of headers or more
/// than 100 of them, those that the client sent included.
const MAX_HEADER_BYTES: usize = 60_000;
/// How many of each.
const MAX_HEADERS: usize = 100;
/// A body that a policy writes.
const MAX_BODY_BYTES: usize = 64 << 10;
/// Answers with one of these have no body (RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5): a client would
/// take it for the beginning of the next answer.
const WITHOUT_BODY: [u16; 3] = [204, 205, 304];
/// Headers of a body.
const OF_A_BODY: [&str; 4] =
    ["content-encoding", "content-language", "content-range", "content-type"];
/// Prefix of Envoy's headers for this protocol. Over HTTP, one of them lists the headers to remove.
const OF_THE_PROTOCOL: &str = "x-envoy-auth-";
/// What Envoy's own headers begin with. With `decoder_header_mutation_rules` an answer that sets or
/// removes one in the request is an error to Envoy; without, it sends the request to another
/// upstream or gives it other limits.
const OF_ENVOY: &str = "x-envoy";

/// A decision would change the request or the response in a way that is not permitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnsafeDecision {
    /// A header name is malformed, a pseudo header, one of the connection's, of the protocol's or, in the
    /// request, of Envoy's.
    #[error("header name not permitted: {0:?}")]
    Name(String),
    /// Two names that servers fold into one.
    #[error("header names that servers take for one: {0} and {1}")]
    Alike(String, String),
    /// A response header under the name of a request header that the decision is about. Over HTTP, both
    /// kinds share one list.
    #[error("response header under the name of a request header: {0}")]
    ResponseName(String),
    /// A header value has a control character.
    #[error("header value with a control character: {0}")]
    Value(String),
    /// A value would be trimmed on its way.
    #[error("header value with a blank at one end: {0}")]
    Blank(String),
    /// Too much.
    #[error(
        "more than {MAX_HEADERS} headers or query parameters, or {MAX_HEADER_BYTES} bytes of them"
    )]
    TooLarge,
    /// The request would be larger than the proxy takes.
    #[error(
        "the request would have {headers} headers of {bytes} bytes, and the proxy refuses it; see \
         request_limits"
    )]
    Request {
        /// All headers, those of the client included.
        headers: usize,
        /// The bytes of their names and values.
        bytes: usize,
    },
    /// A query parameter without a key, or with a control character. Only the key is shown: the
    /// value may be anything.
    #[error("query parameter not permitted: {0:?}")]
    Query(String),
    /// A status that is no HTTP status, or that asks for another protocol.
    #[error("status {0} is not between 200 and 599")]
    Status(u16),
    /// A body beyond the limit.
    #[error("body of more than {MAX_BODY_BYTES} bytes")]
    Body,
    /// Metadata beyond the limits.
    #[error(transparent)]
    Metadata(#[from] metadata::TooMuch),
}

/// Checks an allow and completes it.
///
/// `identity` are the headers that are Portcullis' own to set: a value, or `None` to make sure that
/// nothing of that name reaches the upstream. They win over whatever the policy wants.
///
/// # Errors
/// When the change is not permitted; the request is then denied.
pub(super) fn allow(
    mut allow: Allow,
    identity: Vec<(String, Option<String>)>,
) -> Result<Allow, UnsafeDecision> {
    let is_identity = |name: &str| identity.iter().any(|(identity, _)| fold_alike(identity, name));
    let mut set: Vec<Header> = Vec::with_capacity(allow.set_request_headers.len() + identity.len());
    for mut header in allow.set_request_headers {
        header.name = request_name(header.name)?;
        if is_identity(&header.name) {
            continue;
        }
        set.retain(|earlier| earlier.name != header.name);
        if let Some(other) = set.iter().find(|other| fold_alike(&other.name, &header.name)) {
            return Err(UnsafeDecision::Alike(other.name.clone(), header.name));
        }
        set.push(header);
    }
    check_size(allow.remove_request_headers.iter().map(String::len))?;
    let removed = allow.remove_request_headers.into_iter().map(request_name);
    let mut remove: BTreeSet<String> = removed.collect::<Result<_, _>>()?;
    allow.response_headers = response_headers(allow.response_headers)?;
    for Header { name, .. } in &allow.response_headers {
        // Any spelling: other spellings that the client sent are removed, too.
        let is_set = set.iter().any(|header| fold_alike(&header.name, name));
        let is_removed = remove.iter().any(|removed| fold_alike(removed, name));
        if is_set || is_removed || is_identity(name) {
            return Err(UnsafeDecision::ResponseName(name.clone()));
        }
    }
    complete(&mut set, &mut remove, identity);
    check_values(&set)?;
    if let Some(header) = set.iter().find(|header| header.value.trim_matches(BLANK) != header.value)
    {
        return Err(UnsafeDecision::Blank(header.name.clone()));
    }
    allow.set_request_headers = set;
    allow.remove_request_headers = remove.into_iter().collect();
    check_query(&allow)?;
    metadata::check(&allow.metadata)?;
    Ok(allow)
}

/// Adds the identity headers, and makes two lists of it that have no name in common.
fn complete(
    set: &mut Vec<Header>,
    remove: &mut BTreeSet<String>,
    identity: Vec<(String, Option<String>)>,
) {
    set.extend(
        identity.into_iter().map(|(name, value)| Header { name, value: value.unwrap_or_default() }),
    );
    // Envoy removes after it sets, so that a name on both lists would end up unset.
    for header in set.iter() {
        remove.remove(&header.name);
    }
    // An empty header is absent to some servers and a value to others.
    for header in set.extract_if(.., |header| header.value.bytes().all(is_blank)) {
        remove.insert(header.name);
    }
}

/// Checks a deny that a policy wrote.
///
/// # Errors
/// When the answer is not permitted; the request is then denied in the standard way.
pub(super) fn deny(mut deny: Deny) -> Result<Deny, UnsafeDecision> {
    if !(200..=599).contains(&deny.status) {
        return Err(UnsafeDecision::Status(deny.status));
    }
    if deny.body.len() > MAX_BODY_BYTES {
        return Err(UnsafeDecision::Body);
    }
    deny.headers = response_headers(deny.headers)?;
    if WITHOUT_BODY.contains(&deny.status) {
        deny.body.clear();
        deny.headers.retain(|header| !OF_A_BODY.contains(&header.name.as_str()));
    }
    metadata::check(&deny.metadata)?;
    Ok(deny)
}

/// Whether `name` may be set by configuration as an identity header.
pub(super) fn is_identity_name(name: &str) -> bool {
    name != AUTHORIZATION
        && name != "cookie"
        && request_name(name.to_owned()).is_ok_and(|checked| checked == name)
}

/// Whether `name` may be set by configuration as a header of a denial.
pub(super) fn is_response_name(name: &str) -> bool {
    name != AUTHORIZATION && checked_name(name.to_owned()).is_ok_and(|checked| checked == name)
}

/// Whether Envoy takes `name`, in lower case, for one of its own headers.
pub(super) fn is_envoys(name: &str) -> bool {
    name.starts_with(OF_ENVOY)
}

/// Proxies trim these at the ends of a value: RFC 9110 section 5.5.
const BLANK: [char; 2] = [' ', '\t'];

/// Whether a byte is lost at the ends of a value.
pub(super) fn is_blank(byte: u8) -> bool {
    BLANK.contains(&char::from(byte))
}

/// Several headers of one name become one, as a recipient would join them (RFC 9110 section 5.3); only
/// cookies stand by themselves.
fn response_headers(headers: Vec<Header>) -> Result<Vec<Header>, UnsafeDecision> {
    check_size(headers.iter().map(|header| header.name.len() + header.value.len()))?;
    let mut joined: Vec<Header> = Vec::with_capacity(headers.len());
    for header in headers {
        let name = checked_name(header.name)?;
        match joined.iter_mut().find(|earlier| earlier.name == name && name != "set-cookie") {
            Some(earlier) => earlier.value.extend([", ", &header.value]),
            None => joined.push(Header { name, value: header.value }),
        }
    }
    check_values(&joined)?;
    Ok(joined)
}

/// The name of a header of the request, in whatever spelling.
fn request_name(name: String) -> Result<String, UnsafeDecision> {
    let name = checked_name(name)?;
    let is_envoys = name.get(..OF_ENVOY.len()).is_some_and(|begin| fold_alike(begin, OF_ENVOY));
    if is_envoys { Err(UnsafeDecision::Name(name)) } else { Ok(name) }
}

fn checked_name(mut name: String) -> Result<String, UnsafeDecision> {
    name.make_ascii_lowercase();
    // A pseudo header begins with a colon, which is no token character.
    let is_token = http::HeaderName::from_lowercase(name.as_bytes()).is_ok();
    if is_token && is_end_to_end(&name) && !name.starts_with(OF_THE_PROTOCOL) {
        Ok(name)
    } else {
        Err(UnsafeDecision::Name(name))
    }
}

fn check_values(headers: &[Header]) -> Result<(), UnsafeDecision> {
    check_size(headers.iter().map(|header| header.name.len() + header.value.len()))?;
    match headers.iter().find(|header| header.value.chars().any(is_control)) {
        Some(header) => Err(UnsafeDecision::Value(header.name.clone())),
        None => Ok(()),
    }
}

fn is_control(c: char) -> bool {
    c.is_control() && c != '\t'
}

fn check_query(allow: &Allow) -> Result<(), UnsafeDecision> {
    let (set, remove) = (&allow.set_query_parameters, &allow.remove_query_parameters);
    check_size(set.iter().map(|(key, value)| key.len() + value.len()))?;
    check_size(remove.iter().map(String::len))?;
    let is_bad = |text: &str| text.chars().any(char::is_control);
    let set = set.iter().map(|(key, value)| (key, is_bad(value)));
    let mut all = set.chain(remove.iter().map(|key| (key, false)));
    let bad = all.find(|(key, is_bad_value)| key.is_empty() || is_bad(key) || *is_bad_value);
    bad.map_or(Ok(()), |(key, _)| Err(UnsafeDecision::Query(key.clone())))
}

/// Checks how many there are of something, and how long they are together.
fn check_size(lengths: impl ExactSizeIterator<Item = usize>) -> Result<(), UnsafeDecision> {
    if lengths.len() > MAX_HEADERS || lengths.sum::<usize>() > MAX_HEADER_BYTES {
        return Err(UnsafeDecision::TooLarge);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
