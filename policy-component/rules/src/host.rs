//! Host patterns: `api.example.com`, `*.example.com`, `[::1]`, `*`.
//!
//! The host arrives in one form: lower case, ASCII, without port and without a dot at its end. A
//! pattern that no such host can match is refused.

use alloc::{format, string::String};
use core::net::{Ipv4Addr, Ipv6Addr};

use portcullis_policy::SettingsError;

use crate::{field::Field, glob::Glob};

/// RFC 1035 section 2.3.4, without the dot of the root.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Reads a pattern.
pub(crate) fn read(field: &Field<'_>) -> Result<Glob, SettingsError> {
    let host = field.text()?.to_ascii_lowercase();
    if host != "*" {
        match host.strip_prefix("*.") {
            Some(name) => check_name(field, name)?,
            None => check_host(field, &host)?,
        }
    }
    Ok(Glob::new(&host))
}

fn check_host(field: &Field<'_>, host: &str) -> Result<(), SettingsError> {
    if host.starts_with('[') {
        return check_address(field, host);
    }
    check_name(field, host)?;
    // Resolvers take such a name for an address in whatever notation, so only one is let through.
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last
            .strip_prefix("0x")
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if is_number && host.parse::<Ipv4Addr>().is_err() {
        return Err(field.refuse(
            "ends in a number and is not an IPv4 address of four decimal numbers without leading \
             zeros",
        ));
    }
    Ok(())
}

fn check_address(field: &Field<'_>, host: &str) -> Result<(), SettingsError> {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let Some(address) = inner.and_then(|inner| inner.parse::<Ipv6Addr>().ok()) else {
        return Err(field.refuse(
            "is not an IPv6 address in brackets, without a port, such as `[2001:db8::1]`",
        ));
    };
    let canonical: String = format!("[{address}]");
    if canonical != host {
        return Err(field.refuse(format!("is not in canonical form; write `{canonical}`")));
    }
    Ok(())
}

fn check_name(field: &Field<'_>, name: &str) -> Result<(), SettingsError> {
    if name.contains('*') {
        return Err(field.refuse("`*` stands alone or for whole labels in front: `*.example.com`"));
    }
    if name.contains('/') {
        return Err(field.refuse("must be a host name without scheme, port or path"));
    }
    if name.parse::<Ipv6Addr>().is_ok() {
        return Err(field.refuse(format!("write an IPv6 address in brackets: `[{name}]`")));
    }
    if name.contains(':') {
        return Err(field.refuse(
            "must be a host name without scheme, port or path; hosts are compared without port",
        ));
    }
    if !name.is_ascii() {
        return Err(field.refuse(
            "has characters beyond ASCII, which no host has on the wire; write the `xn--` form",
        ));
    }
    if let Some(name) = name.strip_suffix('.').filter(|name| !name.is_empty()) {
        return Err(field
            .refuse(format!("ends with a dot, without which hosts are compared; write `{name}`")));
    }
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if name.len() > MAX_NAME || !name.split('.').all(is_label) {
        return Err(field.refuse(
            "is not a host: labels of up to 63 letters, digits, `-` and `_`, with dots between \
             them",
        ));
    }
    Ok(())
}
