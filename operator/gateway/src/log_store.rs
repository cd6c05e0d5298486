//! What functions and the platform logged, merged and kept per function.
//!
//! Filled by the backends from the instances' records, read by `http::logs` and by whoever
//! subscribes. Bounded in bytes per function, the oldest lines going first; nothing survives the
//! gateway. A slow subscriber loses lines, and learns how many.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use pilotlight_core::function::FunctionName;
use pilotlight_wire::log_record::{LogRecord, LogSource};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::log_marks::{Marks, Source, Way};

/// Lines that a subscriber may be behind.
const SUBSCRIBER_LAG: usize = 4096;
/// What an entry takes beside its text, roughly, in bytes.
const ENTRY_OVERHEAD: usize = 160;

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

    fn bytes(&self) -> usize {
        self.text.len() + ENTRY_OVERHEAD
    }
}

#[derive(Debug, Default)]
struct Lines {
    entries: VecDeque<Arc<LogEntry>>,
    bytes: usize,
}

/// Cheap to clone; all clones are one store.
#[derive(Clone, Debug)]
pub struct LogStore {
    lines: Arc<Mutex<HashMap<FunctionName, Lines>>>,
    news: broadcast::Sender<Arc<LogEntry>>,
    bytes_per_function: usize,
    marks: Marks,
}

impl LogStore {
    /// `bytes_per_function`: how much of each function's log is kept, in bytes.
    pub fn new(bytes_per_function: usize) -> Self {
        let (news, _) = broadcast::channel(SUBSCRIBER_LAG);
        LogStore {
            lines: Arc::default(),
            news,
            bytes_per_function,
            marks: Marks::default(),
        }
    }

    /// All lines from now on, of all functions.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<LogEntry>> {
        self.news.subscribe()
    }

    /// Registers an instance whose log is about to be read.
    pub(crate) fn begin(&self, function: &FunctionName, way: Way) -> Arc<Source> {
        self.marks.add(function, way)
    }

    /// Waits until everything that the function's instances have logged up to now is stored.
    pub(crate) async fn catch_up(&self, function: &FunctionName) {
        self.marks.catch_up(function).await;
    }

    pub(crate) fn add(&self, entry: LogEntry) {
        let entry = Arc::new(entry);
        let mut functions = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = functions.entry(entry.function.clone()).or_default();
        lines.bytes += entry.bytes();
        lines.entries.push_back(entry.clone());
        while lines.bytes > self.bytes_per_function
            && let Some(oldest) = lines.entries.pop_front()
        {
            lines.bytes -= oldest.bytes();
        }
        // Sent under the lock, so that a subscriber sees the order that the store has. Nobody
        // listening is no error.
        let _ = self.news.send(entry);
    }

    /// The kept lines of a function, oldest first, and a subscription that begins after them.
    pub(crate) fn read(
        &self,
        function: &FunctionName,
    ) -> (Vec<Arc<LogEntry>>, broadcast::Receiver<Arc<LogEntry>>) {
        let functions = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = functions
            .get(function)
            .map(|lines| lines.entries.iter().cloned().collect());
        (entries.unwrap_or_default(), self.news.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_lines_go_first() {
        let name = FunctionName::try_from("hello".to_owned()).expect("a name");
        let store = LogStore::new(3 * (ENTRY_OVERHEAD + 1));
        for text in ["1", "2", "3", "4"] {
            let line = format!("2026-01-31T10:00:00Z stdout - {text}");
            store.add(LogEntry::from_line(&name, "i", &line));
        }
        let (entries, _) = store.read(&name);
        let texts: Vec<_> = entries.iter().map(|entry| entry.text.as_str()).collect();
        assert_eq!(texts, ["2", "3", "4"]);
    }
}
