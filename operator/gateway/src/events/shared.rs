//! What all parts of the events share: the queue, what attempts need of the gateway, and the way to the dispatcher.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use pilotlight_core::events::retry::EventTime;
use pilotlight_core::ids::{FunctionKey, PoolId};
use pilotlight_events::event::QueuedEvent;
use pilotlight_events::queue::{DeadLetters, EventQueue, FunctionEvents, QueueError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::places::Places;
use crate::backend::Backend;
use crate::destinations::Destinations;
use crate::intake::Intake;
use crate::invoker::Invoker;
use crate::peers::Peers;
use crate::registry::Registry;
use crate::traces::Traces;

/// The largest event of an asynchronous call (contract §1).
pub(crate) const EVENT_LIMIT: usize = 1024 * 1024;
/// The pause before the queue is asked again that did not answer.
pub(super) const QUEUE_PAUSE: Duration = Duration::from_secs(1);

/// Events of asynchronous calls. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    pub(super) queue: Arc<dyn EventQueue>,
    pub(super) runner: Runner,
    pub(super) news: mpsc::Sender<News>,
    /// Cancelled when the gateway ends: no further attempt begins.
    pub(super) stop: CancellationToken,
    pub(super) attempts: TaskTracker,
    pub(super) places: Places,
}

/// What the dispatcher learns from others.
#[derive(Debug)]
pub(super) enum News {
    /// An event of the function waits until this time.
    Waits(FunctionKey, EventTime),
    /// An attempt has ended. Its event waits again, if there is a time.
    Ended {
        function: FunctionKey,
        has_begun: bool,
        due: Option<EventTime>,
    },
}

/// What attempts need of the gateway.
#[derive(Clone, Debug)]
pub(crate) struct Runner {
    pub(crate) functions: Arc<dyn Registry>,
    pub(crate) invoker: Arc<Invoker>,
    pub(crate) intake: Intake,
    pub(crate) destinations: Destinations,
    /// Learns how many events wait.
    pub(crate) backend: Arc<dyn Backend>,
    /// `None`: spans go nowhere.
    pub(crate) traces: Option<Traces>,
    /// `None`: there is no other gateway.
    pub(crate) peers: Option<Arc<dyn Peers>>,
    /// The maximum number of instances of a function that has no reserved concurrency.
    pub(crate) concurrency: usize,
    pub(crate) clock: fn() -> EventTime,
}

impl Events {
    pub(crate) fn now(&self) -> EventTime {
        (self.runner.clock)()
    }

    /// Takes an event. When this returns, it is not lost any more.
    ///
    /// # Errors
    /// The queue has no room, or cannot be used.
    pub(crate) async fn accept(&self, event: QueuedEvent) -> Result<(), QueueError> {
        let (target, due) = (event.head.target.clone(), event.head.progress.accepted);
        self.queue.accept(event).await?;
        if let Some(entry) = self.runner.functions.get(&target) {
            entry.metrics.event_accepted();
        }
        // The dispatcher has ended with the gateway, and the next one finds the event. The owner hears of it from the queue.
        if self.runner.owns(&target.function) {
            let _ = self.news.send(News::Waits(target.function, due)).await;
        }
        Ok(())
    }

    /// The events of a function. `None`: it has none.
    ///
    /// # Errors
    /// The queue cannot be used.
    pub(crate) async fn of(
        &self,
        function: &FunctionKey,
    ) -> Result<Option<FunctionEvents>, QueueError> {
        self.queue.of(function).await
    }

    /// Removes the function's events that are not under way, and returns how many these were.
    ///
    /// # Errors
    /// The queue cannot be used.
    pub(crate) async fn purge(&self, function: &FunctionKey) -> Result<u64, QueueError> {
        self.queue.purge(function).await
    }

    /// The function's dead letters.
    ///
    /// # Errors
    /// The queue cannot be used.
    pub(crate) async fn dead_letters(
        &self,
        function: &FunctionKey,
    ) -> Result<DeadLetters, QueueError> {
        self.queue.dead_letters(function).await
    }

    /// Makes events of the function's dead letters again, and returns how many these were.
    ///
    /// # Errors
    /// The queue has no room, or cannot be used.
    pub(crate) async fn replay(&self, function: &FunctionKey) -> Result<u64, QueueError> {
        let now = self.now();
        let replayed = self.queue.replay(function, now).await?;
        if self.runner.owns(function) {
            let _ = self.news.send(News::Waits(function.clone(), now)).await;
        }
        Ok(replayed)
    }

    /// Removes the function's dead letters, and returns how many these were.
    ///
    /// # Errors
    /// The queue cannot be used.
    pub(crate) async fn purge_dead(&self, function: &FunctionKey) -> Result<u64, QueueError> {
        self.queue.purge_dead(function).await
    }

    pub(crate) fn runner(&self) -> &Runner {
        &self.runner
    }

    /// Cancelled when the gateway ends.
    pub(crate) fn stopped(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Begins no attempt any more.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
        self.attempts.close();
    }

    /// Returns when the attempts that had begun are settled.
    pub(crate) async fn settled(&self) {
        self.attempts.wait().await;
    }
}

impl Runner {
    pub(crate) fn owns(&self, function: &FunctionKey) -> bool {
        self.peers.as_ref().is_none_or(|peers| peers.owns(function))
    }

    /// A notice of each change of who owns what.
    pub(crate) fn changes(&self) -> BoxStream<'static, ()> {
        match &self.peers {
            Some(peers) => peers.changes(),
            None => stream::pending().boxed(),
        }
    }

    /// How many events of the function may be under way.
    pub(super) fn most(&self, function: &FunctionKey) -> usize {
        let FunctionKey { name, namespace } = function.clone();
        let entry = self.functions.get(&PoolId::latest(namespace, name));
        let reserved = entry.and_then(|entry| entry.deployment.spec.concurrency.reserved);
        reserved.map_or(self.concurrency, |reserved| reserved.get() as usize)
    }
}

/// Spreads attempts. It need not be secret.
pub(super) fn random(request_id: &str) -> u32 {
    RandomState::new().hash_one(request_id) as u32
}
