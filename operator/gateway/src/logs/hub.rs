//! The logs of this gateway's functions, for the rest of the gateway.
//!
//! The backends feed it, `http::logs` reads and follows through it, and `writer` brings the records into the store. A
//! read is what the store has and what it does not have yet, each record once. Decides nothing: the backlog's bound is
//! `core`'s, and a store says itself how much it keeps.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pilotlight_core::ids::FunctionKey;
use pilotlight_logs::entry::{Entry, Origin};
use pilotlight_logs::invocations::Pages;
use pilotlight_logs::memory::MemoryStore;
use pilotlight_logs::query::{Order, Query, Selection};
use pilotlight_logs::store::{Page, Store, StoreError};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::feed::Feed;
use super::marks::{Marks, Source, Way};
use super::others::OtherGateways;
use super::records::Records;
use super::tail::Tail;
use super::writer;
use crate::metrics::Metrics;
use crate::metrics::logs::LogMetrics;

/// See the module. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Hub {
    pub(super) records: Arc<Records>,
    store: Arc<dyn Store>,
    marks: Marks,
    /// `None` where this is the only gateway.
    others: Arc<OnceLock<Arc<dyn OtherGateways>>>,
    /// Whether other gateways read the same store.
    is_store_shared: bool,
    /// Ends the writer with the last clone.
    _writer: Arc<DropGuard>,
}

impl Hub {
    /// Starts the writer. It must be called in a tokio runtime. `backlog_bytes`: how much of all functions' logs waits for
    /// the store at most.
    pub fn new(store: Arc<dyn Store>, backlog_bytes: usize) -> Self {
        let records = Arc::new(Records::new(backlog_bytes));
        let end = CancellationToken::new();
        tokio::spawn(writer::run(records.clone(), store.clone(), end.clone()));
        Hub {
            records,
            store,
            marks: Marks::default(),
            others: Arc::default(),
            is_store_shared: true,
            _writer: Arc::new(end.drop_guard()),
        }
    }

    /// Logs in this process's memory. `bytes`: how much of each function's log is kept; all have 16 times as much.
    pub fn in_memory(bytes: usize) -> Self {
        let store = MemoryStore::new(bytes, bytes.saturating_mul(16));
        Self::new(Arc::new(store), bytes)
    }

    /// No other gateway reads the store of this one.
    pub(crate) fn with_own_store(mut self) -> Self {
        self.is_store_shared = false;
        self
    }

    /// Has reads and tails include what other gateways have. Only the first call counts.
    pub(crate) fn set_others(&self, others: Arc<dyn OtherGateways>) {
        let _ = self.others.set(others);
    }

    /// Where the records of an instance go.
    pub(crate) fn feed(&self, origin: Origin) -> Feed {
        Feed::new(self.records.clone(), origin)
    }

    /// Registers an instance whose log is about to be read.
    pub(crate) fn begin(&self, function: &FunctionKey, way: Way) -> Arc<Source> {
        self.marks.add(function, way)
    }

    /// Returns when everything that the function's instances have logged at this gateway up to now has been taken, or after
    /// a limit. Other gateways do the same when `Hub::reader` asks them.
    pub async fn catch_up(&self, function: &FunctionKey) {
        self.marks.catch_up(function).await;
    }

