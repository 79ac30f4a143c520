//! Tests of tokens that are bound to a certificate of the client.

use super::*;

/// A certificate in the form in which Envoy passes it, its thumbprint as tokens have it, and in hex.
fn certificate(der: &[u8]) -> (String, String, String) {
    let encoded: String = pem("CERTIFICATE", der)
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    let hash = digest(&SHA256, der);
    let digits = hash.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let hex = digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect();
    (encoded, base64url(hash), hex)
}

#[test]
fn a_token_is_good_with_the_certificate_that_it_is_bound_to() {
    let bound = Bound::both();
    let (own, x5t, hex) = certificate(&[7; 1000]);
    let (other, ..) = certificate(&[8; 1000]);
    let token = bound_token(&json!({ "x5t#S256": x5t }));
    let with = |certificate: &str| bound.check(&token, &Sent::bearer().certificate(certificate));
    assert_eq!(with(&own), "ok");
    assert_eq!(with(&pem("CERTIFICATE", &[7; 1000])), "ok");
    assert_eq!(with(&other), "wrong_certificate");
    assert_eq!(with(""), "no_certificate");
    for malformed in [
        "-----BEGIN CERTIFICATE-----%0A-----END CERTIFICATE-----",
        &format!("{own}{other}"),
        &own.replace("BEGIN", "begin"),
        &own.replace("%0A", "%0"),
        &own.replace("%0A", "%FF"),
        &own[..own.len() - 30],
    ] {
        assert_eq!(with(malformed), "malformed_certificate", "{malformed}");
    }
    // The header is the client's unless the configuration says otherwise.
    let forged = Sent::bearer().forwarded(&format!("Hash={hex}"));
    assert_eq!(bound.check(&token, &forged), "no_certificate");
    let dpop = Sent::bearer().certificate(&own).dpop();
    assert_eq!(bound.check(&token, &dpop), "not_sender_constrained");
}

#[test]
fn a_token_that_is_bound_in_both_ways_needs_both() {
    let bound = Bound::both();
    let (own, x5t, _) = certificate(b"certificate");
    let token = bound_token(&json!({ "x5t#S256": x5t, "jkt": bound.jkt() }));
    let sent = bound.sent(&token);
    assert_eq!(bound.check(&token, &sent), "no_certificate");
    assert_eq!(bound.check(&token, &Sent::bearer().certificate(&own)), "sender_constrained");
    assert_eq!(bound.check(&token, &sent.certificate(&own)), "ok");
}

#[test]
fn a_forwarded_certificate_comes_from_a_trusted_proxy_in_the_expected_element() {
    let issuer = || json!({"sender_constrained": {"mtls": true}});
    let with = |header: Value| Bound::with(issuer(), json!({ "x_forwarded_client_cert": header }));
    let (own, x5t, hex) = certificate(b"certificate");
    let (_, _, other) = certificate(b"other");
    let one = with(json!({}));
    let token = bound_token(&json!({ "x5t#S256": x5t }));
    let check =
        |bound: &Bound, header: &str| bound.check(&token, &Sent::bearer().forwarded(header));
    let upper = hex.to_uppercase();
    for (header, code) in [
        (format!("Hash={hex}"), "ok"),
        (format!("By=spiffe://a;Hash={upper};Subject=\"CN=a,b\";URI="), "ok"),
        (format!("hash=\"{hex}\""), "ok"),
        (format!("Subject=\"\";Cert=\"{own}\""), "ok"),
        (format!("Hash={other}"), "wrong_certificate"),
        (format!("Hash={other};Cert=\"{own}\""), "wrong_certificate"),
        (format!("Hash={hex},Hash={hex}"), "wrong_certificate_elements"),
        // A name in the client's own certificate that looks like more of the header.
        (format!("Hash={other};URI=urn:a,Hash={hex}"), "wrong_certificate_elements"),
        (format!("Hash={other};URI=urn:a;Hash={hex}"), "malformed_certificate"),
        (format!("Hash={hex};Hash={hex}"), "malformed_certificate"),
        (format!("Hash={}", &hex[1..]), "malformed_certificate"),
        (format!("Hash={hex}0"), "malformed_certificate"),
        (format!("Hash=\"{hex}"), "malformed_certificate"),
        ("Subject=\"CN=a\"".to_owned(), "no_certificate"),
        (String::new(), "no_certificate"),
    ] {
        assert_eq!(check(&one, &header), code, "{header}");
    }
    // The connection's is that of a proxy.
    assert_eq!(one.check(&token, &Sent::bearer().certificate(&own)), "no_certificate");
    let header = format!("Hash={hex}");
    let twice = Sent::bearer().forwarded(&header).forwarded(&header);
    assert_eq!(one.check(&token, &twice), "wrong_certificate_elements");
    let unknown = Sent { view: HeaderView::ReadOnly, ..Sent::bearer().forwarded(&header) };
    assert_eq!(one.check(&token, &unknown), "no_certificate");

    let two = with(json!({"elements": 2, "trusted_peers": ["spiffe://a/gateway"]}));
    let header = format!("Hash={hex};URI=urn:client,By=spiffe://b;Hash={other}");
    let from = |principal: &str, header: &str| {
        two.check(&token, &Sent::bearer().forwarded(header).from(principal))
    };
    assert_eq!(from("spiffe://a/gateway", &header), "ok");
    assert_eq!(from("spiffe://a/gateway2", &header), "untrusted_certificate_peer");
    assert_eq!(from("", &header), "untrusted_certificate_peer");
    let single = format!("Hash={hex}");
    assert_eq!(from("spiffe://a/gateway", &single), "wrong_certificate_elements");
    let reversed = format!("Hash={other},Hash={hex}");
    assert_eq!(from("spiffe://a/gateway", &reversed), "wrong_certificate");
}
