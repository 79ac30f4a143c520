//! Parser of an HTTP request, and of a forwarding proxy's headers, into [`Attributes`].
//!
//! In each mode, only what that mode's proxy sets is trusted, and a header that is missing, comes
//! twice, or contradicts another one is refused: the likely cause is a client that sent its own.

use std::{net::SocketAddr, str};

use bytes::Bytes;
use http::{HeaderMap, Method, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use portcullis_types::{
    attributes::{Attributes, Body, HeaderView, Headers, HttpAttributes, Peer},
    decision::Reason,
};
use serde_json::Map;

use super::{HttpConfig, RequestFrom, config::PathPrefix};
use crate::authorizer::Refusal;

pub(super) const LATE: Refusal = (Reason::MalformedRequest, "body did not arrive in time");

/// What is asked about, wherever it is described.
struct Line {
    method: String,
    scheme: String,
    host: String,
    path: String,
}

/// Reads the body, where there is one to be authorized: the requests that nginx and the others make
/// are about a body that stays with them.
pub(super) async fn body<B>(
    parts: &Parts,
    body: B,
    config: &HttpConfig,
) -> Result<Option<Body>, Refusal>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    if config.request_from != RequestFrom::Envoy {
        return Ok(None);
    }
    let limit = usize::try_from(config.max_body_bytes).unwrap_or(usize::MAX);
    let body = body.map_err(|_| Broken);
    let bytes = match Limited::new(body, limit).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err((Reason::RequestTooLarge, "body larger than http.max_body_bytes"));
        }
        Err(_) => return Err((Reason::MalformedRequest, "broken body")),
    };
    let partial = parts.headers.get("x-envoy-auth-partial-body");
    if bytes.is_empty() && partial.is_none() {
        return Ok(None);
    }
    let truncated = partial.is_some_and(|partial| partial == "true");
    Ok(Some(Body { bytes: bytes.into(), truncated }))
}

/// Reads everything but the body.
pub(super) fn attributes(
    parts: &Parts,
    body: Option<Body>,
    config: &HttpConfig,
    peer: SocketAddr,
) -> Result<Attributes, Refusal> {
    let line = match config.request_from {
        RequestFrom::Envoy => own(parts, &config.path_prefix),
        RequestFrom::XForwarded => forwarded(&parts.headers),
        RequestFrom::XOriginal => original(&parts.headers),
    }?;
    let Line { method, scheme, host, path } = line;
    let headers = headers(&parts.headers, config.request_from);
    let header_view = match config.request_from {
        RequestFrom::Envoy => HeaderView::Listed,
        RequestFrom::XForwarded | RequestFrom::XOriginal => HeaderView::ReadOnly,
    };
    Ok(Attributes {
        http: Some(HttpAttributes { method, scheme, host, path, headers, header_view, body }),
        source: Peer {
            address: peer.ip().to_canonical().to_string(),
            port: peer.port().into(),
            ..Peer::default()
        },
        context_extensions: Vec::new(),
        metadata: Map::new(),
    })
}

/// The request itself, as Envoy repeats it. `x-forwarded-proto` may be the client's, so it is not
/// the scheme.
fn own(parts: &Parts, prefix: &PathPrefix) -> Result<Line, Refusal> {
    let path = parts.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    let path =
        prefix.strip(path).ok_or((Reason::MalformedRequest, "path without http.path_prefix"))?;
    let named = one(&parts.headers, "host", "two host headers")?;
    let host = match (parts.uri.authority(), named) {
        (Some(authority), Some(host)) if authority.as_str() != host => {
            return Err((Reason::MalformedRequest, "authority and host header disagree"));
        }
        (Some(authority), _) => authority.as_str(),
        (None, named) => named.unwrap_or_default(),
    };
    Ok(Line {
        method: parts.method.as_str().to_owned(),
        scheme: parts.uri.scheme_str().unwrap_or("http").to_owned(),
        host: host.to_owned(),
        path: path.to_owned(),
    })
}