    /// A reader of a function's log. It asks the other gateways now, and not again for each page.
    pub(crate) async fn reader(&self, function: &FunctionKey) -> Reader<'_> {
        let mut reader = Reader {
            hub: self,
            elsewhere: Vec::new(),
            unanswered: Vec::new(),
        };
        let Some(others) = self.others.get() else {
            return reader;
        };
        for (gateway, records) in others.waiting(function).await {
            match records {
                Some(records) => reader.elsewhere.extend(records),
                None => reader.unanswered.push(gateway),
            }
        }
        reader
    }

    /// The records of the function that the store does not have yet.
    pub(crate) fn waiting(&self, function: &FunctionKey) -> Vec<Entry> {
        self.records.admitted(&Query::all(function.clone()))
    }

    /// The records of the function that other gateways cannot read in the store.
    ///
    /// # Errors
    /// Why the store cannot answer, if it is this gateway's own.
    pub(crate) async fn unshared(&self, function: &FunctionKey) -> Result<Vec<Entry>, StoreError> {
        let mut query = Query::all(function.clone());
        let waiting = self.records.admitted(&query);
        if self.is_store_shared {
            return Ok(waiting);
        }
        let mut records = Vec::new();
        loop {
            let page = self.store.read(&query).await?;
            records.extend(page.records);
            query.after = page.next;
            if query.after.is_none() {
                records.extend(waiting);
                return Ok(records);
            }
        }
    }

    /// The records of the function that the selection admits, from now on, at all gateways.
    pub fn follow(&self, function: &FunctionKey, selection: Selection) -> Tail {
        let tail = self.records.follow(Some(function.clone()), selection);
        if let Some(others) = self.others.get() {
            others.follow(function, tail.sink());
        }
        tail
    }

    /// All records of the function from now on that come to this gateway.
    pub(crate) fn follow_own(&self, function: &FunctionKey) -> Tail {
        self.records
            .follow(Some(function.clone()), Selection::default())
    }

    /// The records of all functions, from now on.
    pub fn follow_all(&self) -> Tail {
        self.records.follow(None, Selection::default())
    }

    /// What a reader of this function gets in the place of records that it was too slow for.
    pub(crate) fn missed(&self, function: &FunctionKey, count: u64) -> Entry {
        self.records.missed(function, count)
    }

    /// Whether a retention that one gateway's store is given lasts, and holds at all gateways.
    pub(crate) fn keeps_retention(&self) -> bool {
        self.store.keeps_retention() && self.is_store_shared
    }

    /// The store alone, without what it does not have yet.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Has the writer go on without pauses, because the gateway ends. Returns whether the store has all that was taken,
    /// after `limit` at the latest.
    pub async fn flush(&self, limit: Duration) -> bool {
        self.records.flushing.cancel();
        let flushed = async {
            loop {
                let settled = self.records.settled.notified();
                if self.records.is_empty() {
                    return;
                }
                settled.await;
            }
        };
        tokio::time::timeout(limit, flushed).await.is_ok()
    }

    /// Has the gateway's metrics count what the records of instances say in figures, each record once.
    pub(crate) fn count_into(&self, metrics: &Metrics) {
        // A second gateway with the same logs would count them twice.
        let _ = self.records.figures.set(metrics.clone());
    }

    pub(crate) fn metrics(&self) -> &LogMetrics {
        &self.records.metrics
    }
}

/// See [`Hub::reader`].
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    hub: &'a Hub,
    /// The function's records that other gateways have beside the store.
    elsewhere: Vec<Entry>,
    unanswered: Vec<String>,
}

impl Reader<'_> {
    /// One page. If a gateway did not answer, the last page ends with a record that names it.
    ///
    /// # Errors
    /// Why the store cannot answer.
    pub(crate) async fn read(&self, query: &Query) -> Result<Page, StoreError> {
        // The backlogs first: what leaves them meanwhile is in the store by then.
        let mut waiting = self.hub.records.admitted(query);
        let elsewhere = self.elsewhere.iter().filter(|record| query.admits(record));
        waiting.extend(elsewhere.cloned());
        let stored = self.hub.store.read(query).await?;
        let mut page = merged(query, waiting, stored);
        if page.next.is_none() {
            let named = self.unanswered.iter().map(|gateway| {
                let text = format!(
                    "the gateway {gateway} did not answer: its newest records may be missing"
                );
                self.hub.records.note(&query.function, text)
            });
            page.records.extend(named);
        }
        Ok(page)
    }
}

impl Pages for Reader<'_> {
    fn page<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Page, StoreError>> {
        self.read(query).boxed()
    }
}

/// The page with the records that are not stored yet.
fn merged(query: &Query, waiting: Vec<Entry>, stored: Page) -> Page {
    if waiting.is_empty() {
        return stored;
    }
    let Page { mut records, next } = stored;
    // What lies beyond the page belongs to the next one.
    let is_within = |record: &Entry| {
        next.as_ref().is_none_or(|end| match query.order {
            Order::OldestFirst => record.position() <= *end,
            Order::NewestFirst => record.position() >= *end,
        })
    };
    records.extend(waiting.into_iter().filter(is_within));
    records.sort_by_cached_key(Entry::position);
    if query.order == Order::NewestFirst {
        records.reverse();
    }
    let mut known = HashSet::new();
    records.retain(|record| known.insert((record.instance.clone(), record.sequence)));
    let next = match records.len() > query.limit {
        true => {
            records.truncate(query.limit);
            records.last().map(Entry::position)
        }
        false => next,
    };
    Page { records, next }
}

#[cfg(test)]
mod tests;
