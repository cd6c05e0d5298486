//! Batches of records, written so that they survive the end of VictoriaLogs.
//!
//! Each request gets a number, which its rows carry. Some seconds after the last insert the rows of each request are
//! counted: a process that was killed meanwhile has lost them, and a cluster of VictoriaLogs perhaps some. What is missing
//! is sent once more.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

use super::{VictoriaStore, logsql, row};
use crate::entry::Entry;
use crate::store::StoreError;
use crate::victoria::row::field;

/// The rows of one request, in bytes, except that a single row may be longer.
const REQUEST_LIMIT: usize = 4 * 1024 * 1024;
/// How often records are sent that are not there afterwards.
const ATTEMPTS: u32 = 2;

/// Records that were sent in one request.
struct Sent {
    batch: String,
    records: Vec<Arc<Entry>>,
}

impl VictoriaStore {
    pub(super) async fn write_durably(&self, records: &[Arc<Entry>]) -> Result<(), StoreError> {
        let mut open = records.to_vec();
        for _ in 0..ATTEMPTS {
            if open.is_empty() {
                return Ok(());
            }
            let sent = self.send(&open).await?;
            tokio::time::sleep(self.config.durable_after).await;
            open.clear();
            for request in sent {
                open.extend(self.missing(request).await?);
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        let why = format!(
            "it has taken {} records and has not stored {} of them: they are older than what it keeps (-retentionPeriod), or \
             longer than it allows (-insert.maxLineSizeBytes)",
            records.len(),
            open.len()
        );
        let missing = |record: &Arc<Entry>| open.iter().any(|open| Arc::ptr_eq(open, record));
        let places = records.iter().enumerate();
        let refused = places.filter(|(_, record)| missing(record));
        let refused = refused.map(|(place, _)| place).collect();
        Err(StoreError::Incomplete { why, refused })
    }

    async fn send(&self, records: &[Arc<Entry>]) -> Result<Vec<Sent>, StoreError> {
        let mut sent = Vec::new();
        let mut rest = records;
        while !rest.is_empty() {
            let batch = next_batch();
            let mut body = Vec::new();
            let mut taken = 0;
            for record in rest {
                let before = body.len();
                row::write(record, &batch, &mut body);
                if body.len() > REQUEST_LIMIT && taken > 0 {
                    body.truncate(before);
                    break;
                }
                taken += 1;
            }
            self.client.insert(body).await?;
            let (records, others) = rest.split_at(taken);
            sent.push(Sent {
                batch,
                records: records.to_vec(),
            });
            rest = others;
        }
        Ok(sent)
    }

    /// The records of a request that the store does not have.
    async fn missing(&self, sent: Sent) -> Result<Vec<Arc<Entry>>, StoreError> {
        let filter = sent.filter();
        // One that comes twice in a batch is stored twice.
        if self.count(&filter).await? >= sent.records.len() {
            return Ok(Vec::new());
        }
        let found = format!("{filter} | fields {}, {}", field::INSTANCE, field::SEQUENCE);
        let found = self.rows(&found).await?;
        let found: HashSet<(&str, u64)> = found
            .iter()
            .filter_map(|row| {
                let sequence = row::text(row, field::SEQUENCE)?.parse().ok()?;
                Some((row::text(row, field::INSTANCE)?, sequence))
            })
            .collect();
        let is_missing =
            |record: &Arc<Entry>| !found.contains(&(record.instance.as_str(), record.sequence));
        Ok(sent
            .records
            .iter()
            .filter(|one| is_missing(one))
            .cloned()
            .collect())
    }
}

impl Sent {
    fn filter(&self) -> String {
        let times = || self.records.iter().map(|record| record.time);
        let until = times().max().and_then(after);
        format!(
            "{} {}:={}{}",
            logsql::streams(None, None),
            field::BATCH,
            logsql::quote(&self.batch),
            logsql::times(times().min(), until)
        )
    }
}

/// The next microsecond.
pub(super) fn after(time: Timestamp) -> Option<Timestamp> {
    Timestamp::from_microsecond(time.as_microsecond().checked_add(1)?).ok()
}

/// Differs from those of other processes, and of this one.
fn next_batch() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // The keys of this hasher are random, and others in each process.
    static PROCESS: std::sync::LazyLock<u64> =
        std::sync::LazyLock::new(|| RandomState::new().hash_one(0));
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{:012x}{count:x}", *PROCESS >> 16)
}
