//! The interface to whatever keeps the logs.
//!
//! The gateway's `logs` writes batches and reads pages through it. A store says itself how much it keeps. It never decides
//! who may read, and it never sees a live tail.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use pilotlight_core::ids::{FunctionKey, Qualifier};
use thiserror::Error;

use crate::entry::{Entry, Position};
use crate::query::Query;

/// See the module.
pub trait Store: Debug + Send + Sync {
    /// Stores the records. Once the future is ready, they survive the sudden end of this process and of the store's. A
    /// batch that fails may be stored in part, and the writer sends it again: the store, or its `read`, drops what came
    /// twice.
    fn write<'a>(&'a self, records: &'a [Arc<Entry>]) -> BoxFuture<'a, Result<(), StoreError>>;

    /// How many writes the store bears at the same time. More than one helps where a write waits for a disk elsewhere.
    fn writes_at_once(&self) -> usize {
        1
    }

    /// One page of a function's log.
    fn read<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Page, StoreError>>;

    /// The functions that have records.
    fn functions(&self) -> BoxFuture<'_, Result<Vec<FunctionLog>, StoreError>>;

    /// The instances of a function that have records, the newest first.
    fn instances<'a>(
        &'a self,
        function: &'a FunctionKey,
    ) -> BoxFuture<'a, Result<Vec<InstanceLog>, StoreError>>;

    /// Whether a retention that it is given lasts as long as the records, and for all gateways. Otherwise whoever gives
    /// one has to do so again.
    fn keeps_retention(&self) -> bool {
        true
    }

    /// How long the records of functions are kept, for those that have a retention of their own. A function has one whether
    /// it has records or not, and keeps it when its records are deleted.
    fn retentions(&self) -> BoxFuture<'_, Result<Retentions, StoreError>>;

    /// How long the records of a function are kept from now on. `None`: as long as the store keeps any.
    fn set_retention<'a>(
        &'a self,
        function: &'a FunctionKey,
        retention: Option<SignedDuration>,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Removes all records of a function that are stored now.
    fn delete<'a>(&'a self, function: &'a FunctionKey) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// Records in the order that the query wants, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub records: Vec<Entry>,
    /// Where the next page begins ([`Query::after`]). `None`: there is no more. A page may have fewer records than its
    /// limit and still have a next one, because a store bounds how much it reads for a page.
    pub next: Option<Position>,
}

/// How long the records of each function are kept.
pub type Retentions = BTreeMap<FunctionKey, SignedDuration>;

/// What a store has of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionLog {
    pub function: FunctionKey,
    /// The time of the oldest record.
    pub first: Timestamp,
    /// What the records take in the store, in bytes, as far as the store knows.
    pub bytes: u64,
}

/// What a store has of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceLog {
    pub instance: String,
    pub qualifier: Qualifier,
    pub first: Timestamp,
    pub last: Timestamp,
}

/// Why a store did not do what it was asked for. The text is for the operator, and names hosts.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// It may work later: the writer keeps the batch and tries again.
    #[error("the log store cannot be reached: {0}")]
    Unavailable(String),
    /// It will not work later either: the writer drops the batch, and counts it.
    #[error("the log store refuses this: {0}")]
    Refused(String),
    /// The same, for some records of a batch. It has stored all others.
    #[error("the log store refuses some records: {why}")]
    Incomplete {
        why: String,
        /// Their places in the batch.
        refused: Vec<usize>,
    },
}
