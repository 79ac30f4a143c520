//! Tests of the form that brings a logout token.

use axum::http::HeaderValue;

use super::*;

fn token(content_type: &str, body: &str) -> Result<String, String> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
    let found = token_of_form(&headers, body.as_bytes());
    found.map(Cow::into_owned).map_err(str::to_owned)
}

#[test]
fn the_token_is_the_one_field_of_that_name() {
    for (body, expected) in [
        ("logout_token=a.b.c", "a.b.c"),
        ("state=1&logout_token=a.b.c&x=y", "a.b.c"),
        ("logout_token=a%2Eb%2Ec", "a.b.c"),
        ("logout%5Ftoken=a.b.c", "a.b.c"),
        ("logout_token=", ""),
    ] {
        assert_eq!(token(FORM, body).as_deref(), Ok(expected), "{body}");
    }
    for body in [
        "",
        "logout_token",
        "Logout_token=a.b.c",
        "logout_token=a.b.c&logout_token=a.b.c",
        "logout_token=a.b.c&logout%5ftoken=d.e.f",
        "{\"logout_token\": \"a.b.c\"}",
    ] {
        let found = token(FORM, body);
        let none = body == "logout_token";
        assert_eq!(found.is_ok(), none, "{body}: {found:?}");
        if none {
            assert_eq!(found.as_deref(), Ok(""), "a field without a value is empty");
        }
    }
}

#[test]
fn only_a_form_is_read() {
    for content_type in
        [FORM, "Application/X-WWW-Form-Urlencoded", &format!("{FORM}; charset=utf-8")]
    {
        assert_eq!(token(content_type, "logout_token=t").as_deref(), Ok("t"), "{content_type}");
    }
    for content_type in ["", "application/json", "multipart/form-data", "text/plain"] {
        let error = token(content_type, "logout_token=t").unwrap_err();
        assert!(error.contains(FORM), "{content_type}: {error}");
    }
    assert!(token_of_form(&HeaderMap::new(), b"logout_token=t").is_err());
}
