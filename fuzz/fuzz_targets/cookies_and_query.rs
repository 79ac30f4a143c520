//! Fuzz target of tokens in cookies and queries: the first line is a query, each other one a `cookie`
//! header. What is found is spelled as it must be, and after its removal nothing is found.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_types::attributes::{cookie, parameters_like, without_cookie};

const NAME: &str = "a_token";

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n');
    let query = lines.next().unwrap_or_default();
    if let Ok(found) = parameters_like(query, &[NAME]) {
        // As Envoy removes parameters: by their spellings.
        let is_left = |part: &&str| {
            let name = part.split_once('=').map_or(*part, |(name, _)| name);
            found.iter().all(|(removed, _)| *removed != name)
        };
        let left: Vec<_> = query.split('&').filter(is_left).collect();
        assert_eq!(parameters_like(&left.join("&"), &[NAME]), Ok(Vec::new()));
    }

    let headers: Vec<_> = lines.collect();
    let found = cookie(headers.iter().copied(), NAME);
    let left = without_cookie(headers.iter().copied(), NAME);
    if let Ok(value) = found {
        assert_eq!(value.is_some(), left.is_some());
        let spelled = value.map(|value| format!("{NAME}={value}"));
        let is_there = |spelled: &String| headers.iter().any(|header| header.contains(spelled));
        assert!(spelled.is_none_or(|spelled| is_there(&spelled)));
    }
    if let Some(left) = left {
        assert_eq!(cookie(std::iter::once(left.as_str()), NAME), Ok(None));
    }
});
