//! Tests of what Envoy's messages become. They are built with the complete generated types, so
//! these tests also hold the numbers of the fields against them.

use std::collections::HashMap;

use envoy_types::pb::{
    envoy::{
        config::core::v3::{
            Address, HeaderMap, HeaderValue, Metadata, SocketAddress, address,
            socket_address::PortSpecifier,
        },
        service::auth::v3::{
            AttributeContext, CheckRequest,
            attribute_context::{self, HttpRequest, TlsSession},
        },
    },
    google::protobuf::{ListValue, Value as ProtoValue},
};
use portcullis_types::attributes::HttpAttributes;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn read(context: AttributeContext) -> Result<Attributes, Refusal> {
    attributes(&CheckRequest { attributes: Some(context) }.encode_to_vec())
}

fn with_http(http: HttpRequest) -> AttributeContext {
    let request = attribute_context::Request { http: Some(http), ..Default::default() };
    AttributeContext { request: Some(request), ..Default::default() }
}

fn read_http(http: HttpRequest) -> HttpAttributes {
    read(with_http(http)).unwrap().http.unwrap()
}

fn map(entries: &[(&str, &str)]) -> HashMap<String, String> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn peer(address: &str, port: u32) -> attribute_context::Peer {
    let socket = SocketAddress {
        address: address.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(port)),
        ..Default::default()
    };
    attribute_context::Peer {
        address: Some(Address { address: Some(address::Address::SocketAddress(socket)) }),
        principal: "spiffe://cluster.local/ns/a/sa/a".to_owned(),
        certificate: "-----BEGIN CERTIFICATE-----".to_owned(),
        labels: map(&[("app", "a")]),
        ..Default::default()
    }
}

#[test]
fn every_field_that_policies_read_arrives() {
    let http = HttpRequest {
        id: "1".to_owned(),
        method: "POST".to_owned(),
        headers: map(&[(":path", "/Path%2Fx?q=1"), ("x-a", "b"), ("content-length", "2")]),
        path: "/Path%2Fx?q=1".to_owned(),
        host: "shop.example:8443".to_owned(),
        scheme: "https".to_owned(),
        protocol: "HTTP/2".to_owned(),
        size: 2,
        body: "hi".to_owned(),
        ..Default::default()
    };
    let attributes = read(AttributeContext {
        source: Some(peer("10.0.0.1", 5000)),
        destination: Some(peer("10.0.0.2", 80)),
        context_extensions: map(&[("route", "api")]),
        tls_session: Some(TlsSession { sni: "shop.example".to_owned() }),
        ..with_http(http)
    })
    .unwrap();
    let http = attributes.http.unwrap();
    assert_eq!(
        [&*http.method, &*http.path, &*http.host, &*http.scheme],
        ["POST", "/Path%2Fx?q=1", "shop.example:8443", "https"]
    );
    assert_eq!(http.headers.first("x-a"), Some("b"));
    assert_eq!(http.headers.first(":path"), None);
    assert_eq!(http.body.unwrap().bytes, b"hi");
    let source = attributes.source;
    assert_eq!((source.address.as_str(), source.port), ("10.0.0.1", 5000));
    assert_eq!(source.principal, "spiffe://cluster.local/ns/a/sa/a");
    assert_eq!(source.certificate, "-----BEGIN CERTIFICATE-----");
    assert_eq!(attributes.context_extensions, [("route".to_owned(), "api".to_owned())]);
}

#[test]
fn a_connection_check_has_no_http_part() {
    let context = AttributeContext { source: Some(peer("10.0.0.1", 1)), ..Default::default() };
    assert!(read(context).unwrap().http.is_none());
}

#[test]
fn an_http_part_without_method_and_path_is_still_one() {
    assert_eq!(read_http(HttpRequest::default()).path, "");
}

#[test]
fn an_empty_message_is_malformed() {
    assert_eq!(attributes(&[]).unwrap_err().0, Reason::MalformedRequest);
}

