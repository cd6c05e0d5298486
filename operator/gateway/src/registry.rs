//! The functions that this gateway can run, wherever they are read from.
//!
//! Owns the interface. Request handlers and the invoker read through it. [`Deployed`] has what the driver has
//! deployed: from manifests in local mode, from Function resources in a cluster. Nothing is written through it yet.

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

    /// Whether a function exists; cheaper than [`Registry::get`].
    fn has(&self, pool: &PoolId) -> bool;

    /// All functions, and a notice of each change.
    fn watch(&self) -> watch::Receiver<Arc<Catalog>>;
}

/// The functions that the driver has deployed.
#[derive(Debug)]
pub(crate) struct Deployed(pub(crate) watch::Receiver<Arc<Catalog>>);

impl Registry for Deployed {
    fn list(&self) -> Arc<Catalog> {
        self.0.borrow().clone()
    }

    fn get(&self, pool: &PoolId) -> Option<Entry> {
        self.0.borrow().get(pool).cloned()
    }

    fn has(&self, pool: &PoolId) -> bool {
        self.0.borrow().contains_key(pool)
    }

    fn watch(&self) -> watch::Receiver<Arc<Catalog>> {
        self.0.clone()
    }
}
