//! The state that all request handlers share.
//!
//! `gateway` fills it in once; the handlers in `http` read the catalog and the logs, and pass invocations to
//! the invoker. It holds no mutable state of its own.

use std::sync::Arc;

use pilotlight_core::function::FunctionName;
use tokio::sync::watch;

use crate::catalog::{Catalog, Entry};
use crate::config::Scope;
use crate::invoker::Invoker;
use crate::log_store::LogStore;
use crate::metrics::Metrics;
use crate::peers::Peers;

/// See the module.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) scope: Scope,
    pub(crate) catalog: watch::Receiver<Arc<Catalog>>,
    pub(crate) invoker: Invoker,
    /// `None` where logs are kept elsewhere.
    pub(crate) logs: Option<LogStore>,
    /// `None` where this is the only gateway.
    pub(crate) peers: Option<Arc<dyn Peers>>,
    pub(crate) metrics: Metrics,
}

impl App {
    pub(crate) fn has(&self, function: &FunctionName) -> bool {
        self.catalog.borrow().contains_key(function)
    }

    pub(crate) fn find(&self, function: &FunctionName) -> Option<Entry> {
        self.catalog.borrow().get(function).cloned()
    }
}
