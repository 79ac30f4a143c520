//! Tests of the compact form: the same values come out as `serde_json` reads, and no name twice.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn object(json: &Value) -> JsonObject {
    JsonObject::parse(json.to_string().as_bytes()).unwrap()
}

#[test]
fn values_come_out_as_they_went_in() {
    let long = "x".repeat(200);
    let all = json!({
        "null": null, "yes": true, "no": false, "": "", "text": "a\"\u{e9}\n", "long": long,
        "zero": 0, "time": 1_700_000_000, "big": u64::MAX, "negative": -7, "least": i64::MIN,
        "part": 1.5, "list": [1, "a", [], {}, null], "object": {"a": {"b": ["c"]}},
    });
    assert_eq!(Value::Object(object(&all).to_map()), all);
}

#[test]
fn a_value_is_found_by_its_path() {
    let all = json!({
        "realm_access": {"roles": ["admin"]}, "https://x/y": 1, "a.b": 2, "sub": "u1",
        "a": {"b": "path"},
    });
    let object = object(&all);
    let find = |path: &[&str]| object.find(path.iter().copied()).map(|value| value.to_value());
    assert_eq!(find(&["realm_access", "roles"]), Some(json!(["admin"])));
    assert_eq!(find(&["https://x/y"]), Some(json!(1)));
    assert_eq!(find(&["a.b"]), Some(json!(2)));
    assert_eq!(find(&["a", "b"]), Some(json!("path")));
    for path in [&["a", "c"][..], &["sub", "x"], &["realm_access", "roles", "0"], &["nope"], &[]] {
        assert_eq!(find(path), None, "{path:?}");
    }
}

#[test]
fn a_text_is_found_again_at_its_place() {
    let long = "x".repeat(300);
    let object = object(&json!({"iss": "https://id", "n": 1, "long": long, "empty": ""}));
    for (name, text) in [("iss", "https://id"), ("long", long.as_str()), ("empty", "")] {
        let place = object.place_of(name).unwrap();
        assert_eq!(object.text_at(place), Some(text));
    }
    assert_eq!((object.place_of("n"), object.place_of("nope")), (None, None));
}

#[test]
fn a_name_that_occurs_twice_is_refused_at_every_depth() {
    for json in [
        r#"{"a":1,"a":1}"#,
        r#"{"a":1,"b":2,"\u0061":3}"#,
        r#"{"o":{"a":1,"a":2}}"#,
        r#"{"l":[1,{"x":{"a":[],"b":0,"a":{}}}]}"#,
        r#"{"o":{"":1,"":2}}"#,
    ] {
        let parsed = JsonObject::parse(json.as_bytes());
        assert_eq!(parsed, Err(ParseJsonError::DuplicateName), "{json}");
    }
    for json in [r#"{"a":{"a":{"a":1}}}"#, r#"{"l":[{"a":1},{"a":1}]}"#, r#"{"a":1,"A":1}"#] {
        JsonObject::parse(json.as_bytes()).unwrap();
    }
}

#[test]
fn many_names_cost_no_quadratic_time() {
    let members: Vec<_> = (0..200_000).map(|n| format!("\"{n}\":0")).collect();
    let json = format!("{{{}}}", members.join(","));
    // Pairwise comparisons would take minutes.
    assert_eq!(JsonObject::parse(json.as_bytes()).unwrap().to_map().len(), 200_000);
}

#[test]
fn what_is_not_one_object_is_refused() {
    let deep = format!("{{\"a\":{}", "[".repeat(5000));
    for json in [
        "",
        "[]",
        "null",
        "1",
        "{",
        "{}{}",
        "{} x",
        "\u{feff}{}",
        "{'a':1}",
        "{\"a\":1e400}",
        &deep,
    ] {
        let parsed = JsonObject::parse(json.as_bytes());
        assert_eq!(parsed, Err(ParseJsonError::NotAnObject), "{json:?}");
    }
    assert_eq!(JsonObject::parse(b"{\"a\":\"\xff\"}"), Err(ParseJsonError::NotAnObject));
}

#[test]
fn neither_values_nor_errors_show_what_was_read() {
    let object = object(&json!({"jti": "hush", "list": ["hush"], "object": {"hush": 1}}));
    let shown: Vec<String> =
        object.members().iter().map(|(_, value)| format!("{value:?}")).collect();
    assert!(!format!("{object:?} {shown:?}").contains("hush"), "{object:?} {shown:?}");
}

/// JSON values of every kind, a few levels deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,140}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(".{0,6}", inner, 0..6)
                .prop_map(|members| members.into_iter().collect::<Value>()),
        ]
    })
}

proptest! {
    #[test]
    fn it_reads_what_serde_json_reads(
        members in prop::collection::hash_map(".{0,6}", any_json(), 0..8),
    ) {
        let text = Value::from_iter(members).to_string();
        let expected: Map<String, Value> = serde_json::from_str(&text).unwrap();
        let object = JsonObject::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(&object.to_map(), &expected);
        for (name, value) in &expected {
            prop_assert_eq!(&object.get(name).unwrap().to_value(), value);
        }
        // Written and read again, a float may end in another digit.
        let again: Map<String, Value> =
            serde_json::from_str(&Value::Object(expected.clone()).to_string()).unwrap();
        prop_assert_eq!(&JsonObject::from_map(&expected).unwrap().to_map(), &again);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = JsonObject::parse(&bytes);
    }

    #[test]
    fn no_text_is_read_otherwise(text in "[{}\\[\\]\",:a0\\\\ue.-]{0,24}") {
        let expected = serde_json::from_str::<Map<String, Value>>(&text);
        match JsonObject::parse(text.as_bytes()) {
            Ok(object) => prop_assert_eq!(object.to_map(), expected.unwrap()),
            Err(ParseJsonError::NotAnObject) => prop_assert!(expected.is_err()),
            Err(ParseJsonError::DuplicateName) => {}
        }
    }
}
