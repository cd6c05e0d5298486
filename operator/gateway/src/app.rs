//! The state that all request handlers share.
//!
//! `gateway` fills it in once; the handlers in `http` read the catalog and the logs, and pass invocations to
//! the invoker. It holds no mutable state of its own.

use std::sync::Arc;

use pilotlight_core::function::FunctionName;
use pilotlight_core::ids::Namespace;
use pilotlight_wire::state::Limits;
use tokio::sync::watch;

use crate::catalog::{Catalog, Deployment, Entry};
use crate::config::Scope;
use crate::invoker::Invoker;
use crate::log_store::LogStore;
use crate::metrics::Metrics;
use crate::peers::Peers;

/// See the module.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) namespace: Namespace,
    /// By which callers and peers tell gateways apart: where the others reach this one, or `local`.
    pub(crate) address: String,
    /// The maximum number of instances of a function that has no reserved concurrency.
    pub(crate) concurrency: usize,
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

    pub(crate) fn limits(&self, deployment: &Deployment) -> Limits {
        let concurrency = &deployment.spec.concurrency;
        let reserved = concurrency.reserved.map(|n| u64::from(n.get()));
        Limits {
            concurrency: reserved.unwrap_or(self.concurrency as u64),
            queue: concurrency.queue.get().into(),
            provisioned: concurrency.provisioned.map_or(0, |n| n.get().into()),
        }
    }

    pub(crate) fn find(&self, function: &FunctionName) -> Option<Entry> {
        self.catalog.borrow().get(function).cloned()
    }
}