/// As Traefik and Caddy describe it.
fn forwarded(headers: &HeaderMap) -> Result<Line, Refusal> {
    let missing = |detail| move || (Reason::MalformedRequest, detail);
    let method = one(headers, "x-forwarded-method", "two x-forwarded-method headers")?
        .ok_or_else(missing("no x-forwarded-method"))?;
    let host = one(headers, "x-forwarded-host", "two x-forwarded-host headers")?
        .ok_or_else(missing("no x-forwarded-host"))?;
    let path = one(headers, "x-forwarded-uri", "two x-forwarded-uri headers")?
        .ok_or_else(missing("no x-forwarded-uri"))?;
    let proto = one(headers, "x-forwarded-proto", "two x-forwarded-proto headers")?;
    if host.contains(',') {
        // A list has grown out of what the client sent.
        return Err((Reason::MalformedRequest, "several hosts in x-forwarded-host"));
    }
    let scheme = match proto.unwrap_or("http") {
        "http" | "ws" => "http",
        "https" | "wss" => "https",
        _ => return Err((Reason::MalformedRequest, "unknown x-forwarded-proto")),
    };
    line(method, scheme, host, path)
}

/// As nginx describes it, in one of two ways.
fn original(headers: &HeaderMap) -> Result<Line, Refusal> {
    let method = one(headers, "x-original-method", "two x-original-method headers")?
        .ok_or((Reason::MalformedRequest, "no x-original-method"))?;
    let own_host = one(headers, "host", "two host headers")?.unwrap_or_default();
    let uri = one(headers, "x-original-uri", "two x-original-uri headers")?;
    let url = one(headers, "x-original-url", "two x-original-url headers")?;
    let url = url.map(|url| split(url).ok_or((Reason::MalformedRequest, "x-original-url")));
    match (uri, url.transpose()?) {
        (None, None) => {
            Err((Reason::MalformedRequest, "neither x-original-uri nor x-original-url"))
        }
        (Some(path), None) => line(method, "http", own_host, path),
        (None, Some((scheme, host, path))) => line(method, scheme, host, path),
        // The proxy sets one of them, so the other one may be the client's.
        (Some(uri), Some((scheme, host, path))) if uri == path && own_host == host => {
            line(method, scheme, host, path)
        }
        _ => Err((Reason::MalformedRequest, "x-original-uri and x-original-url disagree")),
    }
}

fn line(method: &str, scheme: &str, host: &str, path: &str) -> Result<Line, Refusal> {
    if Method::from_bytes(method.as_bytes()).is_err() {
        return Err((Reason::MalformedRequest, "not a method"));
    }
    let [method, scheme, host, path] = [method, scheme, host, path].map(str::to_owned);
    Ok(Line { method, scheme, host, path })
}

/// Scheme, host, and all the rest.
fn split(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let (host, path) = rest.split_at(rest.find('/')?);
    matches!(scheme, "http" | "https").then_some((scheme, host, path))
}

/// The value of a header that may come once at most.
fn one<'h>(
    headers: &'h HeaderMap,
    name: &str,
    two: &'static str,
) -> Result<Option<&'h str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err((Reason::MalformedRequest, two));
    }
    let text = str::from_utf8(value.as_bytes());
    text.map(Some).map_err(|_| (Reason::MalformedRequest, "a header that is not text"))
}

/// All headers but `host`, which is a separate attribute, as over gRPC, and but those that describe
/// the request: they are the proxy's, and do not reach the upstream.
fn headers(headers: &HeaderMap, from: RequestFrom) -> Headers {
    let describing: &[&str] = match from {
        RequestFrom::Envoy => &[],
        RequestFrom::XForwarded => {
            &["x-forwarded-method", "x-forwarded-host", "x-forwarded-uri", "x-forwarded-proto"]
        }
        RequestFrom::XOriginal => &["x-original-method", "x-original-uri", "x-original-url"],
    };
    let fields = headers
        .iter()
        .filter(|(name, _)| *name != http::header::HOST && !describing.contains(&name.as_str()));
    fields
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect()
}

/// The connection broke while a body arrived.
#[derive(Debug, thiserror::Error)]
#[error("broken body")]
struct Broken;
