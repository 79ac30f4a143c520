//! Authority parsing: the one reading of a request's host and port, and refusing what has none.
//!
//! An authority is `reg-name`, an IPv4 address or an IPv6 address in brackets, with an optional port.
//! Proxies and servers disagree about everything else, so everything else is refused. What a port and a
//! dot at the end mean for finding a virtual host depends on the proxy, so settings say it.

mod pattern;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    net::{Ipv4Addr, Ipv6Addr},
};

pub(super) use pattern::compile;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// RFC 1035 section 2.3.4, without the dot of the root.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// How the host of a request is read. The settings must fit the way in which the proxy finds its
/// virtual host, or the proxy and Portcullis take one request for two different hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Hosts")]
pub struct HostsConfig {
    /// How the port of a request's host counts when its route is looked for. Policies see the
    /// host without port.
    pub port: PortMatching,
    /// What to do with a dot at the end of a request's host, as in `api.example.com.`.
    pub trailing_dot: TrailingDot,
}

/// How the port of a host counts when the route is looked for. With Envoy's `strip_any_host_port`, no
/// request has a port, and all of these are the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PortMatching {
    /// A host with a port is decided on if the port makes no difference: its route is the same with the
    /// port as a part of the name and without it; or there is a route only without it, and no route for
    /// the same path and method belongs to other hosts. Otherwise it is refused with `ambiguous_host`.
    /// Safe whatever the proxy does. Patterns have no port.
    #[default]
    Strict,
    /// The port is ignored. For Envoy with `ignore_port_in_host_matching`, as Envoy Gateway configures
    /// it, and for proxies with a single site. Patterns have no port.
    Ignore,
    /// The port is a part of the name, as for Envoy without a setting for ports, or with
    /// `strip_matching_host_port`. A pattern may have one: `api.example.com:8443`. One without matches
    /// hosts without only, except that `prefix*` and `*` match whatever follows.
    Match,
}

/// What to do with a dot at the end of a host. With Envoy's `strip_trailing_host_dot`, no request has
/// one, and both are the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrailingDot {
    /// The request is refused with `ambiguous_host`: for Envoy, `api.example.com.` is not the virtual
    /// host `api.example.com`, for most servers it is.
    #[default]
    Refuse,
    /// The dot is left out. Only if the proxy has a single virtual host.
    Ignore,
}

/// The host of a request, in its one reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host<'a> {
    name: Cow<'a, str>,
    /// Name and port, where ports count.
    with_port: Option<String>,
    /// What a proxy may compare that takes the text as it is.
    as_sent: Option<Cow<'a, str>>,
    has_trailing_dot: bool,
}

/// An authority has no reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedHost {
    /// It is missing or empty.
    #[error("is missing or empty")]
    Empty,
    /// `user@host`
    #[error("has user information before an `@`")]
    UserInfo,
    /// `%41.example`
    #[error("is percent-encoded")]
    Encoded,
    /// `a.example, b.example`
    #[error("is a list")]
    List,
    /// `münchen.example`
    #[error("has a character beyond ASCII instead of the form with `xn--`")]
    NotAscii,
    /// `a b`
    #[error("has a character other than letters, digits, `-`, `_` and `.`")]
    Character,
    /// `a..b`, `.a`
    #[error("has an empty label between or before its dots")]
    EmptyLabel,
    /// A label of more than 63 characters.
    #[error("has a label of more than 63 characters")]
    LongLabel,
    /// More than 253 characters.
    #[error("is longer than 253 characters")]
    TooLong,
    /// `127.1`, `0x7f.1`
    #[error(
        "ends in a number and is not an IPv4 address of four decimal numbers without leading zeros"
    )]
    Ipv4,
    /// `[::x]`, `[::1`
    #[error("is not an IPv6 address in brackets")]
    Ipv6,
    /// `[fe80::1%eth0]`
    #[error("has a zone identifier")]
    Zone,
    /// `::1`, `a:1:2`
    #[error("has several colons; an IPv6 address stands in brackets")]
    Colons,
    /// `a:`, `a:0`, `a:abc`, `a:080`
    #[error("has a port that is not a decimal number from 1 to 65535 without leading zeros")]
    Port,
}

/// The pieces of an authority, each checked.
#[derive(Debug, PartialEq, Eq)]
struct AuthorityParts<'a> {
    /// In canonical form, without dot at the end.
    name: Cow<'a, str>,
    /// The spelling in lower case, if that is not the canonical one.
    spelled: Option<String>,
    port: Option<&'a str>,
    has_trailing_dot: bool,
}

