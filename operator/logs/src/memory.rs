//! Logs in this process's memory, within a bound of bytes for each function and for all together.
//!
//! For tests, and where a gateway has no other store. Nothing survives the process.

use std::collections::{BTreeMap, HashMap};
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use jiff::SignedDuration;
use pilotlight_core::ids::FunctionKey;

use crate::entry::{Entry, Position};
use crate::query::{Order, Query};
use crate::store::{FunctionLog, InstanceLog, Page, Retentions, Store, StoreError};

#[derive(Debug, Default)]
struct Log {
    records: BTreeMap<Position, Arc<Entry>>,
    bytes: usize,
    retention: Option<SignedDuration>,
}

/// See the module.
#[derive(Debug)]
pub struct MemoryStore {
    functions: Mutex<HashMap<FunctionKey, Log>>,
    bytes_per_function: usize,
    bytes: usize,
}

impl Log {
    /// Drops the oldest records until the log has at most so many bytes.
    fn shrink(&mut self, bytes: usize) {
        while self.bytes > bytes
            && let Some((_, oldest)) = self.records.pop_first()
        {
            self.bytes -= oldest.size();
        }
    }
}

impl MemoryStore {
    /// How much is kept, in bytes: of each function's log, and of all logs together. The oldest records of a function go
    /// first, and of all functions the one that has the most loses some.
    pub fn new(bytes_per_function: usize, bytes: usize) -> Self {
        MemoryStore {
            functions: Mutex::default(),
            bytes_per_function,
            bytes,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FunctionKey, Log>> {
        self.functions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn page(&self, query: &Query) -> Page {
        let functions = self.lock();
        let Some(log) = functions.get(&query.function) else {
            return Page::default();
        };
        let newest = log.records.keys().next_back().map(|at| at.time);
        // Age counts from the newest record: the store has no clock.
        let oldest = log
            .retention
            .and_then(|kept| newest?.checked_sub(kept).ok());
        let is_kept = |record: &&Arc<Entry>| oldest.is_none_or(|oldest| record.time >= oldest);
        let in_order: Box<dyn Iterator<Item = &Arc<Entry>>> = match query.order {
            Order::OldestFirst => Box::new(log.records.values()),
            Order::NewestFirst => Box::new(log.records.values().rev()),
        };
        let mut admitted = in_order
            .filter(is_kept)
            .filter(|record| query.admits(record));
        let records: Vec<Entry> = admitted
            .by_ref()
            .take(query.limit)
            .map(|r| (**r).clone())
            .collect();
        let next = admitted.next().and(records.last().map(Entry::position));
        Page { records, next }
    }
}

impl Store for MemoryStore {
    fn write<'a>(&'a self, records: &'a [Arc<Entry>]) -> BoxFuture<'a, Result<(), StoreError>> {
        let mut functions = self.lock();
        for record in records {
            let log = functions.entry(record.key()).or_default();
            if log
                .records
                .insert(record.position(), record.clone())
                .is_none()
            {
                log.bytes += record.size();
            }
            log.shrink(self.bytes_per_function);
        }
        let mut total: usize = functions.values().map(|log| log.bytes).sum();
        while total > self.bytes {
            let logs = functions.values_mut();
            let Some(most) = logs.max_by_key(|log| log.bytes) else {
                break;
            };
            // Not more than half: then another function may have the most.
            let before = most.bytes;
            let wanted = before.saturating_sub(total - self.bytes);
            most.shrink(wanted.max(before / 2));
            total -= before - most.bytes;
        }
        Box::pin(ready(Ok(())))
    }

    fn read<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Page, StoreError>> {
        Box::pin(ready(Ok(self.page(query))))
    }

    fn functions(&self) -> BoxFuture<'_, Result<Vec<FunctionLog>, StoreError>> {
        let functions = self.lock();
        let listed = functions.iter().filter_map(|(function, log)| {
            Some(FunctionLog {
                function: function.clone(),
                first: log.records.keys().next()?.time,
                bytes: log.bytes as u64,
            })
        });
        Box::pin(ready(Ok(listed.collect())))
    }

    fn instances<'a>(
        &'a self,
        function: &'a FunctionKey,
    ) -> BoxFuture<'a, Result<Vec<InstanceLog>, StoreError>> {
        let functions = self.lock();
        let mut instances: Vec<InstanceLog> = Vec::new();
        for record in functions
            .get(function)
            .into_iter()
            .flat_map(|log| log.records.values())
        {
            match instances
                .iter_mut()
                .find(|known| known.instance == record.instance)
            {
                Some(known) => known.last = record.time,
                None => instances.push(InstanceLog {
                    instance: record.instance.clone(),
                    qualifier: record.qualifier,
                    first: record.time,
                    last: record.time,
                }),
            }
        }
        instances.sort_by_key(|log| std::cmp::Reverse(log.last));
        Box::pin(ready(Ok(instances)))
    }

