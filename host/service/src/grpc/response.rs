//! Writer of Envoy's `CheckResponse`: the one place that may build one from a [`Decision`].
//!
//! What Envoy makes of it, as measured on 1.40:
//!
//! - no `status` at all (an empty message): the request is **allowed**, so `status` is always set;
//! - `status` 0: allowed, even beside a `denied_response`; anything else: denied, even beside an
//!   `ok_response`; so the two never contradict each other here;
//! - `error_response`, a gRPC error, a timeout: allowed if the filter is set to fail open, so none
//!   of them is ever produced;
//! - a header value with a line break, more than 100 nested messages: the whole request fails with 503,
//!   or is allowed if the filter is set to fail open; pseudo headers and `host` are really rewritten.
//!   The authorizer's guard lets none of them through.

use bytes::{BufMut, Bytes, BytesMut};
use envoy_types::pb::{
    envoy::{
        config::core::v3::{
            HeaderValue, HeaderValueOption, QueryParameter, header_value_option::HeaderAppendAction,
        },
        service::auth::v3::{
            CheckResponse, DeniedHttpResponse, OkHttpResponse, check_response::HttpResponse,
        },
        r#type::v3::{HttpStatus, StatusCode},
    },
    google::{
        protobuf::{BoolValue, ListValue, Struct, Value as ProtoValue, value::Kind},
        rpc::Status,
    },
};
use portcullis_types::decision::{Allow, Decision, Deny, Header, Verdict};
use prost::Message;
use serde_json::{Number, Value};
use tonic::Code;

/// The one constructor of a `CheckResponse`.
pub(super) fn check_response(decision: Decision) -> CheckResponse {
    let (code, message, metadata, http_response) = match decision.verdict {
        Verdict::Allow(mut allow) => {
            let metadata = std::mem::take(&mut allow.metadata);
            (Code::Ok, String::new(), metadata, HttpResponse::OkResponse(ok_response(allow)))
        }
        Verdict::Deny(mut deny) => {
            let metadata = std::mem::take(&mut deny.metadata);
            let message = decision.reason.code().to_owned();
            let denied = HttpResponse::DeniedResponse(denied_response(deny));
            (Code::PermissionDenied, message, metadata, denied)
        }
    };
    CheckResponse {
        status: Some(Status { code: code as i32, message, details: Vec::new() }),
        dynamic_metadata: (!metadata.is_empty()).then(|| structure(metadata)),
        http_response: Some(http_response),
    }
}

/// A `CheckResponse` as a gRPC message: not compressed, length, bytes.
pub(super) fn message(response: &CheckResponse) -> Bytes {
    let length = response.encoded_len();
    let mut message = BytesMut::with_capacity(length + 5);
    message.put_u8(0);
    // 4 GiB are out of reach: what a policy may answer is capped at some kilobytes.
    message.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    response.encode_raw(&mut message);
    message.freeze()
}

fn ok_response(allow: Allow) -> OkHttpResponse {
    let query = |(key, value)| QueryParameter { key, value };
    OkHttpResponse {
        headers: allow.set_request_headers.into_iter().map(set).collect(),
        headers_to_remove: allow.remove_request_headers,
        response_headers_to_add: allow.response_headers.into_iter().map(respond).collect(),
        query_parameters_to_set: allow.set_query_parameters.into_iter().map(query).collect(),
        query_parameters_to_remove: allow.remove_query_parameters,
        ..OkHttpResponse::default()
    }
}

fn denied_response(deny: Deny) -> DeniedHttpResponse {
    DeniedHttpResponse {
        status: Some(HttpStatus { code: status_code(deny.status) as i32 }),
        headers: deny.headers.into_iter().map(respond).collect(),
        body: deny.body,
    }
}

/// Envoy refuses a status that its enum does not name, and with it the whole response. A final
/// response cannot have an informational status either.
fn status_code(status: u16) -> StatusCode {
    match StatusCode::try_from(i32::from(status)) {
        Ok(code) if status >= 200 => code,
        _ => StatusCode::Forbidden,
    }
}

/// Replaces whatever the client or the upstream sent under this name.
fn set(header: Header) -> HeaderValueOption {
    option(header, false)
}

/// As [`set`], but several cookies stand beside each other, and beside the upstream's.
fn respond(header: Header) -> HeaderValueOption {
    let append = header.name == "set-cookie";
    option(header, append)
}

fn option(header: Header, append: bool) -> HeaderValueOption {
    let action = if append {
        HeaderAppendAction::AppendIfExistsOrAdd
    } else {
        HeaderAppendAction::OverwriteIfExistsOrAdd
    };
    #[expect(deprecated, reason = "old Envoys read `append` only, new ones prefer it if it is set")]
    HeaderValueOption {
        header: Some(HeaderValue { key: header.name, value: header.value, raw_value: Vec::new() }),
        append: Some(BoolValue { value: append }),
        append_action: action as i32,
        keep_empty_value: false,
    }
}

fn structure(fields: impl IntoIterator<Item = (String, Value)>) -> Struct {
    Struct { fields: fields.into_iter().map(|(name, field)| (name, value(field))).collect() }
}

fn value(value: Value) -> ProtoValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(number) => match exact(&number) {
            Some(number) => Kind::NumberValue(number),
            None => Kind::StringValue(number.to_string()),
        },
        Value::String(value) => Kind::StringValue(value),
        Value::Array(items) => {
            Kind::ListValue(ListValue { values: items.into_iter().map(self::value).collect() })
        }
        Value::Object(fields) => Kind::StructValue(structure(fields)),
    };
    ProtoValue { kind: Some(kind) }
}

/// A number as a float that has all of its digits. Protobuf knows no other numbers in a `Struct`;
/// whole ones that are too large are texts in its JSON as well.
fn exact(number: &Number) -> Option<f64> {
    /// Up to here, each whole number is a float.
    const EXACT: u64 = 1 << f64::MANTISSA_DIGITS;
    let whole = number.as_i64().map(i64::unsigned_abs).or(number.as_u64());
    number.as_f64().filter(|_| whole.is_none_or(|whole| whole <= EXACT))
}

#[cfg(test)]
mod readable;
#[cfg(test)]
mod tests;
