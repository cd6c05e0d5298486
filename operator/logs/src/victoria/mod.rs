//! Logs in VictoriaLogs: the store of a cluster.
//!
//! ```text
//! write: rows ─► /insert/jsonline ─► a pause ─► are they all there? ─► durable
//! read:  LogsQL ─► /select/logsql/query ─► rows ─► those that the query admits, each once
//! ```
//!
//! VictoriaLogs answers an insert when it has the rows in memory. They reach its disk some seconds later, and a process that
//! is killed before loses them. Therefore a write waits until they must be on disk, and then asks whether they are all
//! there. `client` carries the requests, `logsql` and `row` translate.

mod client;
pub mod logsql;
mod read;
mod row;
mod write;

use std::collections::HashMap;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use pilotlight_core::ids::FunctionKey;
use serde_json::Value;
use tokio::time::Instant;

use self::client::Client;
pub use self::client::{Reach, Tenant};
use self::row::field;
use crate::entry::Entry;
use crate::query::Query;
use crate::store::{FunctionLog, InstanceLog, Page, Retentions, Store, StoreError};

/// How long a deletion may take while somebody waits for it.
const DELETE_PATIENCE: Duration = Duration::from_secs(60);
/// The pause between two looks whether it is over.
const DELETE_PAUSE: Duration = Duration::from_millis(200);
/// A write waits some seconds for the disk of VictoriaLogs, so one at a time would be too few. Each has a batch of the
/// gateway's backlog, which bounds them together.
const WRITES_AT_ONCE: usize = 8;
/// The most functions, and the most instances of one, that are listed.
const LIST_LIMIT: usize = 10_000;

/// What a store needs to know of its VictoriaLogs.
#[derive(Clone, Debug)]
pub struct VictoriaConfig {
    pub tenant: Tenant,
    /// After which time rows that were inserted must be on disk: a second and twice `-inmemoryDataFlushInterval`, and
    /// something for a slow disk. [`durable_after`] computes it.
    pub durable_after: Duration,
    /// The time of day, for the retention of functions.
    pub clock: fn() -> Timestamp,
}

/// How long rows of VictoriaLogs wait to become a part, which is then flushed.
const PART_WAIT: Duration = Duration::from_secs(1);
/// For a disk that is slow.
const FLUSH_MARGIN: Duration = Duration::from_secs(1);

/// How long a write waits where VictoriaLogs has this `-inmemoryDataFlushInterval`. A part becomes due after the interval,
/// and due parts are looked for once in each interval.
pub fn durable_after(flush_interval: Duration) -> Duration {
    PART_WAIT + 2 * flush_interval + FLUSH_MARGIN
}

/// See the module.
#[derive(Debug)]
pub struct VictoriaStore {
    client: Client,
    config: VictoriaConfig,
    retention: Mutex<HashMap<FunctionKey, SignedDuration>>,
}

impl VictoriaStore {
    /// `reach`: how the store is reached, or why that is not known. A new value counts from the next request on.
    pub fn new(reach: Reach, config: VictoriaConfig) -> Self {
        VictoriaStore {
            client: Client::new(reach, config.tenant),
            config,
            retention: Mutex::default(),
        }
    }

    fn retention(&self) -> MutexGuard<'_, HashMap<FunctionKey, SignedDuration>> {
        self.retention
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The time of the oldest record of a function that is still shown.
    fn oldest(&self, function: &FunctionKey) -> Option<Timestamp> {
        let kept = *self.retention().get(function)?;
        (self.config.clock)().checked_sub(kept).ok()
    }

