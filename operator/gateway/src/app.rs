//! The state that all request handlers share.
//!
//! `gateway` fills it in once; the handlers in `http` read the catalog and the logs, and send messages to the
//! driver. It holds no mutable state of its own.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use pilotlight_core::function::FunctionName;
use tokio::sync::{mpsc, watch};

use crate::catalog::{Catalog, Entry};
use crate::config::Scope;
use crate::log_store::LogStore;
use crate::message::Message;
use crate::metrics::Metrics;
use crate::peers::Peers;

/// See the module.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) scope: Scope,
    pub(crate) catalog: watch::Receiver<Arc<Catalog>>,
    pub(crate) driver: mpsc::Sender<Message>,
    /// `None` where logs are kept elsewhere.
    pub(crate) logs: Option<LogStore>,
    pub(crate) next_invocation: AtomicU64,
    /// `None` where this is the only gateway.
    pub(crate) peers: Option<Arc<dyn Peers>>,
    pub(crate) metrics: Metrics,
}

impl App {
    pub(crate) fn find(&self, function: &FunctionName) -> Option<Entry> {
        self.catalog.borrow().get(function).cloned()
    }
}
