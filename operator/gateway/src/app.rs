//! The state that all request handlers share.
//!
//! `gateway` fills it in once; the handlers in `http` read the functions and the logs, and pass invocations to
//! the invoker. It holds no mutable state of its own.

use std::sync::Arc;

use pilotlight_core::reason::Audience;
use pilotlight_net::identity::public::PublicDoor;
use pilotlight_wire::state::Limits;

use crate::access::Access;
use crate::catalog::Deployment;
use crate::config::Scope;
use crate::events::Events;
use crate::intake::Intake;
use crate::invoker::Invoker;
use crate::logs::Hub;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::registry::Registry;
use crate::schedules::Schedules;
use crate::traces::Traces;

/// See the module.
#[derive(Debug)]
pub(crate) struct App {
    /// By which callers and peers tell gateways apart: where the others reach this one, or `local`.
    pub(crate) address: Arc<str>,
    /// The maximum number of instances of a function that has no reserved concurrency.
    pub(crate) concurrency: usize,
    pub(crate) scope: Scope,
    /// Who gets the answers.
    pub(crate) audience: Audience,
    /// Whether answers contain the values of `environment`.
    pub(crate) shows_environment: bool,
    pub(crate) access: Access,
    pub(crate) functions: Arc<dyn Registry>,
    pub(crate) invoker: Arc<Invoker>,
    /// `None` where events cannot be stored.
    pub(crate) events: Option<Events>,
    pub(crate) schedules: Schedules,
    /// `None` where logs are kept elsewhere.
    pub(crate) logs: Option<Hub>,
    /// `None` where this is the only gateway.
    pub(crate) peers: Option<Arc<dyn Peers>>,
    pub(crate) metrics: Metrics,
    pub(crate) intake: Intake,
    /// The TLS of the listener for callers.
    pub(crate) door: PublicDoor,
    /// Where spans go, if anywhere.
    pub(crate) traces: Option<Traces>,
}

impl App {
    /// The limits of a function.
    pub(crate) fn limits(&self, deployment: &Deployment) -> Limits {
        let concurrency = &deployment.spec.concurrency;
        let reserved = concurrency.reserved.map(|n| u64::from(n.get()));
        Limits {
            concurrency: reserved.unwrap_or(self.concurrency as u64),
            queue: concurrency.queue.get().into(),
            provisioned: concurrency.provisioned.map_or(0, |n| n.get().into()),
        }
    }
}
