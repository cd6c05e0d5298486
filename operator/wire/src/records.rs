//! Log records on the status stream, and their acknowledgements.
//!
//! A gateway whose `GET /status` has the header [`RECORDS`] takes the records of the instance. The supervisor then mixes
//! lines with records among the statuses, and reads the body of the same request: a line with a number says that the
//! records up to that number need not be sent again. Without the header, and from a supervisor of an earlier release, there
//! are statuses only. A status begins with a digit, so no line can be taken for another one.

use http::{HeaderMap, HeaderName, HeaderValue};
use pilotlight_core::instance::Status;

use crate::{mark, status};

/// On a request for the status stream: the gateway takes records. On its answer: the supervisor hands them over.
pub const RECORDS: HeaderName = HeaderName::from_static("pilotlight-records");
const TAKES: HeaderValue = HeaderValue::from_static("take");

/// The longest line of a stream with records, in bytes: a record of 256 KiB whose text is escaped, and what comes before
/// the text.
pub const LINE_LIMIT: usize = 640 * 1024;
/// The longest acknowledgement.
pub const ACKNOWLEDGEMENT_LIMIT: usize = 64;

const RECORD: &str = "R ";
const MARK: &str = "M ";

/// A line of a status stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusLine<'a> {
    Status(Status),
    /// The line of standard output that has this number within the instance. The first number is 1.
    Record {
        sequence: u64,
        line: &'a str,
    },
    /// Everything that was logged before this mark came before it.
    Mark(&'a str),
}

/// Says so in a head.
pub fn take(headers: &mut HeaderMap) {
    headers.insert(RECORDS, TAKES);
}

/// Whether a head says so.
pub fn are_taken(headers: &HeaderMap) -> bool {
    headers.get(RECORDS).is_some_and(|value| *value == TAKES)
}

/// Adds the line of a record, with its end, to a batch. `line`: a line of standard output, without its end.
pub fn write_record(batch: &mut Vec<u8>, sequence: u64, line: &str) {
    batch.extend_from_slice(RECORD.as_bytes());
    batch.extend_from_slice(sequence.to_string().as_bytes());
    batch.push(b' ');
    batch.extend_from_slice(line.as_bytes());
    batch.push(b'\n');
}

/// The same for a mark.
pub fn write_mark(batch: &mut Vec<u8>, mark: &str) {
    batch.extend_from_slice(MARK.as_bytes());
    batch.extend_from_slice(mark.as_bytes());
    batch.push(b'\n');
}

/// Reads a line of a status stream. `None`: it is none that this version knows.
pub fn read(line: &[u8]) -> Option<StatusLine<'_>> {
    let text = std::str::from_utf8(line).ok()?;
    if let Some(record) = text.strip_prefix(RECORD) {
        let (sequence, line) = record.split_once(' ')?;
        let sequence = number(sequence)?;
        return Some(StatusLine::Record { sequence, line });
    }
    if let Some(mark) = text.strip_prefix(MARK) {
        return mark::read(mark.as_bytes()).map(StatusLine::Mark);
    }
    status::read(text).ok().map(StatusLine::Status)
}

/// An acknowledgement, with the end of its line.
pub fn acknowledgement(sequence: u64) -> String {
    format!("{sequence}\n")
}

/// Reads an acknowledgement without the end of its line.
pub fn read_acknowledgement(line: &[u8]) -> Option<u64> {
    number(std::str::from_utf8(line).ok()?)
}

/// Digits alone: `u64` would read a sign as well.
fn number(text: &str) -> Option<u64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use pilotlight_core::instance::Condition;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_told_from_statuses() {
        let mut batch = Vec::new();
        write_record(&mut batch, 7, "2026-01-31T10:00:00Z stdout - 1 ready ");
        write_mark(&mut batch, "m-1");
        batch.extend_from_slice(b"3 ready\n");
        let lines: Vec<_> = batch.split(|byte| *byte == b'\n').map(read).collect();
        let status = Status {
            epoch: 3,
            condition: Condition::Ready,
        };
        let record = StatusLine::Record {
            sequence: 7,
            line: "2026-01-31T10:00:00Z stdout - 1 ready ",
        };
        let expected = [
            Some(record),
            Some(StatusLine::Mark("m-1")),
            Some(StatusLine::Status(status)),
            None,
        ];
        assert_eq!(lines, expected);
        assert_eq!(
            read_acknowledgement(acknowledgement(7).trim_end().as_bytes()),
            Some(7)
        );
    }

    #[test]
    fn other_lines_are_none() {
        for line in [
            "R",
            "R 7",
            "R x text",
            "R +7 text",
            "R -1 text",
            "R 99999999999999999999 x",
            "M a b",
            "M ",
            "X 1 x",
            "7",
        ] {
            assert_eq!(read(line.as_bytes()), None, "{line}");
        }
        assert_eq!(read(b"R 7 \xff"), None);
        for line in ["", "x", "+1", "1 2", "99999999999999999999"] {
            assert_eq!(read_acknowledgement(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn a_gateway_takes_records_only_if_it_says_so() {
        let mut headers = HeaderMap::new();
        assert!(!are_taken(&headers));
        take(&mut headers);
        assert!(are_taken(&headers));
        headers.insert(RECORDS, HeaderValue::from_static("keep"));
        assert!(!are_taken(&headers));
    }
}
