//! What every durable queue of events does. Others depend on this alone.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use pilotlight_core::events::retry::{EventTime, Progress};
use pilotlight_core::ids::FunctionKey;
use thiserror::Error;

use crate::event::{EventOutcome, QueuedEvent};

/// How long a dead letter is kept.
pub const DEAD_LETTER_AGE: Duration = Duration::from_secs(14 * 86_400);
/// The part of a queue's bound that dead letters may take besides: one over this.
pub(crate) const DEAD_LETTER_PART: u64 = 8;

/// For how long a queue knows the request ids of the events that it has accepted, those that have ended among them.
pub const DUPLICATE_WINDOW: Duration = Duration::from_secs(300);

/// A queue from which no event is lost once it was accepted. An event is given out again only if whoever took it ended
/// without settling it: at least once. The order of events is not promised.
pub trait EventQueue: Debug + Send + Sync {
    /// Returns when the event is durable: it survives the end of the process and of the machine. An event with the request id
    /// of one that was accepted within [`DUPLICATE_WINDOW`] is dropped, also if that one has ended.
    fn accept(&self, event: QueuedEvent) -> BoxFuture<'_, Result<(), QueueError>>;

    /// The function's events that can be tried now, those that have waited longest first, `count` at most. They are given
    /// to nobody else until they are settled.
    fn take<'a>(
        &'a self,
        function: &'a FunctionKey,
        now: EventTime,
        count: usize,
    ) -> BoxFuture<'a, Result<Taken, QueueError>>;

    /// The event has ended, and stays taken until it is settled. From now on it comes with its outcome, and without the
    /// response if the queue has no room for that. `progress`: that of its deliveries.
    fn end(
        &self,
        ticket: Ticket,
        progress: Progress,
        outcome: EventOutcome,
    ) -> BoxFuture<'_, Result<(), QueueError>>;

    /// An attempt has ended. If this fails, the event is still taken, and can be settled again.
    fn settle(&self, ticket: Ticket, settled: Settled) -> BoxFuture<'_, Result<(), QueueError>>;

    /// All functions with events.
    fn waiting(&self) -> BoxFuture<'_, Result<Vec<FunctionEvents>, QueueError>>;

    /// The events of one function, with more about them than [`EventQueue::waiting`] may say. `None`: it has none.
    fn of<'a>(
        &'a self,
        function: &'a FunctionKey,
    ) -> BoxFuture<'a, Result<Option<FunctionEvents>, QueueError>> {
        let of_it = async move {
            let waiting = self.waiting().await?;
            let found = waiting
                .into_iter()
                .find(|events| events.function == *function);
            Ok(found)
        };
        of_it.boxed()
    }

    /// What others have put into the queue, as it comes. A ring may come twice or be missed, so [`Ring::Any`] comes from time
    /// to time as well, and first of all. A queue that nobody else uses never rings.
    fn rings(&self) -> BoxStream<'static, Ring> {
        stream::pending().boxed()
    }

    /// Removes the function's events that are not taken, and returns how many these were. Those that are taken are not tried
    /// again.
    fn purge<'a>(&'a self, function: &'a FunctionKey) -> BoxFuture<'a, Result<u64, QueueError>>;

    /// The function's dead letters. They are kept for [`DEAD_LETTER_AGE`], the newest ones if there is no room for all.
    fn dead_letters<'a>(
        &'a self,
        function: &'a FunctionKey,
    ) -> BoxFuture<'a, Result<DeadLetters, QueueError>>;

    /// Makes events of the function's dead letters, as if they had been accepted at `now` with the same request ids, and
    /// returns how many these were: fewer than there are if the queue is full.
    fn replay<'a>(
        &'a self,
        function: &'a FunctionKey,
        now: EventTime,
    ) -> BoxFuture<'a, Result<u64, QueueError>>;

    /// Removes the function's dead letters, and returns how many these were.
    fn purge_dead<'a>(
        &'a self,
        function: &'a FunctionKey,
    ) -> BoxFuture<'a, Result<u64, QueueError>>;
}

/// Names an event that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// Events that can be tried now.
#[derive(Debug, Default, PartialEq)]
pub struct Taken {
    pub events: Vec<(Ticket, QueuedEvent)>,
    /// When to take again: the first of the function's other events can be tried then, as far as the queue knows. `None`: there
    /// is no other, or the queue will ring.
    pub due: Option<EventTime>,
}

/// Something was put into a queue that several processes use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ring {
    /// An event of this function.
    Events(FunctionKey),
    /// Any function may have events: look at [`EventQueue::waiting`].
    Any,
}

/// What becomes of an event after an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Settled {
    /// It has ended.
    Gone,
    /// It has ended without success, and is kept as a dead letter.
    Dead(EventOutcome),
    /// It is tried again at this time. Its progress differs by the attempt that has ended.
    Again { progress: Progress, due: EventTime },
    /// Nothing was tried, and somebody else may take it at once.
    Untried,
}

/// The events of one function, the taken ones among them. `None` is what the queue does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionEvents {
    pub function: FunctionKey,
    pub count: u64,
    pub bytes: Option<u64>,
    /// When the oldest one was accepted.
    pub oldest: Option<EventTime>,
    /// When the first one that is not taken can be tried, or should be asked for. `None`: all are taken.
    pub due: Option<EventTime>,
}

/// The dead letters of one function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadLetters {
    pub count: u64,
    /// When the oldest one ended.
    pub oldest: Option<EventTime>,
}

/// The queue cannot do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QueueError {
    /// There is no room for this event.
    #[error("the event queue is full: {0}")]
    Full(String),
    /// It may work later.
    #[error("the event queue cannot be used: {0}")]
    Unavailable(String),
}
