//! Claim prefix condition: the path must begin with a claim that says which paths its bearer may
//! reach.

use alloc::borrow::Cow;

use portcullis_policy::{Parts, Request, SettingsError};

use crate::{claim::ClaimRef, field::Field, inputs::Inputs, path};

/// The path must begin with a claim.
#[derive(Debug)]
pub(crate) struct ClaimPrefix {
    claim: ClaimRef,
    encoding: Encoding,
    whole_segments: bool,
    /// Whether the path arrives in lower case, while the claim may name letters in either.
    lost_case: bool,
}

#[derive(Debug)]
enum Encoding {
    Plain,
    Base64Url,
}

impl ClaimPrefix {
    /// Reads `{claim: path, encoding: base64url}`.
    pub(crate) fn read(field: &Field<'_>, inputs: &mut Inputs) -> Result<Self, SettingsError> {
        let object = field.object(&["claim", "encoding", "whole_segments"])?;
        let claim = ClaimRef::read(&object.require("claim", "the name of a claim")?, inputs)?;
        let encoding = match object.get("encoding") {
            None => Encoding::Plain,
            Some(field) => match field.text()? {
                "plain" => Encoding::Plain,
                "base64url" => Encoding::Base64Url,
                _ => return Err(field.refuse("must be `plain` or `base64url`")),
            },
        };
        let whole_segments = match object.get("whole_segments") {
            None => false,
            Some(field) => field.boolean()?,
        };
        let lost_case = inputs.paths.ignore_case;
        if lost_case {
            inputs.part(Parts::RAW_PATH);
        }
        Ok(Self { claim, encoding, whole_segments, lost_case })
    }

    /// Whether the path begins with the caller's claim. An empty claim opens nothing.
    pub(crate) fn holds(&self, request: &Request) -> bool {
        let claim = self.claim.find(request.identity.as_ref()).and_then(crate::claim::Claim::text);
        let Some(claim) = claim else { return false };
        let path = if self.lost_case {
            path::as_sent(request).map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(&*request.path))
        };
        let Some(path) = path else { return false };
        let path = path.as_bytes();
        let length = match self.encoding {
            Encoding::Plain => path.starts_with(claim.as_bytes()).then_some(claim.len()),
            Encoding::Base64Url => base64url_prefix(claim.as_bytes(), path),
        };
        let Some(length) = length.filter(|length| *length > 0) else { return false };
        !self.whole_segments
            || matches!(path.get(length), None | Some(b'/'))
            || path.get(length - 1) == Some(&b'/')
    }
}

/// How many bytes `encoded` decodes to, if `path` begins with them. Padding is optional, anything
/// else irregular is no match.
fn base64url_prefix(encoded: &[u8], path: &[u8]) -> Option<usize> {
    let digits = match encoded {
        [digits @ .., b'=', b'='] | [digits @ .., b'='] if encoded.len().is_multiple_of(4) => {
            digits
        }
        digits => digits,
    };
    let mut rest = path.iter();
    for chunk in digits.chunks(4) {
        let mut bits = 0_u32;
        for digit in chunk {
            bits = bits << 6 | sextet(*digit)?;
        }
        // Left-aligned in 24 bits: two digits hold one byte, three hold two, four hold three.
        let bytes = match chunk.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        bits <<= 6 * (4 - chunk.len());
        let [_, decoded @ ..] = bits.to_be_bytes();
        let (decoded, unused) = decoded.split_at(bytes);
        if unused.iter().any(|byte| *byte != 0) || !decoded.iter().all(|d| rest.next() == Some(d)) {
            return None;
        }
    }
    Some(path.len() - rest.len())
}

const fn sextet(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    };
    Some(value as u32)
}

#[cfg(test)]
mod tests {
    use super::base64url_prefix;

    #[test]
    fn an_encoded_prefix_is_compared_decoded() {
        for (encoded, path, expected) in [
            ("L2hlYWRlcnM=", "/headers", Some(8)),
            ("L2hlYWRlcnM", "/headers", Some(8)),
            ("L2hlYWRlcnM=", "/headers/x", Some(8)),
            ("L2hlYWRlcnM=", "/header", None),
            ("L2hlYWRlcnM=", "/get", None),
            ("Lw==", "/get", Some(1)),
            ("Lw", "/get", Some(1)),
            ("", "/get", Some(0)),
            ("L", "/get", None),
            ("Lx", "/get", None),
            ("Lw=", "/get", None),
            ("L w=", "/get", None),
            ("====", "/get", None),
        ] {
            assert_eq!(
                base64url_prefix(encoded.as_bytes(), path.as_bytes()),
                expected,
                "{encoded}"
            );
        }
    }
}
