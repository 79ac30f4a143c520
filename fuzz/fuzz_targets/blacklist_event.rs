//! Fuzz target of revocation events: a message of the broker, as any publisher may write it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_revocation::Event;
use portcullis_types::timestamp::Timestamp;

/// The first moment of the year 10000. A cut-off after it would never end.
const END: Timestamp = Timestamp::from_secs(253_402_300_800);

fuzz_target!(|message: &[u8]| {
    match Event::parse(message) {
        Ok(event) => {
            assert_eq!(Event::parse(message), Ok(event));
            if let Event::CutOff { issued_before, .. } = event {
                assert!(issued_before < END);
            }
        }
        Err(error) => drop(error.to_string()),
    }
});
