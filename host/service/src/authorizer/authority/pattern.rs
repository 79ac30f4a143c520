//! Host patterns of routes: bringing them into canonical form, and refusing those that no host matches.

use std::{borrow::Cow, net::Ipv6Addr};

use super::{
    AuthorityParts, HostsConfig, MAX_LABEL, MAX_NAME, PortMatching, ends_in_number, is_port, parts,
};
use crate::authorizer::pattern::Pattern;

/// Which ends of a piece are ends of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Start,
    End,
}

/// Brings `pattern` into the form in which hosts are compared.
///
/// # Errors
/// What is wrong with it and what to write instead, if no host can match it.
pub(in crate::authorizer) fn compile(
    pattern: &Pattern,
    config: HostsConfig,
) -> Result<Pattern, Cow<'static, str>> {
    let Some(text) = pattern.text() else { return Ok(Pattern::Present) };
    if text.contains('/') {
        return Err("has a slash; write the host without scheme and path".into());
    }
    let text = text.to_ascii_lowercase();
    let compiled = match pattern {
        Pattern::Exact(_) | Pattern::Present => exact(&text, config)?,
        Pattern::Prefix(_) => piece(&text, Piece::Start, config)?,
        Pattern::Suffix(_) => piece(&text, Piece::End, config)?,
    };
    Ok(pattern.with_text(compiled))
}

fn exact(text: &str, config: HostsConfig) -> Result<String, Cow<'static, str>> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("is an IPv6 address without brackets; write `[{text}]`").into());
    }
    let text = if text.is_ascii() { Cow::Borrowed(text) } else { whole_to_ascii(text)?.into() };
    let AuthorityParts { name, port, has_trailing_dot, .. } =
        parts(&text).map_err(|cause| cause.to_string())?;
    if has_trailing_dot {
        return Err(
            format!("ends with a dot, without which hosts are compared; write `{name}`").into()
        );
    }
    let canonical = match port {
        None => name.into_owned(),
        Some(port) if config.port == PortMatching::Match => format!("{name}:{port}"),
        Some(_) => return Err(PORT.into()),
    };
    if canonical == *text {
        return Ok(canonical);
    }
    Err(format!("is not in canonical form; write `{canonical}`").into())
}

const PORT: &str =
    "has a port, without which hosts are compared; leave it out, or set `hosts.port: match`";

/// The start or the end of a host.
fn piece(text: &str, piece: Piece, config: HostsConfig) -> Result<String, Cow<'static, str>> {
    if text.contains(['[', ']']) || text.matches(':').count() > 1 {
        return ipv6_piece(text, piece, config);
    }
    let (host, port) = match text.split_once(':') {
        Some(_) if config.port != PortMatching::Match => return Err(PORT.into()),
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    if port.is_some_and(|port| !piece.may_have_port(port)) {
        return Err("has a port that is not a number from 1 to 65535".into());
    }
    let labels: Vec<&str> = host.split('.').collect();
    let mut compiled = String::with_capacity(text.len());
    for (index, label) in labels.iter().enumerate() {
        let is_whole = match piece {
            Piece::Start => index + 1 < labels.len() || port.is_some(),
            Piece::End => index > 0,
        };
        if index > 0 {
            compiled.push('.');
        }
        compiled.push_str(&self::label(label, is_whole)?);
    }
    if compiled.len() > MAX_NAME {
        return Err("is longer than the 253 characters of a host".into());
    }
    if piece == Piece::End && !may_end_host(&compiled) {
        return Err("ends in a number, but not as an IPv4 address does".into());
    }
    if let Some(port) = port {
        compiled.push(':');
        compiled.push_str(port);
    }
    Ok(compiled)
}

/// A label, or the part of one, in ASCII.
fn label(text: &str, is_whole: bool) -> Result<Cow<'_, str>, Cow<'static, str>> {
    let ascii: Cow<'_, str> = match (text.is_ascii(), is_whole) {
        (true, _) => text.into(),
        (false, true) => whole_to_ascii(text)?.into(),
        (false, false) => {
            return Err(
                "has a star within a label beyond ASCII, which is compared in its form with \
                 `xn--`; put the star before or after a dot"
                    .into(),
            );
        }
    };
    let is_permitted = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if is_whole && ascii.is_empty() {
        return Err("has an empty label, which no host has".into());
    }
    if ascii.len() > MAX_LABEL || !ascii.bytes().all(is_permitted) {
        return Err(
            "has a label that no host has: those are up to 63 letters, digits, `-` and `_`".into(),
        );
    }
    Ok(ascii)
}

fn whole_to_ascii(text: &str) -> Result<String, Cow<'static, str>> {
    idna::domain_to_ascii(text).map_err(|_| "is not an internationalized name (IDNA)".into())
}

/// Part of an address in brackets.
fn ipv6_piece(text: &str, piece: Piece, config: HostsConfig) -> Result<String, Cow<'static, str>> {
    let (address, after) = match text.split_once(']') {
        Some((address, after)) => (address, Some(after)),
        None => (text, None),
    };
    let address = match (piece, address.strip_prefix('[')) {
        (_, Some(address)) => Some(address),
        (Piece::Start, None) => None,
        (Piece::End, None) => Some(address),
    };
    let ends = match after {
        None => piece == Piece::Start,
        Some("") => true,
        Some(after) => {
            let port = after.strip_prefix(':');
            config.port == PortMatching::Match && port.is_some_and(|port| piece.may_have_port(port))
        }
    };
    let is_permitted = |byte: u8| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.';
    if ends && address.is_some_and(|address| address.bytes().all(is_permitted)) {
        return Ok(text.to_owned());
    }
    Err("is not part of an IPv6 address in brackets; write `[2001:db8:*`, for example".into())
}

/// Whether a host may end with this text: a number at the end must be that of an IPv4 address.
fn may_end_host(text: &str) -> bool {
    if !text.contains('.') || !ends_in_number(text) {
        return true;
    }
    let mut labels = text.split('.');
    let first = labels.next().unwrap_or_default();
    let is_octet = |label: &str| label.parse::<u8>().is_ok_and(|octet| octet.to_string() == *label);
    let may_end_octet = first.len() <= 3 && first.bytes().all(|byte| byte.is_ascii_digit());
    may_end_octet && labels.clone().count() <= 3 && labels.all(is_octet)
}

impl Piece {
    /// Whether there is a port with which this end of a host is, or begins if more may follow.
    fn may_have_port(self, port: &str) -> bool {
        let begins_one = || port.is_empty() || (1..=5).any(|n| is_port(&format!("{port:0<n$}")));
        is_port(port) || (self == Self::Start && begins_one())
    }
}
