//! Nonces of `DPoP` proofs (RFC 9449 section 9): made from a secret and the time, so that every replica
//! with the secret knows them and none has to remember them.

use std::{fmt, time::Duration};

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_types::{secret::Secret, timestamp::Timestamp};

/// Keeps nonces apart from whatever else is made from the same secret.
const PURPOSE: &[u8] = b"portcullis dpop nonce ";

/// How many bytes a nonce has.
const BYTES: usize = 16;

/// What makes nonces and knows them again.
pub(super) struct Nonces {
    key: hmac::Key,
    /// For how long each is given out, in milliseconds.
    lasts: i64,
}

// === impl Nonces ===

impl Nonces {
    /// With a secret whose strength the caller has checked. A nonce is given out for `lasts`, at least a
    /// millisecond, and accepted for as long again.
    pub(super) fn new(secret: &Secret, lasts: Duration) -> Self {
        let lasts = i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX).max(1);
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret.expose()), lasts }
    }

    /// The nonce that is given out at `now`.
    pub(super) fn current(&self, now: Timestamp) -> String {
        self.of(self.period(now))
    }

    /// Whether `nonce` is the current one, the one before it, or, from a replica whose clock is ahead, the
    /// one after it.
    pub(super) fn accepts(&self, nonce: &str, now: Timestamp) -> bool {
        let period = self.period(now);
        [period, period.saturating_sub(1), period.saturating_add(1)].into_iter().any(|period| {
            verify_slices_are_equal(self.of(period).as_bytes(), nonce.as_bytes()).is_ok()
        })
    }

    fn period(&self, now: Timestamp) -> i64 {
        now.as_millis().div_euclid(self.lasts)
    }

    fn of(&self, period: i64) -> String {
        let tag = hmac::sign(&self.key, &[PURPOSE, &period.to_be_bytes()].concat());
        URL_SAFE_NO_PAD.encode(tag.as_ref().get(..BYTES).unwrap_or_default())
    }
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nonces").field("lasts", &self.lasts).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonces(secret: &str) -> Nonces {
        Nonces::new(&Secret::new(secret), Duration::from_mins(1))
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_700_000_040 + secs)
    }

    #[test]
    fn a_nonce_is_given_out_for_its_time_and_accepted_for_as_long_again() {
        let nonces = nonces("secret");
        let nonce = nonces.current(at(0));
        assert_eq!(nonces.current(at(59)), nonce);
        assert_ne!(nonces.current(at(60)), nonce);
        for (secs, accepted) in [(-61, false), (-60, true), (0, true), (119, true), (120, false)] {
            assert_eq!(nonces.accepts(&nonce, at(secs)), accepted, "{secs}");
        }
    }

    #[test]
    fn only_replicas_with_the_secret_know_a_nonce() {
        let nonce = nonces("secret").current(at(0));
        assert!(nonces("secret").accepts(&nonce, at(0)));
        assert!(!nonces("other").accepts(&nonce, at(0)));
        for other in ["", &nonce[1..], &format!("{nonce}A"), &nonce.to_lowercase()] {
            assert!(!nonces("secret").accepts(other, at(0)), "{other}");
        }
        assert!(
            nonce.len() >= 22
                && nonce.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        );
    }
}
