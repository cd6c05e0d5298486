//! The records of one instance on their way into this gateway.
//!
//! `process` reads lines from a pipe, which have no numbers: they are numbered here. A backend whose lines have numbers
//! passes these on. The feed makes a record of each line, and `records` takes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use pilotlight_logs::entry::{Entry, Origin};
use tokio::sync::watch;

use super::records::Records;

/// How far the clock of an instance may be ahead of this one.
const CLOCK_AHEAD: Duration = Duration::from_secs(60);
/// The oldest record that is taken with its own time. A supervisor keeps records while no gateway is there.
const OLDEST_RECORD: Duration = Duration::from_secs(7 * 24 * 3600);
/// The longest request id, in bytes.
const REQUEST_ID_LIMIT: usize = 64;

/// See the module. An instance may have several.
#[derive(Debug)]
pub(crate) struct Feed {
    records: Arc<Records>,
    origin: Origin,
    last: AtomicU64,
    settled: watch::Receiver<u64>,
}

impl Feed {
    pub(super) fn new(records: Arc<Records>, origin: Origin) -> Self {
        Feed {
            settled: records.begin(&origin.instance),
            records,
            origin,
            last: AtomicU64::new(0),
        }
    }

    /// The next line of the instance.
    pub(crate) fn line(&self, line: &str) {
        let sequence = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let record = Entry::of_line(&self.origin, sequence, line, Timestamp::now());
        self.records.take(record);
    }

    /// The line that has this number within its instance. Numbers rise; one that was there before is passed over.
    ///
    /// Nothing in it is trusted. A time that cannot be is replaced by this moment, since stores keep records by their time.
    pub(crate) fn record(&self, sequence: u64, line: &str) {
        let now = Timestamp::now();
        let mut record = Entry::of_line(&self.origin, sequence, line, now);
        let is_possible = record.time <= now.saturating_add(CLOCK_AHEAD).unwrap_or(now)
            && record.time >= now.saturating_sub(OLDEST_RECORD).unwrap_or(now);
        if !is_possible {
            record.time = now;
        }
        let id = record.request_id.as_ref();
        if id.is_some_and(|id| id.len() > REQUEST_ID_LIMIT) {
            record.request_id = None;
        }
        self.records.take(record);
    }

    /// So many records of the instance were not taken, because it sends too many.
    pub(crate) fn too_fast(&self, records: u64) {
        self.records.too_fast(&self.origin.function, records);
    }

    /// The number of the last record that need not be sent again: the store has it, or never will.
    pub(crate) fn settled(&self) -> watch::Receiver<u64> {
        self.settled.clone()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.records.end(&self.origin.instance);
    }
}