    fn retentions(&self) -> BoxFuture<'_, Result<Retentions, StoreError>> {
        let functions = self.lock();
        let retention =
            |(function, log): (&FunctionKey, &Log)| Some((function.clone(), log.retention?));
        Box::pin(ready(Ok(functions.iter().filter_map(retention).collect())))
    }

    fn set_retention<'a>(
        &'a self,
        function: &'a FunctionKey,
        retention: Option<SignedDuration>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.lock().entry(function.clone()).or_default().retention = retention;
        Box::pin(ready(Ok(())))
    }

    fn delete<'a>(&'a self, function: &'a FunctionKey) -> BoxFuture<'a, Result<(), StoreError>> {
        if let Some(log) = self.lock().get_mut(function) {
            *log = Log {
                retention: log.retention,
                ..Log::default()
            };
        }
        Box::pin(ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use pilotlight_core::ids::Qualifier;

    use super::*;
    use crate::conformance::check_all;
    use crate::entry::Origin;

    fn record(sequence: u64, text: &str) -> Arc<Entry> {
        let origin = Origin {
            function: "local/hello".parse().expect("a key"),
            qualifier: Qualifier::Latest,
            instance: "i1".to_owned(),
        };
        let line = format!("2026-01-31T10:00:0{sequence}Z stdout - {text}");
        Arc::new(Entry::of_line(
            &origin,
            sequence,
            &line,
            Timestamp::UNIX_EPOCH,
        ))
    }

    fn texts(page: &Page) -> Vec<&str> {
        page.records
            .iter()
            .map(|record| record.text.as_str())
            .collect()
    }

    #[tokio::test]
    async fn it_conforms() {
        check_all(&MemoryStore::new(usize::MAX, usize::MAX)).await;
    }

    #[tokio::test]
    async fn the_oldest_records_go_first_and_one_that_comes_twice_is_there_once() {
        let bound = 3 * record(1, "a").size();
        let store = MemoryStore::new(bound, usize::MAX);
        let records: Vec<_> = [(1, "a"), (2, "b"), (2, "b"), (3, "c"), (4, "d")]
            .map(|(sequence, text)| record(sequence, text))
            .into();
        store.write(&records).await.expect("it takes all");
        let query = Query::all("local/hello".parse().expect("a key"));
        let page = store.read(&query).await.expect("a page");
        assert_eq!(texts(&page), ["b", "c", "d"]);
        assert_eq!(page.next, None);
    }

    #[tokio::test]
    async fn all_functions_together_have_a_bound_and_the_largest_log_loses_its_oldest_records() {
        let size = record(1, "a").size();
        let store = MemoryStore::new(usize::MAX, 12 * size);
        let of = |function: &str, sequence| {
            let mut record = Entry::clone(&record(sequence, "a"));
            record.function = function.parse().expect("a name");
            Arc::new(record)
        };
        let kept = async |function: &str| {
            let key = format!("local/{function}").parse().expect("a key");
            let page = store.read(&Query::all(key)).await.expect("a page");
            Vec::from_iter(page.records.iter().map(|record| record.sequence))
        };
        store
            .write(&[of("quiet", 1), of("quiet", 2)])
            .await
            .expect("it takes all");
        for sequence in 1..=9 {
            let both = [of("loud", sequence), of("other", sequence)];
            store.write(&both).await.expect("it takes all");
        }
        assert_eq!(kept("quiet").await, [1, 2]);
        let (loud, other) = (kept("loud").await, kept("other").await);
        assert_eq!((loud.last(), other.last()), (Some(&9), Some(&9)));
        assert_eq!(loud.len() + other.len(), 10);
        assert!(loud.len().abs_diff(other.len()) <= 2, "{loud:?} {other:?}");
    }

    #[tokio::test]
    async fn pages_follow_each_other_in_both_orders() {
        let store = MemoryStore::new(usize::MAX, usize::MAX);
        let records: Vec<_> = (1..=5).map(|n| record(n, &n.to_string())).collect();
        store.write(&records).await.expect("it takes all");
        for (order, expected) in [
            (Order::OldestFirst, ["1", "2", "3", "4", "5"]),
            (Order::NewestFirst, ["5", "4", "3", "2", "1"]),
        ] {
            let mut query = Query::all("local/hello".parse().expect("a key"));
            (query.order, query.limit) = (order, 2);
            let mut read = Vec::new();
            loop {
                let page = store.read(&query).await.expect("a page");
                read.extend(page.records.iter().map(|record| record.text.clone()));
                query.after = page.next;
                if query.after.is_none() {
                    break;
                }
            }
            assert_eq!(read, expected);
        }
    }
}
