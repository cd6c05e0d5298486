//! One record of a function's log, and its place among all records.
//!
//! A gateway makes a record of each line that a supervisor hands over. `query` selects records, and a `store` keeps them.
//! The JSON form is what the gateway's own API answers with, a record per line.

use std::borrow::Cow;

use jiff::Timestamp;
use pilotlight_core::function::FunctionName;
use pilotlight_core::ids::{FunctionKey, Namespace, Qualifier};
use pilotlight_wire::log_record::{LogRecord, LogSource};
use serde::{Deserialize, Serialize};

use crate::level::Level;

/// One entry: a line, or several that were logged at once.
///
/// The instance and the sequence number together identify it. An entry can reach a store twice, because who hands it over
/// repeats what was not acknowledged. Readers see it once ([`crate::store::Page`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Microseconds are kept, and nothing finer.
    pub time: Timestamp,
    pub namespace: Namespace,
    pub function: FunctionName,
    #[serde(default)]
    pub qualifier: Qualifier,
    /// The name of the instance that it comes from.
    pub instance: String,
    /// The number of the record within its instance, in the order in which the supervisor wrote them. The first is 1.
    pub sequence: u64,
    pub source: LogSource,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    pub text: String,
}

/// Where a record is in the order that readers see: by time, then by instance, then by sequence number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    pub time: Timestamp,
    pub instance: String,
    pub sequence: u64,
}

/// The instance whose records are read.
#[derive(Clone, Debug)]
pub struct Origin {
    pub function: FunctionKey,
    pub qualifier: Qualifier,
    pub instance: String,
}

impl Entry {
    /// Reads a line that a supervisor wrote. A line that is no record becomes a text of the platform at `now`.
    pub fn of_line(origin: &Origin, sequence: u64, line: &str, now: Timestamp) -> Self {
        let read = LogRecord::parse(line)
            .and_then(|record| Some((record.time.parse::<Timestamp>().ok()?, record)));
        let (time, source, request_id, text) = match read {
            Some((time, record)) => (
                time,
                record.source,
                record.request_id.map(str::to_owned),
                record.text.into_owned(),
            ),
            None => (now, LogSource::Platform, None, line.to_owned()),
        };
        let level = match source {
            LogSource::Platform => None,
            LogSource::Stdout | LogSource::Stderr => Level::of(&text),
        };
        Entry {
            time: micros(time),
            namespace: origin.function.namespace.clone(),
            function: origin.function.name.clone(),
            qualifier: origin.qualifier,
            instance: origin.instance.clone(),
            sequence,
            source,
            level,
            request_id,
            text,
        }
    }

    pub fn key(&self) -> FunctionKey {
        FunctionKey {
            name: self.function.clone(),
            namespace: self.namespace.clone(),
        }
    }

    pub fn position(&self) -> Position {
        Position {
            time: self.time,
            instance: self.instance.clone(),
            sequence: self.sequence,
        }
    }

    /// The text for output that has a record per line. Further lines of the text are indented, so that no function can
    /// log a line there that looks like a record of the platform.
    pub fn indented(&self) -> Cow<'_, str> {
        match self.text.contains('\n') {
            true => Cow::Owned(self.text.replace('\n', "\n    ")),
            false => Cow::Borrowed(&self.text),
        }
    }

    /// What the record takes in memory, roughly, in bytes.
    pub fn size(&self) -> usize {
        /// The record without its texts, and what a queue needs for it.
        const OVERHEAD: usize = 160;
        OVERHEAD + self.text.len()
    }
}

/// All stores keep microseconds, so a record must compare equal after it was stored.
fn micros(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin {
            function: "shop/hello".parse().expect("a key"),
            qualifier: Qualifier::Latest,
            instance: "i1".to_owned(),
        }
    }

    #[test]
    fn a_line_of_a_supervisor_becomes_a_record_and_survives_its_json() {
        let line = "2026-01-31T10:00:00.123456Z stdout+ 8f3c [ERROR]\\nsecond";
        let record = Entry::of_line(&origin(), 7, line, Timestamp::UNIX_EPOCH);
        assert_eq!(record.text, "[ERROR]\nsecond");
        assert_eq!(record.level, Some(Level::Error));
        assert_eq!(record.request_id.as_deref(), Some("8f3c"));
        assert_eq!(record.position().sequence, 7);
        let json = serde_json::to_string(&record).expect("JSON");
        assert_eq!(
            serde_json::from_str::<Entry>(&json).expect("a record"),
            record
        );
    }

    #[test]
    fn a_line_that_is_no_record_is_kept_as_a_text_of_the_platform() {
        for line in ["panic", "yesterday stdout - text"] {
            let record = Entry::of_line(&origin(), 1, line, Timestamp::UNIX_EPOCH);
            assert_eq!(
                (record.source, record.text.as_str()),
                (LogSource::Platform, line)
            );
            assert_eq!(record.time, Timestamp::UNIX_EPOCH);
        }
    }
}
