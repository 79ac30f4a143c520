//! Points in time in blacklist events: reading and writing them.
//!
//! Publishers differ: RFC 3339 with an offset, Python's naive `isoformat`, Unix seconds. Every
//! unambiguous form is read, and rounded up to the millisecond: a little late is the safe side for
//! an expiry as well as for a cut-off.

use jiff::{
    civil::{DateTime, date},
    fmt::temporal::Pieces,
};
use portcullis_types::{json::JsonRef, timestamp::Timestamp};

/// What Go's `time.Time` writes for "not set".
const GO_ZERO_TIME: Timestamp = Timestamp::from_secs(-62_135_596_800);

/// The first moment of the year 2000. No token that is still revoked has expired before it, and all
/// values that publishers write for "not set" are before it: zero, -1, the zero times of languages
/// and databases.
const YEAR_2000: Timestamp = Timestamp::from_secs(946_684_800);

/// A value is not a time, or is ambiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a time; write RFC 3339, such as 2033-05-18T03:33:19Z, or Unix seconds, not milliseconds"
)]
pub struct ParseTimeError;

/// The first moment of the year 10000. Real times are earlier; milliseconds mistaken for seconds
/// are later.
pub(crate) const YEAR_10000: Timestamp = Timestamp::from_secs(253_402_300_800);

/// Reads a time from a command line: in a form of the events, or as digits.
///
/// # Errors
/// When the text is not a time, or the time is implausibly late.
pub fn parse_time(text: &str) -> Result<Timestamp, ParseTimeError> {
    let number = text.parse::<i64>().map(|number| JsonRef::Number(number.into()));
    parse(&number.unwrap_or(JsonRef::Text(text)))?
        .filter(|time| *time < YEAR_10000)
        .ok_or(ParseTimeError)
}

/// Reads a time: text per RFC 3339 (UTC unless an offset is given), or Unix seconds as a number.
/// `None` is a time that was written but not set.
pub(crate) fn parse(value: &JsonRef<'_>) -> Result<Option<Timestamp>, ParseTimeError> {
    match value {
        JsonRef::Null => Ok(None),
        JsonRef::Text(text) => {
            let time = parse_text(text).ok_or(ParseTimeError)?;
            Ok((time != GO_ZERO_TIME).then_some(time))
        }
        JsonRef::Number(number) => match number.as_i64() {
            Some(secs) => Ok(Some(Timestamp::from_secs(secs))),
            None => number.as_f64().map(from_fractional_secs).map(Some).ok_or(ParseTimeError),
        },
        _ => Err(ParseTimeError),
    }
}

/// Reads the time at which a token expires, as [`parse`] does. `None` is one that was not set.
pub(crate) fn parse_expiry(value: &JsonRef<'_>) -> Result<Option<Timestamp>, ParseTimeError> {
    Ok(parse(value)?.filter(|time| is_expiry(*time)))
}

/// Whether a token may expire at this time, rather than that it stands for "not set".
pub(crate) fn is_expiry(time: Timestamp) -> bool {
    time >= YEAR_2000
}

/// Writes a time in UTC, with an offset, as existing publishers do. `None` if it is beyond the
/// range of dates.
#[must_use]
pub fn write(time: Timestamp) -> Option<String> {
    write_naive(time).map(|naive| format!("{naive}+00:00"))
}

/// Writes a time in UTC without an offset, as existing publishers do in fields that no reader
/// relies on.
pub(crate) fn write_naive(time: Timestamp) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(time.as_millis()).ok()?;
    let time = jiff::tz::Offset::UTC.to_datetime(time);
    let whole = time.subsec_nanosecond() == 0;
    Some(if whole { time.to_string() } else { format!("{time:.6}") })
}

fn parse_text(text: &str) -> Option<Timestamp> {
    let pieces = Pieces::parse(text).ok()?;
    let offset = pieces.to_numeric_offset();
    if offset.is_none() && pieces.time_zone_annotation().is_some() {
        // Neither UTC nor an offset but the name of a time zone: its rules depend on the time-zone
        // database.
        return None;
    }
    // Computed from the parts, because jiff's own timestamps end in the year 9999 minus a day, and
    // the last second of that year is a popular way to write "never".
    let since_epoch = DateTime::from_parts(pieces.date(), pieces.time()?)
        .duration_since(date(1970, 1, 1).at(0, 0, 0, 0));
    let round_up = i64::from(since_epoch.subsec_nanos().rem_euclid(1_000_000) != 0);
    let millis = i64::try_from(since_epoch.as_millis()).ok()?;
    // `as_millis` rounds towards zero, which before 1970 is upwards already.
    let millis = if since_epoch.is_negative() { millis } else { millis + round_up };
    let offset = i64::from(offset.map_or(0, jiff::tz::Offset::seconds)) * 1000;
    Some(Timestamp::from_millis(millis - offset))
}

#[expect(clippy::cast_possible_truncation, reason = "`as` saturates, which is what is wanted")]
fn from_fractional_secs(secs: f64) -> Timestamp {
    Timestamp::from_millis((secs * 1000.0).ceil() as i64)
}

