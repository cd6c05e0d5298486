//! Log records on their way to a receiver of OTLP: a backlog with a bound, and `worker`'s thread.
//!
//! What is dropped when the bound is reached, `core::logs::backlog` decides: the source that holds the most loses its oldest
//! records. A batch that the receiver cannot take now is sent again until it can; one that it refuses is dropped. Each
//! record that does not arrive is counted with its reason.

use std::fmt::{self, Debug};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pilotlight_core::logs::backlog::{Backlog, LogBatch};

use crate::logs::OtlpLogs;
use crate::receiver::{Endpoint, Receiver, ReceiverHeaders};
use crate::worker::{Fate, Waiting, Worker};

/// The most records of one request.
const BATCH_RECORDS: usize = 8192;

/// What became of log records since the start.
#[derive(Debug, Default)]
pub struct LogCounts {
    pub exported: AtomicU64,
    /// The backlog was full.
    pub dropped_full: AtomicU64,
    /// The receiver refused them.
    pub dropped_refused: AtomicU64,
    /// The process ended before the receiver took them.
    pub dropped_unsent: AtomicU64,
    /// Bytes that wait.
    pub waiting: AtomicU64,
}

/// Where records go, and what waits for it.
#[derive(Clone, Debug)]
pub struct LogReceiver {
    pub endpoint: Endpoint,
    pub headers: ReceiverHeaders,
    /// The bytes of records that wait at most.
    pub limit: usize,
}

/// See the module. `K` names the source of records, and `T` is a record, cheap to clone. Cheap to clone; all clones are one.
pub struct LogExporter<K, T> {
    worker: Worker<WaitingRecords<K, T>>,
    counts: Arc<LogCounts>,
}

impl<K, T> Clone for LogExporter<K, T> {
    fn clone(&self) -> Self {
        LogExporter {
            worker: self.worker.clone(),
            counts: self.counts.clone(),
        }
    }
}

impl<K, T> Debug for LogExporter<K, T> {
    /// Without the records.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = ("counts", &self.counts);
        f.debug_struct("LogExporter")
            .field(counts.0, counts.1)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct WaitingRecords<K, T> {
    backlog: Backlog<K, T>,
    counts: Arc<LogCounts>,
}

impl<K, T> LogExporter<K, T>
where
    K: Clone + Debug + Eq + Hash + Send + 'static,
    T: Clone + Debug + Send + 'static,
{
    /// Starts the thread. `write` adds a record to a request. `version`: of this program.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn start(
        to: LogReceiver,
        version: &'static str,
        write: impl Fn(&T, &mut OtlpLogs) + Send + 'static,
    ) -> std::io::Result<Self> {
        let counts = Arc::<LogCounts>::default();
        let waiting = WaitingRecords {
            backlog: Backlog::new(to.limit),
            counts: counts.clone(),
        };
        let encode = move |batch: &LogBatch<T>| {
            let mut logs = OtlpLogs::new(version);
            let records = batch.records.iter();
            records.for_each(|record| write(record, &mut logs));
            logs.request()
        };
        let receiver = Receiver::new(to.endpoint, to.headers);
        let worker = Worker::start("log export", receiver, waiting, encode)?;
        Ok(LogExporter { worker, counts })
    }

    pub fn counts(&self) -> Arc<LogCounts> {
        self.counts.clone()
    }

    /// Takes the newest record of a source. `size`: what it takes of the bound, in bytes.
    pub fn submit(&self, source: &K, record: T, size: usize) {
        self.worker.add(|waiting, has_ended| {
            if has_ended {
                add(&self.counts.dropped_unsent, 1);
                return;
            }
            waiting.backlog.push(source, record, size);
            waiting.note();
        });
    }

    /// Sends what is left, once, and ends; returns when that is done, or after 2 s. Blocks.
    pub fn end(&self) {
        self.worker.end();
    }
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

impl<K: Clone + Eq + Hash, T: Clone> WaitingRecords<K, T> {
    /// Counts what was dropped, and what waits.
    fn note(&mut self) {
        let dropped = self.backlog.take_dropped().into_iter();
        let dropped: u64 = dropped.map(|(_, count)| count).sum();
        if dropped > 0 {
            add(&self.counts.dropped_full, dropped);
        }
        let bytes = self.backlog.bytes() as u64;
        self.counts.waiting.store(bytes, Ordering::Relaxed);
    }
}

impl<K, T> Waiting for WaitingRecords<K, T>
where
    K: Clone + Debug + Eq + Hash + Send + 'static,
    T: Clone + Debug + Send + 'static,
{
    type Batch = LogBatch<T>;
    const WHAT: &'static str = "log records";
    const BATCH_BYTES: usize = 1024 * 1024;
    const ATTEMPTS: Option<u32> = None;

    fn bytes(&self) -> usize {
        self.backlog.untaken_bytes()
    }

    fn take(&mut self) -> Option<LogBatch<T>> {
        self.backlog.take(BATCH_RECORDS, Self::BATCH_BYTES)
    }

    fn settle(&mut self, batch: LogBatch<T>, fate: Fate) {
        let count = batch.records.len() as u64;
        match fate {
            Fate::Taken { rejected } => {
                let rejected = rejected.min(count);
                add(&self.counts.exported, count - rejected);
                add(&self.counts.dropped_refused, rejected);
                self.backlog.stored(batch.id);
            }
            Fate::Refused => {
                self.backlog.stored(batch.id);
                add(&self.counts.dropped_refused, count);
            }
            // Nothing is sent after the end, so nothing waits for it.
            Fate::Unsent { has_ended: true } => {
                let mut given_up = Some(batch);
                while let Some(batch) = given_up {
                    add(&self.counts.dropped_unsent, batch.records.len() as u64);
                    self.backlog.stored(batch.id);
                    given_up = self.backlog.take(usize::MAX, usize::MAX);
                }
            }
            Fate::Unsent { has_ended: false } => self.backlog.returned(batch.id),
        }
        self.note();
    }
}
