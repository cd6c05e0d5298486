//! The functions that this gateway can run, wherever they are read from.
//!
//! Owns the interface. Request handlers and the invoker read through it. [`Deployed`] has what the driver has
//! deployed: from manifests in local mode, from Function resources in a cluster. Nothing is written through it yet.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use pilotlight_core::ids::PoolId;
use tokio::sync::watch;

use crate::catalog::{Catalog, Entry};

pub(crate) trait Registry: Debug + Send + Sync {
    /// All functions, as they are now.
    fn list(&self) -> Arc<Catalog>;

    /// One function, if it exists.
    fn get(&self, pool: &PoolId) -> Option<Entry>;

    /// Why this version cannot read a function that exists, if it has never read it. It runs no such function.
    fn unreadable(&self, pool: &PoolId) -> Option<Arc<str>>;

    /// Whether a function can run; cheaper than [`Registry::get`].
    fn has(&self, pool: &PoolId) -> bool;

    /// All functions, and a notice of each change.
    fn watch(&self) -> watch::Receiver<Arc<Catalog>>;
}

/// Functions that exist and that this version cannot read, each with the reason.
pub(crate) type Unreadables = BTreeMap<PoolId, Arc<str>>;

/// The functions that the driver has deployed.
#[derive(Debug)]
pub(crate) struct Deployed {
    pub(crate) catalog: watch::Receiver<Arc<Catalog>>,
    pub(crate) unreadable: watch::Receiver<Unreadables>,
}

impl Registry for Deployed {
    fn list(&self) -> Arc<Catalog> {
        self.catalog.borrow().clone()
    }

    fn get(&self, pool: &PoolId) -> Option<Entry> {
        self.catalog.borrow().get(pool).cloned()
    }

    fn unreadable(&self, pool: &PoolId) -> Option<Arc<str>> {
        self.unreadable.borrow().get(pool).cloned()
    }

    fn has(&self, pool: &PoolId) -> bool {
        self.catalog.borrow().contains_key(pool)
    }

    fn watch(&self) -> watch::Receiver<Arc<Catalog>> {
        self.catalog.clone()
    }
}
