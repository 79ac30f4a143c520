//! Fuzz target of `CheckRequest`: a message of Envoy's `Check`, to the attributes of a request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::grpc;

fuzz_target!(|message: &[u8]| {
    let Ok(attributes) = grpc::decode(message) else { return };
    let _ = format!("{attributes:?}");
    for (name, _) in attributes.http.iter().flat_map(|http| http.headers.iter()) {
        assert!(!name.starts_with(':'), "pseudo headers are separate attributes");
        assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()));
    }
});
