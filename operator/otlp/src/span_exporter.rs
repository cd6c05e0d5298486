//! Spans on their way to a collector of traces: a buffer with a bound, and `worker`'s thread.
//!
//! A span is encoded when it is handed in, so the buffer has exactly the bytes that it sends. While the collector is away or
//! slow, the buffer fills up to its limit, and further spans are dropped and counted. A batch that the collector could not
//! take is sent again for a while, and one that it refuses is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::receiver::{Endpoint, Receiver, ReceiverHeaders};
use crate::spans::{SpanBatch, SpanOrigin};
use crate::worker::{Fate, Waiting, Worker};

/// The bytes of spans that wait; further ones are dropped.
const BUFFER_LIMIT: usize = 4 * 1024 * 1024;

/// What became of spans since the start.
#[derive(Debug, Default)]
pub struct SpanCounts {
    pub exported: AtomicU64,
    /// The buffer was full.
    pub dropped_full: AtomicU64,
    /// The collector refused them, or took no attempt.
    pub dropped_unsent: AtomicU64,
}

/// See the module. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct SpanExporter {
    worker: Worker<WaitingSpans>,
    counts: Arc<SpanCounts>,
}

#[derive(Debug)]
struct WaitingSpans {
    batch: SpanBatch,
    counts: Arc<SpanCounts>,
}

impl SpanExporter {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn start(endpoint: Endpoint, origin: SpanOrigin) -> std::io::Result<Self> {
        let counts = Arc::<SpanCounts>::default();
        let waiting = WaitingSpans {
            batch: SpanBatch::default(),
            counts: counts.clone(),
        };
        let receiver = Receiver::new(endpoint, ReceiverHeaders::default());
        let encode = move |batch: &SpanBatch| batch.request(&origin);
        let worker = Worker::start("traces", receiver, waiting, encode)?;
        Ok(SpanExporter { worker, counts })
    }

    pub fn counts(&self) -> Arc<SpanCounts> {
        self.counts.clone()
    }

    /// Takes spans, unless the buffer is full.
    pub fn submit(&self, batch: SpanBatch) {
        self.worker.add(|waiting, has_ended| {
            if has_ended || waiting.batch.len() + batch.len() > BUFFER_LIMIT {
                let dropped = &self.counts.dropped_full;
                dropped.fetch_add(batch.spans(), Ordering::Relaxed);
                return;
            }
            waiting.batch.append(batch);
        });
    }

    /// Sends what is left, once, and ends; returns when that is done, or after 2 s. Blocks.
    pub fn end(&self) {
        self.worker.end();
    }
}

impl Waiting for WaitingSpans {
    type Batch = SpanBatch;
    const WHAT: &'static str = "spans";
    const BATCH_BYTES: usize = 256 * 1024;
    const ATTEMPTS: Option<u32> = Some(5);

    fn bytes(&self) -> usize {
        self.batch.len()
    }

    fn take(&mut self) -> Option<SpanBatch> {
        (!self.batch.is_empty()).then(|| std::mem::take(&mut self.batch))
    }

    fn settle(&mut self, batch: SpanBatch, fate: Fate) {
        let (exported, unsent) = match fate {
            Fate::Taken { rejected } => {
                let rejected = rejected.min(batch.spans());
                (batch.spans() - rejected, rejected)
            }
            Fate::Refused | Fate::Unsent { .. } => (0, batch.spans()),
        };
        let SpanCounts {
            exported: all_exported,
            dropped_unsent,
            ..
        } = &*self.counts;
        all_exported.fetch_add(exported, Ordering::Relaxed);
        dropped_unsent.fetch_add(unsent, Ordering::Relaxed);
    }
}
