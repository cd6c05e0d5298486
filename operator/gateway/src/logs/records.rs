//! The records that this gateway has taken and its store does not have yet.
//!
//! Each record passes through [`Records::take`] once: there it is numbered as seen, sent to those who follow, and put into
//! the backlog (`core::logs::backlog`), which decides what is dropped. `feed` brings records, `writer` takes batches,
//! `hub` reads. It never waits, and does no IO.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use jiff::Timestamp;
use pilotlight_core::ids::{FunctionKey, Qualifier};
use pilotlight_core::logs::backlog::{Backlog, LogBatch, LogBatchId};
use pilotlight_logs::entry::{Entry, Origin};
use pilotlight_logs::query::{Query, Selection};
use pilotlight_wire::log_record::LogSource;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::exports::LogExports;
use super::tail::{Tail, Tails};
use crate::metrics::Metrics;
use crate::metrics::logs::{DropReason, LogMetrics};

/// The most records and bytes of one batch for the store. A batch of this many bytes is written at once. With the batches
/// that VictoriaLogs bears at the same time this bounds what a gateway writes: 8 batches in 4 s are 32,000 records a second.
const BATCH_RECORDS: usize = 16 * 1024;
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// The newest number of each instance.
type Newest = HashMap<String, u64>;
/// A batch for the store.
pub(super) type EntryBatch = LogBatch<Arc<Entry>>;

/// See the module.
#[derive(Debug)]
pub(super) struct Records {
    state: Mutex<State>,
    /// Wakes the writer.
    pub(super) work: Notify,
    /// A whole batch waits.
    pub(super) urgent: Notify,
    /// The gateway ends: the writer makes no pauses.
    pub(super) flushing: CancellationToken,
    /// Notified after each batch.
    pub(super) settled: Notify,
    pub(super) metrics: LogMetrics,
    /// Those of the gateway, which count what records say in figures.
    pub(super) figures: OnceLock<Metrics>,
    /// The other way of each record, if there is one.
    pub(super) exports: OnceLock<LogExports>,
    /// Where this gateway's own records come from, in the place of an instance.
    name: String,
}

#[derive(Debug)]
struct State {
    backlog: Backlog<FunctionKey, Arc<Entry>>,
    tails: Tails,
    instances: HashMap<String, Instance>,
    /// The batches that are on their way to the store.
    writing: BTreeSet<LogBatchId>,
    /// What has left the backlog while older records of its function are still open: for each part of a batch its newest
    /// place there, and the newest number of each instance.
    ahead: HashMap<FunctionKey, Vec<(u64, Newest)>>,
    /// Records that were dropped, and that no record speaks of yet.
    missing: BTreeMap<(FunctionKey, DropReason), u64>,
    /// The number of this gateway's last own record.
    own: u64,
}

/// How far the records of an instance have come.
#[derive(Debug)]
struct Instance {
    /// The number of the last record that was taken.
    last: u64,
    /// The number of the last record that nobody has to send again.
    settled: watch::Sender<u64>,
    feeds: usize,
}