#[test]
fn raw_headers_keep_duplicates_and_replace_what_is_no_text() {
    let field = |key: &str, value: &str, raw: &[u8]| HeaderValue {
        key: key.to_owned(),
        value: value.to_owned(),
        raw_value: raw.to_vec(),
    };
    let header_map = HeaderMap {
        headers: vec![
            field(":method", "", b"GET"),
            field("authorization", "", b"Bearer a"),
            field("authorization", "", b"Bearer b"),
            field("x-bytes", "", b"\xff\xfe"),
            field("x-text", "text", b""),
        ],
    };
    let http = read_http(HttpRequest { header_map: Some(header_map), ..Default::default() });
    let fields: Vec<_> = http.headers.iter().collect();
    assert_eq!(
        fields,
        [
            ("authorization", "Bearer a"),
            ("authorization", "Bearer b"),
            ("x-bytes", "\u{fffd}\u{fffd}"),
            ("x-text", "text"),
        ]
    );
}

#[test]
fn a_header_that_comes_in_both_maps_is_seen_twice() {
    let header_map =
        HeaderMap { headers: vec![HeaderValue { key: "a".to_owned(), ..Default::default() }] };
    let headers = map(&[("a", "1")]);
    let http =
        read_http(HttpRequest { headers, header_map: Some(header_map), ..Default::default() });
    assert_eq!(http.headers.all("a").count(), 2);
}

#[test]
fn a_body_is_there_if_envoy_passes_bodies_and_knows_whether_it_is_whole() {
    let body = |headers: &[(&str, &str)], body: &str, raw_body: &[u8]| {
        read_http(HttpRequest {
            headers: map(headers),
            body: body.to_owned(),
            raw_body: raw_body.to_vec(),
            ..Default::default()
        })
        .body
        .map(|body| (body.bytes, body.truncated))
    };
    let partial = |value| ("x-envoy-auth-partial-body", value);
    assert_eq!(body(&[("content-length", "9")], "", b""), None);
    assert_eq!(body(&[partial("false")], "", b""), Some((vec![], false)));
    assert_eq!(body(&[partial("false")], "", b"\xff"), Some((vec![0xff], false)));
    assert_eq!(body(&[partial("true")], "ab", b""), Some((b"ab".to_vec(), true)));
    assert_eq!(body(&[("content-length", "3")], "ab", b""), Some((b"ab".to_vec(), true)));
    assert_eq!(body(&[("content-length", "2")], "ab", b""), Some((b"ab".to_vec(), false)));
}

fn proto(kind: Kind) -> ProtoValue {
    ProtoValue { kind: Some(kind) }
}

fn with_metadata(value: ProtoValue) -> AttributeContext {
    let jwt = Struct { fields: HashMap::from([("payload".to_owned(), value)]) };
    let filter_metadata = HashMap::from([("envoy.filters.http.jwt_authn".to_owned(), jwt)]);
    let metadata_context = Some(Metadata { filter_metadata, ..Default::default() });
    AttributeContext { metadata_context, ..Default::default() }
}

#[test]
fn metadata_becomes_json_with_whole_numbers_whole() {
    let values = [
        Kind::NumberValue(3.0),
        Kind::NumberValue(0.5),
        Kind::NumberValue(-0.0),
        Kind::NumberValue(f64::NAN),
        Kind::NumberValue(1e300),
        Kind::BoolValue(true),
        Kind::NullValue(0),
        Kind::StringValue("s".to_owned()),
    ];
    let list = ListValue { values: values.into_iter().map(proto).collect() };
    let metadata = read(with_metadata(proto(Kind::ListValue(list)))).unwrap().metadata;
    assert_eq!(
        metadata["envoy.filters.http.jwt_authn"]["payload"],
        json!([3, 0.5, -0.0, null, 1e300, true, null, "s"])
    );
}

