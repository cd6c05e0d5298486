//! Where the logs of functions are kept, whatever keeps them.
//!
//! Owns the record and the interface. `http::logs` reads through it; `memory_log` keeps logs in memory, and the
//! backends fill it. It never decides how much is kept.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use jiff::Timestamp;
use pilotlight_core::function::FunctionName;
use pilotlight_wire::log_record::{LogRecord, LogSource};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::backend::Promise;

/// A store of logs. It is bounded, and it says itself how.
pub trait LogStore: Debug + Send + Sync {
    /// Adds a record at the end of its function's log.
    fn append(&self, entry: LogEntry);

    /// Returns when everything that the function's instances have logged up to now is stored, or after a limit
    /// of the store's own.
    fn catch_up<'a>(&'a self, function: &'a FunctionName) -> Promise<'a, ()>;

    /// The stored records of a function, oldest first.
    fn read(&self, function: &FunctionName) -> Vec<Arc<LogEntry>>;

    /// The same, and all records of all functions that come after them. A reader that is too slow loses
    /// records, and learns how many.
    fn follow(
        &self,
        function: &FunctionName,
    ) -> (Vec<Arc<LogEntry>>, broadcast::Receiver<Arc<LogEntry>>);
}

/// One record of a function's log: a line, or several that were logged at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogEntry {
    pub time: Timestamp,
    pub function: FunctionName,
    /// The instance it comes from.
    pub instance: String,
    pub source: LogSource,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    pub text: String,
}

impl LogEntry {
    /// Reads a record that a supervisor wrote; a line that is none is kept as it is.
    pub(crate) fn from_line(function: &FunctionName, instance: &str, line: &str) -> Self {
        let record = LogRecord::parse(line);
        let time = record.as_ref().and_then(|record| record.time.parse().ok());
        LogEntry {
            time: time.unwrap_or_else(Timestamp::now),
            function: function.clone(),
            instance: instance.to_owned(),
            source: record
                .as_ref()
                .map_or(LogSource::Platform, |record| record.source),
            request_id: record
                .as_ref()
                .and_then(|r| r.request_id)
                .map(str::to_owned),
            text: record.map_or_else(|| line.to_owned(), |record| record.text.into_owned()),
        }
    }

    /// The text for output that has an entry per line. Further lines of the text are indented, so that no function can
    /// log a line there that looks like an entry of the platform.
    pub fn indented(&self) -> Cow<'_, str> {
        match self.text.contains('\n') {
            true => Cow::Owned(self.text.replace('\n', "\n    ")),
            false => Cow::Borrowed(&self.text),
        }
    }

    /// Tells a slow subscriber how many lines it did not get.
    pub(crate) fn missed(function: &FunctionName, lines: u64) -> Self {
        LogEntry {
            time: Timestamp::now(),
            function: function.clone(),
            instance: String::new(),
            source: LogSource::Platform,
            request_id: None,
            text: format!("{lines} lines were left out: the reader was too slow"),
        }
    }
}
