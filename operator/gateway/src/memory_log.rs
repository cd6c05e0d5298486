//! Logs in memory, merged and kept per function.
//!
//! Filled by the backends from the instances' records, read through `log_store` and by whoever subscribes.
//! Bounded in bytes per function, the oldest records going first; nothing survives the gateway. A slow
//! subscriber loses records, and learns how many.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pilotlight_core::function::FunctionName;
use tokio::sync::broadcast;

use crate::backend::Promise;
use crate::log_marks::{Marks, Source, Way};
use crate::log_store::{LogEntry, LogStore};

/// How many records a subscriber may be behind.
const SUBSCRIBER_LAG: usize = 4096;
/// What an entry takes beside its text, roughly, in bytes.
const ENTRY_OVERHEAD: usize = 160;

#[derive(Debug, Default)]
struct Lines {
    entries: VecDeque<Arc<LogEntry>>,
    bytes: usize,
}

/// Cheap to clone; all clones are one store.
#[derive(Clone, Debug)]
pub struct MemoryLog {
    lines: Arc<Mutex<HashMap<FunctionName, Lines>>>,
    news: broadcast::Sender<Arc<LogEntry>>,
    bytes_per_function: usize,
    marks: Marks,
}

impl MemoryLog {
    /// `bytes_per_function`: how much of each function's log is kept, in bytes.
    pub fn new(bytes_per_function: usize) -> Self {
        let (news, _) = broadcast::channel(SUBSCRIBER_LAG);
        MemoryLog {
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

    fn lock(&self) -> MutexGuard<'_, HashMap<FunctionName, Lines>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogStore for MemoryLog {
    fn append(&self, entry: LogEntry) {
        let entry = Arc::new(entry);
        let mut functions = self.lock();
        let lines = functions.entry(entry.function.clone()).or_default();
        lines.bytes += bytes(&entry);
        lines.entries.push_back(entry.clone());
        while lines.bytes > self.bytes_per_function
            && let Some(oldest) = lines.entries.pop_front()
        {
            lines.bytes -= bytes(&oldest);
        }
        // Sent under the lock, so that a subscriber sees the order that the store has. Nobody
        // listening is no error.
        let _ = self.news.send(entry);
    }

    fn catch_up<'a>(&'a self, function: &'a FunctionName) -> Promise<'a, ()> {
        Box::pin(self.marks.catch_up(function))
    }

    fn read(&self, function: &FunctionName) -> Vec<Arc<LogEntry>> {
        kept(&self.lock(), function)
    }

    fn follow(
        &self,
        function: &FunctionName,
    ) -> (Vec<Arc<LogEntry>>, broadcast::Receiver<Arc<LogEntry>>) {
        // Under one lock, so that no record is in both and none in neither.
        let functions = self.lock();
        (kept(&functions, function), self.news.subscribe())
    }
}

fn kept(functions: &HashMap<FunctionName, Lines>, function: &FunctionName) -> Vec<Arc<LogEntry>> {
    let entries = functions.get(function);
    entries.map_or_else(Vec::new, |lines| lines.entries.iter().cloned().collect())
}

/// What an entry takes, roughly.
fn bytes(entry: &LogEntry) -> usize {
    entry.text.len() + ENTRY_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_lines_go_first() {
        let name = FunctionName::try_from("hello".to_owned()).expect("a name");
        let store = MemoryLog::new(3 * (ENTRY_OVERHEAD + 1));
        for text in ["1", "2", "3", "4"] {
            let line = format!("2026-01-31T10:00:00Z stdout - {text}");
            store.append(LogEntry::from_line(&name, "i", &line));
        }
        let entries = store.read(&name);
        let texts: Vec<_> = entries.iter().map(|entry| entry.text.as_str()).collect();
        assert_eq!(texts, ["2", "3", "4"]);
    }
}
