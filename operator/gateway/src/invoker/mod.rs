//! Where an invocation runs: in an instance of this gateway, or at the gateway that owns the function.
//!
//! Handlers pass an [`Invocation`] to [`Invoker::call`] and get its [`Outcome`], or an answer that begins. The invoker finds the
//! function, hands the invocation to `driver` or to a peer (`forward`), and tries again only what provably
//! never started (rule 2), for a bounded time. It knows no HTTP request, and it decides neither when instances
//! start nor who owns a function.

mod forward;
pub(crate) mod outcome;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pilotlight_core::invoke::queue::InvocationId;
use pilotlight_core::reason::Reason;
use tokio::sync::{mpsc, oneshot};
use tracing::Span;

use self::forward::forward;
use crate::catalog::{Entry, PoolKey};
use crate::clock;
use crate::intake::Intake;
use crate::message::{Invocation, Invoked, Message, Outcome, Pending, Placement};
use crate::metrics::{Metrics, OutcomeLabel, Tally};
use crate::peers::Peers;
use crate::registry::Registry;
use crate::span;

/// How long an invocation waits for an owner while the function's owner changes or cannot be reached, at all
/// gateways that pass it on together.
const OWNER_WAIT_LIMIT: Duration = Duration::from_secs(10);
/// How long an invocation from a peer waits until this gateway learns that it is the owner.
const FORWARDED_WAIT_LIMIT: Duration = Duration::from_secs(2);
/// How long to wait before a peer is asked again: it may learn that it is the owner later than this gateway.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// How often the time in this gateway's queue does not count as a wait for an owner. After that, a function that moves all the
/// time would keep its calls for ever.
const QUEUED_LIMIT: u16 = 3;
/// Gateways that disagree for a moment about an owner pass an invocation on at most this often.
const HOP_LIMIT: u16 = 3;

/// See the module.
#[derive(Debug)]
pub(crate) struct Invoker {
    functions: Arc<dyn Registry>,
    driver: mpsc::Sender<Message>,
    next_id: AtomicU64,
    /// `None` where this is the only gateway.
    peers: Option<Arc<dyn Peers>>,
    metrics: Metrics,
    /// Where the answers of other gateways take their room.
    intake: Intake,
    /// Of this gateway, for spans.
    address: Arc<str>,
}

impl Invoker {
    pub(crate) fn new(
        functions: Arc<dyn Registry>,
        driver: mpsc::Sender<Message>,
        peers: Option<Arc<dyn Peers>>,
        (metrics, intake): (Metrics, Intake),
        address: Arc<str>,
    ) -> Self {
        Invoker {
            functions,
            driver,
            next_id: AtomicU64::new(0),
            peers,
            metrics,
            intake,
            address,
        }
    }

    /// Whether the driver has ended, so that no invocation can start any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.driver.is_closed()
    }

    /// Has the function's owner run the invocation: this gateway, or a peer. The owner may change meanwhile.
    pub(crate) async fn call(&self, mut invocation: Invocation) -> Invoked {
        let mut catalog = self.functions.watch();
        // The wait for an owner, until now: `arrived`, later by what the call has spent in the queue of an owner, which has
        // its own limit.
        let mut since = invocation.arrived;
        let mut queued = 0;
        loop {
            // Before the look-up, so that a change that comes after it ends the wait below.
            catalog.mark_unchanged();
            let Some(entry) = self.functions.get(&invocation.target) else {
                let unreadable = self.functions.unreadable(&invocation.target);
                return Invoked::Ended(match unreadable {
                    Some(reason) => Outcome::NotReady(Reason::unreadable(reason)),
                    None => Outcome::NotFound,
                });
            };
            let (asked, waited) = (clock::now(), clock::since(since));
            let (hops, was_forwarded) = (invocation.hops, invocation.hops > 0);
            let waited_before = invocation.waited_before;
            let placement = match &self.peers {
                _ if entry.is_owned => self.run(&entry, invocation).await,
                // The peer that sent it took this gateway for the owner, and probably learned it earlier.
                Some(peers)
                    if hops < HOP_LIMIT && (!was_forwarded || waited >= FORWARDED_WAIT_LIMIT) =>
                {
                    self.metrics.forwarded();
                    let waited = waited_before + waited;
                    forward(peers.as_ref(), &self.intake, invocation, waited).await
                }
                _ => Placement::NotStarted(Box::new(invocation)),
            };
            invocation = match placement {
                Placement::Ended(outcome) => return Invoked::Ended(outcome),
                Placement::Began(stream) => return Invoked::Began(stream),
                Placement::NotStarted(invocation) => *invocation,
            };
            // A peer passes on by itself what it has had in its queue, and does not give it back.
            if entry.is_owned && queued < QUEUED_LIMIT {
                queued += 1;
                since += clock::since(asked);
            }
            let waited = clock::since(since);
            let is_over_here = was_forwarded && waited >= FORWARDED_WAIT_LIMIT * 2;
            if is_over_here || waited_before + waited >= OWNER_WAIT_LIMIT {
                return Invoked::Ended(Outcome::NotPlaced);
            }
            tokio::select! {
                changed = catalog.changed() => if changed.is_err() {
                    return Invoked::Ended(Outcome::Stopping);
                },
                () = tokio::time::sleep(RETRY_INTERVAL) => {}
            }
        }
    }

    /// Has this gateway's driver run it.
    async fn run(&self, entry: &Entry, invocation: Invocation) -> Placement {
        let tally = Tally::new(entry.metrics.clone(), invocation.arrived);
        span::record("owner", &self.address);
        let id = InvocationId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let (placement, placed) = oneshot::channel();
        let pending = Pending {
            id,
            invocation,
            cold: None,
            span: Span::current(),
            tally: tally.clone(),
            placement,
        };
        let pool = entry.pool;
        let message = Message::Invoke { pool, pending };
        if self.driver.send(message).await.is_err() {
            return Placement::Ended(Outcome::Stopping);
        }
        let waiting = Waiting {
            driver: &self.driver,
            pool,
            id,
            has_ended: false,
        };
        let Some(placement) = waiting.on(placed).await else {
            // Whoever had the invocation went away without a word, as the task of an instance that is stopped by force.
            tally.ended(OutcomeLabel::Lost);
            return Placement::Ended(Outcome::Lost);
        };
        let phases = match &placement {
            Placement::Ended(Outcome::Answered(answer)) => answer.phases.as_ref(),
            Placement::Began(stream) => Some(&stream.head.phases),
            Placement::Ended(_) | Placement::NotStarted(_) => None,
        };
        if let Some(phases) = phases {
            self.metrics.cold_start(phases);
            entry.metrics.phases(phases);
        }
        placement
    }
}

/// Tells the driver when the caller goes before the invocation has ended.
struct Waiting<'a> {
    driver: &'a mpsc::Sender<Message>,
    pool: PoolKey,
    id: InvocationId,
    has_ended: bool,
}

impl Waiting<'_> {
    async fn on(mut self, placed: oneshot::Receiver<Placement>) -> Option<Placement> {
        let placement = placed.await.ok();
        self.has_ended = true;
        placement
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            let (pool, invocation) = (self.pool, self.id);
            // If the driver has no room, the event is executed and its answer dropped.
            let _ = self
                .driver
                .try_send(Message::Abandoned { pool, invocation });
        }
    }
}