/// Reads an authority as it was sent.
///
/// # Errors
/// When it has no reading.
pub fn read_host(authority: &str, config: HostsConfig) -> Result<Host<'_>, MalformedHost> {
    let AuthorityParts { name, spelled, port, has_trailing_dot } = parts(authority)?;
    let sent = spelled.as_deref().unwrap_or(&name);
    let (with_port, as_sent) = match (config.port, port) {
        (PortMatching::Strict, Some(_))
            if sent.len() < authority.len() && authority.starts_with(sent) && !has_trailing_dot =>
        {
            (None, Some(Cow::Borrowed(authority)))
        }
        (PortMatching::Strict, Some(port)) => (None, Some(format!("{sent}:{port}").into())),
        (PortMatching::Match, Some(port)) => (
            Some(format!("{name}:{port}")),
            spelled.map(|spelled| format!("{spelled}:{port}").into()),
        ),
        _ => (None, spelled.map(Cow::Owned)),
    };
    let has_trailing_dot = has_trailing_dot && config.trailing_dot == TrailingDot::Refuse;
    Ok(Host { name, with_port, as_sent, has_trailing_dot })
}

fn parts(authority: &str) -> Result<AuthorityParts<'_>, MalformedHost> {
    let (host, port) = split(authority)?;
    if let Some(port) = port
        && !is_port(port)
    {
        return Err(MalformedHost::Port);
    }
    if host.starts_with('[') {
        let (name, spelled) = ipv6(host)?;
        return Ok(AuthorityParts { name, spelled, port, has_trailing_dot: false });
    }
    let without_dot = host.strip_suffix('.');
    let name = name(without_dot.unwrap_or(host))?;
    Ok(AuthorityParts { name, spelled: None, port, has_trailing_dot: without_dot.is_some() })
}

/// The host with its brackets, and what follows the colon after it.
fn split(authority: &str) -> Result<(&str, Option<&str>), MalformedHost> {
    if authority.starts_with('[') {
        let end = authority.find(']').ok_or(MalformedHost::Ipv6)?;
        let (host, rest) = authority.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(MalformedHost::Ipv6),
        };
    }
    match authority.split_once(':') {
        // What precedes the colon may be a password.
        Some(_) if authority.contains('@') => Err(MalformedHost::UserInfo),
        Some((_, port)) if port.contains(':') => Err(MalformedHost::Colons),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

fn is_port(text: &str) -> bool {
    (1..=5).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && !text.starts_with('0')
        && text.parse::<u16>().is_ok()
}

/// A name or an IPv4 address, in lower case.
fn name(text: &str) -> Result<Cow<'_, str>, MalformedHost> {
    match text.len() {
        0 => return Err(MalformedHost::Empty),
        1..=MAX_NAME => {}
        _ => return Err(MalformedHost::TooLong),
    }
    let (mut label, mut has_upper_case) = (0, false);
    for byte in text.bytes() {
        match byte {
            b'.' if label == 0 => return Err(MalformedHost::EmptyLabel),
            b'.' => {
                label = 0;
                continue;
            }
            b'A'..=b'Z' => has_upper_case = true,
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => {}
            byte => return Err(wrong(byte)),
        }
        label += 1;
        if label > MAX_LABEL {
            return Err(MalformedHost::LongLabel);
        }
    }
    if label == 0 {
        return Err(MalformedHost::EmptyLabel);
    }
    if ends_in_number(text) && text.parse::<Ipv4Addr>().is_err() {
        return Err(MalformedHost::Ipv4);
    }
    Ok(if has_upper_case { Cow::Owned(text.to_ascii_lowercase()) } else { Cow::Borrowed(text) })
}

fn wrong(byte: u8) -> MalformedHost {
    match byte {
        b'@' => MalformedHost::UserInfo,
        b'%' => MalformedHost::Encoded,
        b',' => MalformedHost::List,
        0x80.. => MalformedHost::NotAscii,
        _ => MalformedHost::Character,
    }
}

/// Whether resolvers take a name for an IPv4 address, in whatever notation: `inet_aton` and browsers
/// (<https://url.spec.whatwg.org/#ends-in-a-number-checker>) read `127.1` and `0x7f.1` as `127.0.0.1`.
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => last.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// An IPv6 address in brackets in the form of RFC 5952, and the spelling in lower case if it is another
/// one.
fn ipv6(host: &str) -> Result<(Cow<'_, str>, Option<String>), MalformedHost> {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let address = address.ok_or(MalformedHost::Ipv6)?;
    if address.contains('%') {
        return Err(MalformedHost::Zone);
    }
    let address: Ipv6Addr = address.parse().map_err(|_| MalformedHost::Ipv6)?;
    let canonical = format!("[{address}]");
    if canonical == host {
        return Ok((Cow::Borrowed(host), None));
    }
    let spelled = host.to_ascii_lowercase();
    let spelled = (spelled != canonical).then_some(spelled);
    Ok((Cow::Owned(canonical), spelled))
}

// === impl Host ===

impl Host<'_> {
    /// The canonical name, without port and without dot at the end.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What patterns are compared with.
    #[must_use]
    pub fn matched(&self) -> &str {
        self.with_port.as_deref().unwrap_or(&self.name)
    }

    /// What a proxy may compare instead, if that is something else.
    #[must_use]
    pub fn as_sent(&self) -> Option<&str> {
        self.as_sent.as_deref()
    }

    /// Whether there is a dot at the end that the settings do not ignore.
    #[must_use]
    pub fn has_trailing_dot(&self) -> bool {
        self.has_trailing_dot
    }
}
