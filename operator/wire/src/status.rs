//! `GET /status`: a line `<epoch> <condition>` now, and one at each change.
//!
//! The supervisor writes it, on the stream and on every answer; the gateway's `instance` follows it.

use http::{HeaderMap, HeaderName, HeaderValue};
use pilotlight_core::instance::{Condition, Status};

pub const STATUS_PATH: &str = "/status";

/// On the head of the stream, and on the answer to a claim that came too late: the name of the instance that the pod is.
/// A pod that waits for its claim has no status stream, and answers 404.
pub const INSTANCE: HeaderName = HeaderName::from_static("pilotlight-instance");

/// On every answer to a lease: the status after it.
pub(crate) const STATUS: HeaderName = HeaderName::from_static("pilotlight-status");

const fn name(condition: Condition) -> &'static str {
    match condition {
        Condition::Starting => "starting",
        Condition::Ready => "ready",
        Condition::Draining => "draining",
    }
}

/// `<epoch> <condition>`, without the end of the line.
pub fn write(status: Status) -> String {
    format!("{} {}", status.epoch, name(status.condition))
}

pub(crate) fn to_value(status: Status) -> HeaderValue {
    HeaderValue::try_from(write(status)).expect("a status is ASCII")
}

pub(crate) fn of_headers(headers: &HeaderMap) -> Option<Status> {
    read(headers.get(STATUS)?.to_str().ok()?).ok()
}

/// The text is not `<epoch> <condition>`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an instance's status `<epoch> starting|ready|draining`")]
pub struct NotAStatus(String);

/// Reads what [`write()`] has written.
pub fn read(text: &str) -> Result<Status, NotAStatus> {
    let parse = || {
        let (epoch, condition) = text.split_once(' ')?;
        let conditions = [Condition::Starting, Condition::Ready, Condition::Draining];
        let condition = conditions
            .into_iter()
            .find(|known| name(*known) == condition)?;
        Some(Status {
            epoch: epoch.parse().ok()?,
            condition,
        })
    };
    parse().ok_or_else(|| NotAStatus(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_back_as_written() {
        let status = Status {
            epoch: 7,
            condition: Condition::Draining,
        };
        assert_eq!(write(status), "7 draining");
        assert_eq!(read("7 draining"), Ok(status));
        assert!(read("7 sleeping").is_err());
    }
}