impl Records {
    pub(super) fn new(backlog_bytes: usize) -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string();
        Records {
            state: Mutex::new(State {
                backlog: Backlog::new(backlog_bytes),
                tails: Tails::default(),
                instances: HashMap::new(),
                writing: BTreeSet::new(),
                ahead: HashMap::new(),
                missing: BTreeMap::new(),
                own: 0,
            }),
            work: Notify::new(),
            urgent: Notify::new(),
            flushing: CancellationToken::new(),
            settled: Notify::new(),
            metrics: LogMetrics::default(),
            figures: OnceLock::new(),
            exports: OnceLock::new(),
            name: format!("gateway-{}", &id[..8]),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A feed of this instance begins. The receiver learns which records need not be sent again.
    pub(super) fn begin(&self, instance: &str) -> watch::Receiver<u64> {
        let mut state = self.lock();
        let entry = state.instances.entry(instance.to_owned());
        let known = entry.or_insert_with(|| Instance {
            last: 0,
            settled: watch::Sender::new(0),
            feeds: 0,
        });
        known.feeds += 1;
        known.settled.subscribe()
    }

    /// Such a feed has ended. The instance is remembered until its records are settled, so that what it sends again over
    /// another feed is recognised.
    pub(super) fn end(&self, instance: &str) {
        let mut state = self.lock();
        if let Some(known) = state.instances.get_mut(instance) {
            known.feeds -= 1;
            if known.is_over() {
                state.instances.remove(instance);
            }
        }
    }

    /// Takes a record of an instance, unless it has been taken before.
    pub(super) fn take(&self, record: Entry) {
        let record = Arc::new(record);
        {
            let mut state = self.lock();
            if let Some(known) = state.instances.get_mut(&record.instance) {
                if record.sequence <= known.last {
                    return;
                }
                known.last = record.sequence;
            }
            self.admit(&mut state, record.clone());
        }
        // Without the lock: what a function writes can be long JSON.
        if let Some(figures) = self.figures.get() {
            figures.observe(&record);
        }
    }

    /// The one place that each record passes, once.
    fn admit(&self, state: &mut State, record: Arc<Entry>) {
        let key = record.key();
        self.metrics.taken();
        let had_work = state.backlog.has_untaken();
        state.tails.send(&key, &record);
        if let Some(exports) = self.exports.get() {
            exports.submit(&key, &record);
        }
        let size = record.size();
        state.backlog.push(&key, record, size);
        for (function, count) in state.backlog.take_dropped() {
            self.miss(state, function, DropReason::backlog_full, count);
        }
        self.metrics.backlog(state.backlog.bytes());
        if !had_work {
            self.work.notify_one();
        }
        if state.backlog.untaken_bytes() >= BATCH_BYTES {
            self.urgent.notify_one();
        }
    }

    /// An instance of the function sends too much. The next record that is stored makes this known.
    pub(super) fn too_fast(&self, function: &FunctionKey, count: u64) {
        let mut state = self.lock();
        self.miss(
            &mut state,
            function.clone(),
            DropReason::instance_rate,
            count,
        );
    }

    fn miss(&self, state: &mut State, function: FunctionKey, reason: DropReason, count: u64) {
        self.metrics.dropped(reason, count);
        *state.missing.entry((function, reason)).or_default() += count;
    }

    /// The next batch for the store. Its records stay in the backlog until they are settled. `None`: there is no work.
    pub(super) fn batch(&self) -> Option<EntryBatch> {
        let mut state = self.lock();
        let batch = state.backlog.take(BATCH_RECORDS, BATCH_BYTES)?;
        state.writing.insert(batch.id);
        Some(batch)
    }

    /// The store has this batch.
    pub(super) fn stored(&self, batch: &EntryBatch) {
        self.refused(batch, &[]);
    }

    /// The store will never have the records at these places of the batch, and has all others.
    pub(super) fn refused(&self, batch: &EntryBatch, places: &[usize]) {
        let stored = batch.records.len().saturating_sub(places.len());
        self.metrics.stored(stored as u64);
        let mut newest = newest(&batch.records);
        let mut state = self.lock();
        for record in places.iter().filter_map(|place| batch.records.get(*place)) {
            // A record that says what is missing does not count: if it is refused too, there would be no end.
            if record.instance != self.name {
                self.miss(&mut state, record.key(), DropReason::store_refused, 1);
            }
        }
        for (function, place) in state.backlog.stored(batch.id) {
            let newest = newest.remove(&function).unwrap_or_default();
            let ahead = state.ahead.entry(function.clone()).or_default();
            ahead.push((place, newest));
            state.settle(&function);
        }
        self.batch_ended(&mut state, batch.id);
    }

    /// The store may have the batch later.
    pub(super) fn failed(&self, batch: &EntryBatch) {
        self.metrics.store_failed();
        let mut state = self.lock();
        state.backlog.returned(batch.id);
        for (function, count) in state.backlog.take_dropped() {
            // What has made room on its way is lost now, and holds nothing back any more.
            state.settle(&function);
            self.miss(&mut state, function, DropReason::backlog_full, count);
        }
        state.writing.remove(&batch.id);
        self.metrics.backlog(state.backlog.bytes());
        self.settled.notify_waiters();
    }

    /// Drops what waits of a function's log. Returns the batches that are on their way to the store at this moment, which
    /// may have records of the function.
    pub(super) fn forget(&self, function: &FunctionKey) -> BTreeSet<LogBatchId> {
        let mut state = self.lock();
        let forgotten: Vec<_> = state.backlog.of(function).cloned().collect();
        let newest = newest(&forgotten).remove(function).unwrap_or_default();
        state.backlog.forget(function);
        let ahead = state.ahead.entry(function.clone()).or_default();
        ahead.push((0, newest));
        state.settle(function);
        self.metrics.backlog(state.backlog.bytes());
        state.writing.clone()
    }

    /// Returns when none of these batches is on its way.
    pub(super) async fn have_ended(&self, batches: &BTreeSet<LogBatchId>) {
        loop {
            let settled = self.settled.notified();
            if self.lock().writing.is_disjoint(batches) {
                return;
            }
            settled.await;
        }
    }

    /// A batch has ended, and its records have left the backlog.
    fn batch_ended(&self, state: &mut State, batch: LogBatchId) {
        state.writing.remove(&batch);
        let is_empty = state.backlog.is_empty();
        let is_over = |instance: &Instance| instance.is_over() || is_empty && instance.feeds == 0;
        state.instances.retain(|_, instance| !is_over(instance));
        self.report(state);
        self.metrics.backlog(state.backlog.bytes());
        self.settled.notify_waiters();
    }

    /// Adds a record for each function that lacks some, now that there is room.
    fn report(&self, state: &mut State) {
        for ((function, reason), count) in std::mem::take(&mut state.missing) {
            let why = match reason {
                DropReason::backlog_full => {
                    "the log store did not take them, and the gateway has no room for more"
                }
                DropReason::store_refused => {
                    "the log store refuses them; the log of the gateway says why"
                }
                DropReason::instance_rate => "an instance sends more than a gateway takes of one",
            };
            let text = format!("{count} log records were dropped: {why}");
            let record = self.own(state, function, text);
            self.admit(state, Arc::new(record));
        }
    }

    /// A record of this gateway's own.
    fn own(&self, state: &mut State, function: FunctionKey, text: String) -> Entry {
        state.own += 1;
        let origin = Origin {
            function,
            qualifier: Qualifier::Latest,
            instance: self.name.clone(),
        };
        let mut record = Entry::of_line(&origin, state.own, "", Timestamp::now());
        (record.source, record.text) = (LogSource::Platform, text);
        record
    }

    /// What a reader of this function gets in the place of the records that it was too slow for.
    pub(super) fn missed(&self, function: &FunctionKey, count: u64) -> Entry {
        let text = format!("{count} log records were left out: the reader was too slow");
        self.note(function, text)
    }

    /// A record for one reader of this function, which is not stored.
    pub(super) fn note(&self, function: &FunctionKey, text: String) -> Entry {
        self.own(&mut self.lock(), function.clone(), text)
    }

    pub(super) fn follow(&self, function: Option<FunctionKey>, selection: Selection) -> Tail {
        self.lock().tails.follow(function, selection)
    }

    /// The records of the backlog that the query admits.
    pub(super) fn admitted(&self, query: &Query) -> Vec<Entry> {
        let of_function: Vec<Arc<Entry>> = {
            let state = self.lock();
            state.backlog.of(&query.function).cloned().collect()
        };
        // Without the lock: a regular expression takes its time.
        let admitted = of_function.iter().filter(|record| query.admits(record));
        admitted.map(|record| Entry::clone(record)).collect()
    }

    pub(super) fn has_work(&self) -> bool {
        self.lock().backlog.has_untaken()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().backlog.is_empty()
    }

    /// Whether a whole batch waits.
    pub(super) fn is_urgent(&self) -> bool {
        self.lock().backlog.untaken_bytes() >= BATCH_BYTES
    }
}

impl State {
    /// Instances need not send again what is older than the oldest open record of the function: a batch may be stored
    /// while an older one is still on its way.
    fn settle(&mut self, function: &FunctionKey) {
        let Some(ahead) = self.ahead.get_mut(function) else {
            return;
        };
        let oldest = self.backlog.oldest(function).unwrap_or(u64::MAX);
        for (_, newest) in ahead.extract_if(.., |(place, _)| *place < oldest) {
            for (name, sequence) in newest {
                if let Some(instance) = self.instances.get(&name) {
                    instance.settled.send_if_modified(|settled| {
                        let is_news = sequence > *settled;
                        *settled = sequence.max(*settled);
                        is_news
                    });
                }
            }
        }
        if ahead.is_empty() {
            self.ahead.remove(function);
        }
    }
}

/// The newest number of each instance, by functions.
fn newest(records: &[Arc<Entry>]) -> HashMap<FunctionKey, Newest> {
    let mut newest: HashMap<FunctionKey, Newest> = HashMap::new();
    // The records of one call follow each other.
    let is_same = |one: &Arc<Entry>, next: &Arc<Entry>| {
        one.instance == next.instance
            && one.function == next.function
            && one.namespace == next.namespace
    };
    for run in records.chunk_by(is_same) {
        let [first, ..] = run else { continue };
        let last = run.iter().map(|record| record.sequence).max();
        let of_function = newest.entry(first.key()).or_default();
        let known = of_function.entry(first.instance.clone()).or_default();
        *known = (*known).max(last.unwrap_or_default());
    }
    newest
}

impl Instance {
    fn is_over(&self) -> bool {
        self.feeds == 0 && *self.settled.borrow() >= self.last
    }
}
