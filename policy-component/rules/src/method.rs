//! Methods that a rule may name: those that some request has.
//!
//! Any token could be a method, but most are a mistake that leaves requests to the next rule:
//! `GET|POST`, `*` and `ANY` match none of the requests that they are meant for. Routes refuse the
//! same.

use alloc::{boxed::Box, format};

use portcullis_policy::SettingsError;

use crate::field::Field;

/// Methods of RFC 9110 and RFC 5789. Two of them with `-` or `_` between are no method.
const COMMON: [&str; 9] =
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// Reads one method.
pub(crate) fn read(field: &Field<'_>) -> Result<Box<str>, SettingsError> {
    let method = field.text()?;
    let upper = method.to_ascii_uppercase();
    let problem = if !is_one(&upper) {
        "is no method"
    } else if matches!(&*upper, "ALL" | "ANY") {
        "stands for no other methods"
    } else if matches!(&*upper, "CONNECT" | "PRI") {
        "is the method of no request that a route matches"
    } else if upper != method {
        return Err(field.refuse(format!("is not in upper case; write `{upper}`")));
    } else {
        return Ok(method.into());
    };
    Err(field.refuse(format!(
        "{problem}; list single methods in upper case, for example `[GET, POST]`, or leave `methods` \
         out for any method"
    )))
}

/// Whether a text in upper case names one method, as far as can be told.
fn is_one(upper: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let parts = || upper.split(['-', '_']);
    upper.starts_with(|first: char| first.is_ascii_uppercase())
        && upper.bytes().all(is_known)
        && !parts().any(str::is_empty)
        && (COMMON.contains(&upper) || !parts().all(|part| COMMON.contains(&part)))
}
