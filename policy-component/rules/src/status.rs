//! HTTP statuses of answers: those that Envoy can give, and those without a body.

use portcullis_policy::SettingsError;

use crate::field::Field;

/// The final statuses of Envoy's `envoy.type.v3.StatusCode`, as ranges. Envoy answers 403 in place of
/// any other.
const KNOWN: &[(u16, u16)] = &[
    (200, 208),
    (226, 226),
    (300, 305),
    (307, 308),
    (400, 417),
    (421, 424),
    (426, 426),
    (428, 429),
    (431, 431),
    (500, 508),
    (510, 511),
];

/// Reads the status of an answer.
pub(crate) fn read(field: &Field<'_>) -> Result<u16, SettingsError> {
    let status = field.value().as_u64().and_then(|status| u16::try_from(status).ok());
    let status = status
        .filter(|status| (200..=599).contains(status))
        .ok_or_else(|| field.refuse("must be an HTTP status from 200 to 599"))?;
    if !KNOWN.iter().any(|(first, last)| (*first..=*last).contains(&status)) {
        return Err(field.refuse(
            "is a status that Envoy does not know and would answer as 403; write 403, or another \
             that RFC 9110 defines",
        ));
    }
    Ok(status)
}

/// Whether the answer has a body at all. With these it ends with the headers, so that a body would
/// be read as the beginning of the connection's next answer.
pub(crate) const fn has_body(status: u16) -> bool {
    !matches!(status, 204 | 205 | 304)
}
