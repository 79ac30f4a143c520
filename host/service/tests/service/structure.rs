//! Conversion of JSON to protobuf's `Struct` and back, which is how metadata travels.

use envoy_types::pb::google::protobuf::{ListValue, Struct, Value as ProtoValue, value::Kind};
use serde_json::Value;

/// An object as a `Struct`.
pub(crate) fn write(object: &Value) -> Struct {
    let fields = object.as_object().expect("only an object is a `Struct`");
    Struct { fields: fields.iter().map(|(name, value)| (name.clone(), element(value))).collect() }
}

/// A `Struct` as an object. All of its numbers are floating-point numbers.
pub(crate) fn read(structure: Struct) -> Value {
    structure.fields.into_iter().map(|(name, value)| (name, json(value.kind))).collect()
}

fn element(value: &Value) -> ProtoValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => {
            Kind::ListValue(ListValue { values: items.iter().map(element).collect() })
        }
        Value::Object(_) => Kind::StructValue(write(value)),
    };
    ProtoValue { kind: Some(kind) }
}

fn json(kind: Option<Kind>) -> Value {
    match kind.expect("an element of a `Struct` is of some kind") {
        Kind::NullValue(_) => Value::Null,
        Kind::BoolValue(value) => value.into(),
        Kind::NumberValue(number) => number.into(),
        Kind::StringValue(text) => text.into(),
        Kind::StructValue(structure) => read(structure),
        Kind::ListValue(list) => list.values.into_iter().map(|item| json(item.kind)).collect(),
    }
}
