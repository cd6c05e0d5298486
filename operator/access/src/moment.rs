//! Times as signatures write them: `20150830T123600Z`, and the date of a header `Date`. All in seconds since 1970.

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::fmt::strtime;
use jiff::tz::Offset;

const BASIC: &str = "%Y%m%dT%H%M%SZ";

/// A time in the form of `X-Amz-Date`, `20150830T123600Z`.
pub(crate) fn basic(seconds: u64) -> String {
    let time = timestamp(seconds);
    // The format has no part that a time can lack.
    strtime::format(BASIC, time).unwrap_or_default()
}

/// A time in the form of XML and of Secrets, `2015-08-30T12:36:00Z`.
pub(crate) fn extended(seconds: u64) -> String {
    timestamp(seconds).to_string()
}

fn timestamp(seconds: u64) -> Timestamp {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

fn seconds(time: Timestamp) -> Option<u64> {
    u64::try_from(time.as_second()).ok()
}

/// Reads the form of `X-Amz-Date`, of a time since 1970.
pub(crate) fn of_basic(text: &str) -> Option<u64> {
    let is_form = text.len() == 16
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
    if !is_form {
        return None;
    }
    let time = strtime::parse("%Y%m%dT%H%M%S", &text[..15]).ok()?;
    seconds(Offset::UTC.to_timestamp(time.to_datetime().ok()?).ok()?)
}

/// Reads the form of XML and of Secrets.
pub(crate) fn of_extended(text: &str) -> Option<u64> {
    seconds(text.parse().ok()?)
}

/// Reads a header `Date`, which has the form of e-mails or that of `X-Amz-Date`.
pub(crate) fn of_date(text: &str) -> Option<u64> {
    of_basic(text).or_else(|| seconds(DateTimeParser::new().parse_timestamp(text).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written_in_the_forms_of_signatures() {
        let time = 1_440_938_160;
        assert_eq!(basic(time), "20150830T123600Z");
        assert_eq!(extended(time), "2015-08-30T12:36:00Z");
        assert_eq!(of_basic("20150830T123600Z"), Some(time));
        assert_eq!(of_extended("2015-08-30T12:36:00Z"), Some(time));
        assert_eq!(of_date("Sun, 30 Aug 2015 12:36:00 GMT"), Some(time));
        assert_eq!(of_date("20150830T123600Z"), Some(time));
        for text in [
            "",
            "20150830T123600",
            "20151330T123600Z",
            "20150830T126000Z",
            "2015-08-30T12:36:00Z",
            "19690830T123600Z",
            "+0150830T123600Z",
            "２0150830T123Z",
        ] {
            assert_eq!(of_basic(text), None, "{text}");
        }
    }
}