    /// Deletes the records that are older than the retention of their function. Reads do not show them in any case.
    /// VictoriaLogs rewrites what it keeps of the function, so call this once a day.
    ///
    /// # Errors
    /// If the store cannot be asked, or its API of deletions is switched off.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let functions: Vec<_> = self.retention().keys().cloned().collect();
        for function in functions {
            let Some(oldest) = self.oldest(&function) else {
                continue;
            };
            let streams = logsql::streams(Some(&function), None);
            let expired = format!("{streams}{}", logsql::times(None, Some(oldest)));
            if self.count(&expired).await? > 0 {
                self.client.start_deletion(&expired).await?;
            }
        }
        Ok(())
    }

    async fn count(&self, filter: &str) -> Result<usize, StoreError> {
        let rows = self.rows(&format!("{filter} | stats count() rows")).await?;
        let counted = rows.first().and_then(|row| row::text(row, "rows"));
        let counted = counted.and_then(|rows| rows.parse().ok());
        counted.ok_or_else(|| StoreError::Unavailable("it has not counted its rows".to_owned()))
    }

    /// The rows of an answer that is short.
    async fn rows(&self, query: &str) -> Result<Vec<Value>, StoreError> {
        let body = self.client.query(query).await?;
        let lines = body.split(|byte| *byte == b'\n');
        Ok(lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect())
    }

    async fn list_functions(&self) -> Result<Vec<FunctionLog>, StoreError> {
        let by = format!("{}, {}", field::NAMESPACE, field::FUNCTION);
        let streams = logsql::streams(None, None);
        let query = format!(
            "{streams} | stats by ({by}) min(_time) first, sum_len(_msg) bytes | limit {LIST_LIMIT}"
        );
        let rows = self.rows(&query).await?;
        let functions = rows.iter().filter_map(|row| {
            let text = |field| row::text(row, field);
            let function = FunctionKey {
                name: text(field::FUNCTION)?.parse().ok()?,
                namespace: text(field::NAMESPACE)?.parse().ok()?,
            };
            Some(FunctionLog {
                first: text("first")?.parse().ok()?,
                bytes: text("bytes")?.parse().ok()?,
                function,
            })
        });
        Ok(functions.collect())
    }

    async fn list_instances(&self, function: &FunctionKey) -> Result<Vec<InstanceLog>, StoreError> {
        let by = format!("{}, {}", field::INSTANCE, field::QUALIFIER);
        let streams = logsql::streams(Some(function), None);
        let since = logsql::times(self.oldest(function), None);
        let query = format!(
            "{streams}{since} | stats by ({by}) min(_time) first, max(_time) last | limit {LIST_LIMIT}"
        );
        let rows = self.rows(&query).await?;
        let instances = rows.iter().filter_map(|row| {
            let text = |field| row::text(row, field);
            Some(InstanceLog {
                instance: text(field::INSTANCE)?.to_owned(),
                qualifier: text(field::QUALIFIER)?.parse().ok()?,
                first: text("first")?.parse().ok()?,
                last: text("last")?.parse().ok()?,
            })
        });
        let mut instances: Vec<_> = instances.collect();
        instances.sort_by_key(|log| std::cmp::Reverse(log.last));
        Ok(instances)
    }

    async fn delete_function(&self, function: &FunctionKey) -> Result<(), StoreError> {
        let streams = logsql::streams(Some(function), None);
        let task = self.client.start_deletion(&streams).await?;
        let started = Instant::now();
        while self.client.is_deleting(&task).await? {
            if started.elapsed() > DELETE_PATIENCE {
                let why = format!(
                    "the deletion has not ended within {} s; it goes on",
                    DELETE_PATIENCE.as_secs()
                );
                return Err(StoreError::Unavailable(why));
            }
            tokio::time::sleep(DELETE_PAUSE).await;
        }
        Ok(())
    }
}

impl Store for VictoriaStore {
    fn write<'a>(&'a self, records: &'a [Arc<Entry>]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.write_durably(records))
    }

    fn writes_at_once(&self) -> usize {
        WRITES_AT_ONCE
    }

    fn read<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Page, StoreError>> {
        Box::pin(self.read_page(query))
    }

    fn functions(&self) -> BoxFuture<'_, Result<Vec<FunctionLog>, StoreError>> {
        Box::pin(self.list_functions())
    }

    fn instances<'a>(
        &'a self,
        function: &'a FunctionKey,
    ) -> BoxFuture<'a, Result<Vec<InstanceLog>, StoreError>> {
        Box::pin(self.list_instances(function))
    }

    /// Each gateway has its own, from the Functions.
    fn keeps_retention(&self) -> bool {
        false
    }

    fn retentions(&self) -> BoxFuture<'_, Result<Retentions, StoreError>> {
        let retentions = self.retention();
        let retentions = retentions
            .iter()
            .map(|(function, kept)| (function.clone(), *kept));
        Box::pin(ready(Ok(retentions.collect())))
    }

    fn set_retention<'a>(
        &'a self,
        function: &'a FunctionKey,
        retention: Option<SignedDuration>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        match retention {
            Some(kept) => self.retention().insert(function.clone(), kept),
            None => self.retention().remove(function),
        };
        Box::pin(std::future::ready(Ok(())))
    }

    fn delete<'a>(&'a self, function: &'a FunctionKey) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.delete_function(function))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_waits_for_two_intervals_and_two_seconds() {
        assert_eq!(
            durable_after(Duration::from_secs(1)),
            Duration::from_secs(4)
        );
        assert_eq!(
            durable_after(Duration::from_secs(5)),
            Duration::from_secs(12)
        );
    }
}