#[test]
fn metadata_that_is_nested_too_deeply_is_malformed() {
    // Built as bytes: the encoder of a value this deep would itself recurse.
    let mut value = proto(Kind::BoolValue(true)).encode_to_vec();
    for _ in 0..2_000 {
        let list = prefixed(1, &value);
        value = prefixed(6, &list);
    }
    let field = prefixed(1, &[prefixed(1, b"f"), prefixed(2, &value)].concat());
    let namespace = prefixed(1, &[prefixed(1, b"n"), prefixed(2, &field)].concat());
    let message = prefixed(1, &prefixed(11, &namespace));
    assert_eq!(attributes(&message).unwrap_err().0, Reason::MalformedRequest);
}

fn prefixed(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![tag << 3 | 2];
    prost::encode_length_delimiter(bytes.len(), &mut field).unwrap();
    field.extend_from_slice(bytes);
    field
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = attributes(&bytes);
    }

    #[test]
    fn a_damaged_message_is_read_or_refused(index in 0..200_usize, byte in any::<u8>()) {
        let mut message = CheckRequest { attributes: Some(AttributeContext {
            source: Some(peer("10.0.0.1", 1)),
            ..with_http(HttpRequest { headers: map(&[("a", "b")]), ..Default::default() })
        }) }.encode_to_vec();
        let index = index % message.len();
        message[index] = byte;
        if let Err((reason, _)) = attributes(&message) {
            prop_assert_eq!(reason, Reason::MalformedRequest);
        }
    }
    /// Also where fields come twice, are cut off, or are of another type than they should be.
    #[test]
    fn a_message_means_what_it_means_to_the_generated_types(
        headers in prop::collection::vec(("[a-z]{0,3}", "[a-z]{0,3}"), 0..4),
        pieces in prop::collection::vec((0..200_usize, 0..200_usize), 0..4),
        damage in prop::option::of((0..400_usize, any::<u8>())),
    ) {
        let header_map = headers.iter().map(|(key, value)| HeaderValue {
            key: key.clone(),
            value: value.clone(),
            raw_value: value.clone().into_bytes(),
        });
        let whole = CheckRequest { attributes: Some(AttributeContext {
            source: Some(peer("10.0.0.1", 70_000)),
            context_extensions: map(&[("route", "api")]),
            ..with_http(HttpRequest {
                method: "GET".to_owned(),
                path: "/a".to_owned(),
                header_map: Some(HeaderMap { headers: header_map.collect() }),
                body: "b".to_owned(),
                ..Default::default()
            })
        }) }.encode_to_vec();
        let mut message = whole.clone();
        for (from, to) in pieces {
            message.extend(whole.get(from % whole.len()..to % whole.len()).unwrap_or(&whole));
        }
        if let Some((index, byte)) = damage {
            let index = index % message.len();
            message[index] = byte;
        }
        let Ok(generated) = CheckRequest::decode(message.as_slice()) else { return Ok(()) };
        let generated = generated.attributes.unwrap_or_default();
        // Groups are the one thing that is not read any more, and no client sends them.
        let Ok(read) = attributes(&message) else { return Ok(()) };
        let source = generated.source.unwrap_or_default();
        prop_assert_eq!(read.source.principal, source.principal);
        let http = generated.request.and_then(|request| request.http);
        prop_assert_eq!(read.http.is_some(), http.is_some());
        if let (Some(read), Some(http)) = (read.http, http) {
            prop_assert_eq!(
                [read.method, read.path, read.host, read.scheme],
                [http.method, http.path, http.host, http.scheme]
            );
            let fields = http.header_map.unwrap_or_default().headers;
            let raw = fields.iter().filter(|field| !field.key.starts_with(':')).count();
            let joined = http.headers.keys().filter(|name| !name.starts_with(':')).count();
            prop_assert!(read.headers.iter().count() >= raw + joined);
        }
    }
}