#[cfg(test)]
mod tests {
    use portcullis_types::json::JsonObject;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    type Read = fn(&JsonRef<'_>) -> Result<Option<Timestamp>, ParseTimeError>;

    fn read_by(read: Read, value: &Value) -> Result<Option<Timestamp>, ParseTimeError> {
        let object = JsonObject::parse(json!({"time": value}).to_string().as_bytes()).unwrap();
        read(&object.get("time").unwrap())
    }

    fn parse(value: &Value) -> Result<Option<Timestamp>, ParseTimeError> {
        read_by(super::parse, value)
    }

    fn parse_expiry(value: &Value) -> Result<Option<Timestamp>, ParseTimeError> {
        read_by(super::parse_expiry, value)
    }

    #[test]
    fn every_way_to_write_one_moment_means_that_moment() {
        for written in [
            json!("2033-05-18T03:33:19+00:00"),
            json!("2033-05-18T03:33:19Z"),
            json!("2033-05-18t03:33:19z"),
            json!("2033-05-18 03:33:19Z"),
            json!("2033-05-18T03:33:19"),
            json!("2033-05-18T03:33:19.000000"),
            json!("2033-05-18T12:33:19+09:00"),
            json!("2033-05-17T22:33:19-05:00"),
            json!(1_999_999_999),
            json!(1_999_999_999.0),
        ] {
            let expected = Ok(Some(Timestamp::from_secs(1_999_999_999)));
            assert_eq!(parse(&written), expected, "{written}");
        }
    }

    #[test]
    fn fractions_round_up_to_the_millisecond() {
        let expect = |written: Value, millis| {
            assert_eq!(parse(&written), Ok(Some(Timestamp::from_millis(millis))), "{written}");
        };
        expect(json!("1970-01-01T00:00:01.0000001Z"), 1001);
        expect(json!("1970-01-01T00:00:01.123Z"), 1123);
        expect(json!("1969-12-31T23:59:58.9999Z"), -1000);
        expect(json!("1969-12-31T23:59:58.5Z"), -1500);
        expect(json!(1.0005), 1001);
    }

    #[test]
    fn the_last_moments_that_can_be_written_are_read() {
        let last = Some(Timestamp::from_secs(253_402_300_800));
        assert_eq!(parse(&json!("9999-12-31T23:59:59.999999+00:00")), Ok(last));
        assert_eq!(parse(&json!("9999-12-31T23:59:59.999999")), Ok(last));
        assert!(parse(&json!("9999-12-31T23:59:59-12:00")).unwrap() > last);
        assert_eq!(parse(&json!(u64::MAX)), Ok(Some(Timestamp::MAX)));
    }

    #[test]
    fn unset_times_are_unset() {
        assert_eq!(parse(&Value::Null), Ok(None));
        assert_eq!(parse(&json!("0001-01-01T00:00:00Z")), Ok(None));
    }

    #[test]
    fn an_expiry_before_the_year_2000_is_not_set() {
        for unset in [
            json!(null),
            json!(0),
            json!(-1),
            json!(-0.5),
            json!(946_684_799),
            json!("1970-01-01T00:00:00Z"),
            json!("1969-12-31T23:59:59.999"),
            json!("0001-01-01T00:00:00Z"),
            json!("0001-01-01T00:00:00+01:00"),
            json!("1753-01-01T00:00:00"),
            json!("1899-12-30T00:00:00Z"),
        ] {
            assert_eq!(parse_expiry(&unset), Ok(None), "{unset}");
        }
        let first = Ok(Some(Timestamp::from_secs(946_684_800)));
        assert_eq!(parse_expiry(&json!("2000-01-01T00:00:00Z")), first);
        assert_eq!(parse_expiry(&json!("soon")), Err(ParseTimeError));
    }

    #[test]
    fn what_has_no_one_meaning_is_refused() {
        for nonsense in [
            json!(""),
            json!("never"),
            json!("2033-05-18"),
            json!("2033-13-18T03:33:19Z"),
            json!("2033-05-18T03:33:19+99:00"),
            json!("2033-05-18T03:33:19[America/New_York]"),
            json!("1999999999"),
            json!("03:33:19"),
            json!(true),
            json!([]),
            json!({}),
        ] {
            assert_eq!(parse(&nonsense), Err(ParseTimeError), "{nonsense}");
        }
    }

    #[test]
    fn times_are_written_as_other_publishers_write_them() {
        let time = Timestamp::from_secs(1_999_999_999);
        assert_eq!(write(time).unwrap(), "2033-05-18T03:33:19+00:00");
        let time = Timestamp::from_millis(1_999_999_999_069);
        assert_eq!(write(time).unwrap(), "2033-05-18T03:33:19.069000+00:00");
        assert_eq!(write_naive(time).unwrap(), "2033-05-18T03:33:19.069000");
        assert_eq!(write(Timestamp::MAX), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(millis in -377_000_000_000_000_i64..253_402_000_000_000) {
            let time = Timestamp::from_millis(millis);
            prop_assert_eq!(parse(&json!(write(time).unwrap())), Ok(Some(time)));
            prop_assert_eq!(parse(&json!(write_naive(time).unwrap())), Ok(Some(time)));
        }

        #[test]
        fn what_jiff_prints_is_read_back(nanos in -10_i128.pow(19)..10_i128.pow(20)) {
            let time = jiff::Timestamp::from_nanosecond(nanos).unwrap();
            let read = parse(&json!(time.to_string())).unwrap().unwrap();
            let round_up = i128::from(nanos.rem_euclid(1_000_000) > 0);
            let expected = nanos.div_euclid(1_000_000) + round_up;
            prop_assert_eq!(i128::from(read.as_millis()), expected);
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse(&Value::String(text));
        }
    }
}
