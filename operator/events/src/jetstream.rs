//! A queue in NATS JetStream, for clusters.
//!
//! ```text
//! accept ─► stream of the namespace, a subject for each function ─► ring: the function's name, to all gateways
//! take   ◄─ consumer of the function: taken until it is settled, or until nobody says any more that they have it
//! end    ─► its outcome is stored beside it
//! settle ─► gone: acknowledged │ again: its progress is stored beside it, and the server gives it out at its time
//!           dead: stored in the stream of dead letters, and acknowledged (dead)
//! ```
//!
//! An event is one message from its 202 to its end. It is never published a second time, so that a crash in between can neither
//! lose nor double it, and the stream can refuse new events when it is full. JetStream's scheduled messages would need both: a
//! stream with them cannot refuse, and drops its oldest messages instead. An event that waits for its time is one that was
//! given back with a delay. Attempts that failed are counted in a record of their own, which is durable before the event is
//! given back. Attempts that did not begin are counted by the server alone.
//!
//! The server must sync each message before it acknowledges it (`sync_interval: always`). No client can see whether it does.

mod config;
mod credentials;
mod dead;
mod errors;
mod link;
mod names;
mod outcome;
mod pull;
pub mod record;
mod rings;
#[cfg(feature = "schedule")]
mod schedules;
mod server;
mod taken;

use std::sync::{Arc, Mutex};

use async_nats::Request;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{RawMessageBuilder, RawMessageErrorKind};
use async_nats::jetstream::{AckKind, ErrorCode};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::BoxStream;
use pilotlight_core::events::retry::{EventTime, Progress};
use pilotlight_core::ids::{FunctionKey, Namespace};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use self::errors::{code, is_full};
use self::link::{Link, Session, locked};
use self::pull::{Delivery, PullError, pull};
use self::record::{StoredProgress, progress_now};
use self::rings::rings;
use self::server::Server;
use self::taken::{Held, TakenEvent};
use crate::event::{EventOutcome, QueuedEvent};
use crate::queue::{
    DeadLetters, EventQueue, FunctionEvents, QueueError, Ring, Settled, Taken, Ticket,
};

pub use self::config::{ACK_WAIT, JetStreamConfig, JetStreamTiming, REQUEST_LIMIT};
pub use self::credentials::NatsCredentials;
pub use self::link::OpenJetStreamError;
pub use self::names::{InvalidPrefix, NamePrefix};

/// What the events may take, in KiB, that are sent to the server at the same time.
const SENDING: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub struct JetStreamQueue {
    shared: Arc<Shared>,
    /// Follow the connection, and say that taken events are still had. They end with the queue, and somebody else gets the
    /// events.
    tasks: [AbortHandle; 2],
}

#[derive(Debug)]
struct Shared {
    server: Server,
    held: Mutex<Held>,
    sending: Semaphore,
    timing: JetStreamTiming,
    bytes: u64,
    clock: fn() -> EventTime,
}

impl JetStreamQueue {
    /// Returns at once, whether a server is there or not. It must be called in a tokio runtime.
    ///
    /// # Errors
    /// If no server can be reached with this configuration.
    pub fn open(config: JetStreamConfig) -> Result<Self, OpenJetStreamError> {
        let (link, follower) = Link::open(config.clone())?;
        let shared = Arc::new(Shared {
            server: Server::new(link, &config),
            held: Mutex::default(),
            sending: Semaphore::new(SENDING),
            timing: config.timing,
            bytes: config.bytes,
            clock: config.clock,
        });
        let signs = tokio::spawn(give_signs(shared.clone())).abort_handle();
        Ok(JetStreamQueue {
            shared,
            tasks: [follower, signs],
        })
    }
}

impl Drop for JetStreamQueue {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl EventQueue for JetStreamQueue {
    fn accept(&self, event: QueuedEvent) -> BoxFuture<'_, Result<(), QueueError>> {
        self.shared.accept(event).boxed()
    }

    fn take<'a>(
        &'a self,
        function: &'a FunctionKey,
        now: EventTime,
        count: usize,
    ) -> BoxFuture<'a, Result<Taken, QueueError>> {
        self.shared.take(function, now, count).boxed()
    }

    fn end(
        &self,
        ticket: Ticket,
        progress: Progress,
        outcome: EventOutcome,
    ) -> BoxFuture<'_, Result<(), QueueError>> {
        self.shared.end(ticket, progress, outcome).boxed()
    }

    fn settle(&self, ticket: Ticket, settled: Settled) -> BoxFuture<'_, Result<(), QueueError>> {
        self.shared.settle(ticket, settled).boxed()
    }

    fn waiting(&self) -> BoxFuture<'_, Result<Vec<FunctionEvents>, QueueError>> {
        self.shared.waiting().boxed()
    }

    fn of<'a>(
        &'a self,
        function: &'a FunctionKey,
    ) -> BoxFuture<'a, Result<Option<FunctionEvents>, QueueError>> {
        self.shared.of(function).boxed()
    }

    fn purge<'a>(&'a self, function: &'a FunctionKey) -> BoxFuture<'a, Result<u64, QueueError>> {
        self.shared.purge(function).boxed()
    }

    fn dead_letters<'a>(
        &'a self,
        function: &'a FunctionKey,
    ) -> BoxFuture<'a, Result<DeadLetters, QueueError>> {
        self.shared.dead_letters(function).boxed()
    }

    fn replay<'a>(
        &'a self,
        function: &'a FunctionKey,
        now: EventTime,
    ) -> BoxFuture<'a, Result<u64, QueueError>> {
        self.shared.replay(function, now).boxed()
    }

    fn purge_dead<'a>(
        &'a self,
        function: &'a FunctionKey,
    ) -> BoxFuture<'a, Result<u64, QueueError>> {
        self.shared.purge_dead(function).boxed()
    }

    fn rings(&self) -> BoxStream<'static, Ring> {
        let Server { link, prefix, .. } = &self.shared.server;
        rings(link.clone(), prefix.clone())
    }
}

/// Says of all taken events that somebody has them, in time.
async fn give_signs(shared: Arc<Shared>) {
    let link = &shared.server.link;
    let mut missed = link.missed.clone();
    loop {
        // At once after a time without connection, since that may have been long.
        tokio::select! {
            () = tokio::time::sleep(shared.timing.ack_wait / 3) => {}
            changed = missed.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
        let Some(session) = link.current() else {
            continue;
        };
        let replies = locked(&shared.held).replies();
        for reply in replies {
            // Without it the event comes again, which is allowed.
            let sign = AckKind::Progress.into();
            let _ = session.client.publish(reply, sign).await;
        }
    }
}

impl Shared {
    fn link(&self) -> &Link {
        &self.server.link
    }

    async fn accept(&self, event: QueuedEvent) -> Result<(), QueueError> {
        self.store(&event, &event.head.request_id).await
    }

    /// `id`: the server stores one message with it within the time for which it remembers ids.
    async fn store(&self, event: &QueuedEvent, id: &str) -> Result<(), QueueError> {
        let text = record::encode(event);
        let kibibytes = (text.len() / 1024 + 1).min(SENDING) as u32;
        let limit = self.timing.request;
        let accepted = async {
            // Held until the answer, so that what is under way is bounded.
            let _place = self.sending.acquire_many(kibibytes).await;
            let function = &event.head.target.function;
            self.server.need_streams(&function.namespace).await?;
            let session = self.link().session().await?;
            let mut stored = self.publish(&session, function, id, text.clone()).await;
            if stored.as_ref().is_err_and(is_stream_lost) {
                self.server.lost_streams(&function.namespace).await;
                self.server.need_streams(&function.namespace).await?;
                stored = self.publish(&session, function, id, text).await;
            }
            stored.map_err(|error| self.not_stored(&error))
        };
        // A message that is under way may be stored all the same.
        tokio::time::timeout(limit + limit / 2, accepted)
            .await
            .unwrap_or_else(|_| {
                Err(QueueError::Unavailable(format!(
                    "the NATS server has not stored the event within {limit:?}"
                )))
            })
    }

    async fn publish(
        &self,
        session: &Session,
        function: &FunctionKey,
        id: &str,
        text: Bytes,
    ) -> Result<(), PublishError> {
        let prefix = &self.server.prefix;
        let message = PublishMessage::build()
            .payload(text)
            .message_id(id)
            .expected_stream(prefix.events_stream(&function.namespace));
        let subject = prefix.events(function);
        let sent = session.jetstream.send_publish(subject, message).await?;
        // A duplicate is an event that the stream has.
        sent.await.map(|_| ())
    }

    fn not_stored(&self, error: &PublishError) -> QueueError {
        match code(error) {
            Some(code) if is_full(code) => QueueError::Full(format!(
                "the events of a namespace have {} bytes at most: those that wait have to end or be removed, or the limit be \
                 raised ({})",
                self.bytes,
                errors::words(error)
            )),
            _ => self.link().unavailable("the event was not stored", error),
        }
    }

    async fn take(
        &self,
        function: &FunctionKey,
        now: EventTime,
        count: usize,
    ) -> Result<Taken, QueueError> {
        let session = self.link().session().await?;
        let deliveries = self.pull(&session, function, count).await?;
        let is_full = deliveries.len() >= count;
        // Also of those that come for the first time: a server that was killed has lost its count.
        let records = deliveries
            .iter()
            .map(|delivery| self.stored_progress(&session, function, delivery));
        let records = join_all(records).await;
        let mut early = Vec::new();
        let mut taken = Taken::default();
        // From here on without a pause: whoever has asked has either gone, or gets them.
        let mut held = locked(&self.held);
        for (delivery, record) in deliveries.into_iter().zip(records) {
            let Delivery {
                mut event,
                sequence,
                deliveries,
                reply,
            } = delivery;
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    // It comes again when nobody says that they have it.
                    tracing::warn!(request_id = event.head.request_id, %error, "an event's progress cannot be read");
                    continue;
                }
            };
            if let Some(record) = record.as_ref().filter(|record| now < record.due) {
                held.waits(function.clone(), sequence, record.due);
                early.push((reply, record.due.since(now)));
                continue;
            }
            let progress = progress_now(&event.head.progress, record.as_ref(), deliveries);
            event.head.progress = progress;
            let has_record = record.is_some();
            event.head.outcome = record.and_then(|record| record.outcome);
            let ticket = held.take(TakenEvent {
                function: function.clone(),
                request_id: event.head.request_id.clone(),
                sequence,
                reply,
                progress,
                deliveries,
                has_record,
                outcome: event.head.outcome.clone().map(Arc::new),
                is_purged: false,
            });
            if let Some(ticket) = ticket {
                taken.events.push((ticket, event));
            }
        }
        taken.due = match is_full {
            true => Some(now),
            false => held.next_due(function, now),
        };
        drop(held);
        if !early.is_empty() {
            let client = session.client.clone();
            // Not waited for, for the same reason. Without it they come again, and are given back again.
            tokio::spawn(async move {
                for (reply, pause) in early {
                    let again = AckKind::Nak(Some(pause));
                    let _ = client.publish(reply, again.into()).await;
                }
            });
        }
        Ok(taken)
    }

    /// What the consumer has to give out now, `count` at most.
    async fn pull(
        &self,
        session: &Session,
        function: &FunctionKey,
        count: usize,
    ) -> Result<Vec<Delivery>, QueueError> {
        let limit = self.timing.request;
        self.server.need_consumer(function).await?;
        match pull(&self.server, session, function, count, limit).await {
            Err(PullError::NoConsumer) => {
                self.server.forget_consumer(function);
                self.server.need_consumer(function).await?;
                pull(&self.server, session, function, count, limit).await
            }
            pulled => pulled,
        }
        .map_err(|error| match error {
            PullError::NoConsumer => {
                QueueError::Unavailable("the consumer is gone again".to_owned())
            }
            PullError::Failed(error) => error,
        })
    }

    async fn stored_progress(
        &self,
        session: &Session,
        function: &FunctionKey,
        delivery: &Delivery,
    ) -> Result<Option<StoredProgress>, QueueError> {
        let prefix = &self.server.prefix;
        let stream = prefix.progress_stream(&function.namespace);
        let subject = prefix.progress(function, delivery.sequence);
        let found = self.message(session, &stream, |ask| ask.last_by_subject(subject));
        let request_id = &delivery.event.head.request_id;
        let found = found.await?;
        Ok(found.and_then(|(_, text)| StoredProgress::decode(&text, request_id)))
    }

    /// The message that is asked for in a stream, with its sequence. `None`: there is no such message.
    async fn message(
        &self,
        session: &Session,
        stream: &str,
        ask: impl FnOnce(RawMessageBuilder) -> RawMessageBuilder + Send,
    ) -> Result<Option<(u64, Bytes)>, QueueError> {
        let failed = |error: &dyn std::error::Error| self.link().unavailable(stream, error);
        let messages = session.jetstream.get_stream_no_info(stream).await;
        let messages = messages.map_err(|error| failed(&error))?;
        match ask(messages.raw_message_builder()).send().await {
            Ok(found) => Ok(Some((found.sequence, found.payload))),
            Err(error) => match error.kind() {
                RawMessageErrorKind::NoMessageFound => Ok(None),
                RawMessageErrorKind::JetStream(refused)
                    if refused.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    Ok(None)
                }
                _ => Err(failed(&error)),
            },
        }
    }

    async fn settle(&self, ticket: Ticket, settled: Settled) -> Result<(), QueueError> {
        let Some(event) = locked(&self.held).get(ticket) else {
            return Ok(());
        };
        let due = match settled {
            Settled::Gone => {
                self.acknowledge(&event).await?;
                None
            }
            // Its message is gone, and so it does not come again.
            _ if event.is_purged => None,
            Settled::Dead(outcome) => {
                self.bury(&event, outcome).await?;
                self.acknowledge(&event).await?;
                None
            }
            Settled::Again { progress, due } => {
                self.give_back_later(&event, progress, due).await?;
                Some(due)
            }
            Settled::Untried => {
                // Without an answer it comes again when nobody says any more that they have it.
                let _ = self.tell(&event, AckKind::Nak(None)).await;
                Some((self.clock)())
            }
        };
        locked(&self.held).settled(ticket, due);
        Ok(())
    }

    /// The queue has nothing more to do with the event.
    async fn acknowledge(&self, event: &TakenEvent) -> Result<(), QueueError> {
        let FunctionKey { namespace, .. } = &event.function;
        let prefix = &self.server.prefix;
        if self.tell(event, AckKind::Ack).await.is_err() {
            // Its consumer is another one, which knows nothing of this delivery.
            let stream = prefix.events_stream(namespace);
            self.server.remove(&stream, event.sequence).await?;
        }
        if event.has_record {
            let (stream, subject) = (
                prefix.progress_stream(namespace),
                prefix.progress(&event.function, event.sequence),
            );
            // The server removes what is left there after a day.
            if let Err(error) = self.server.purge(&stream, &subject).await {
                tracing::debug!(subject, %error, "an event's progress is left");
            }
        }
        Ok(())
    }

    async fn give_back_later(
        &self,
        event: &TakenEvent,
        progress: Progress,
        due: EventTime,
    ) -> Result<(), QueueError> {
        if progress.failures != event.progress.failures {
            let stored = StoredProgress {
                request_id: event.request_id.clone(),
                progress,
                due,
                deliveries: event.deliveries,
                outcome: event.outcome.as_deref().cloned(),
            };
            self.store_progress(event, stored.encode()).await?;
        }
        let pause = Some(due.since((self.clock)())).filter(|pause| !pause.is_zero());
        match self.tell(event, AckKind::Nak(pause)).await {
            Ok(()) => Ok(()),
            // A new consumer gives it out, and its progress says when.
            Err(TellError::NoConsumer) => Ok(()),
            Err(TellError::Failed(error)) => Err(error),
        }
    }

    async fn store_progress(&self, event: &TakenEvent, text: Bytes) -> Result<(), QueueError> {
        let (prefix, namespace) = (&self.server.prefix, &event.function.namespace);
        let stream = prefix.progress_stream(namespace);
        let subject = prefix.progress(&event.function, event.sequence);
        self.store_beside(namespace, stream, subject, text).await
    }

    /// Stores a message that replaces the one that has this subject.
    async fn store_beside(
        &self,
        namespace: &Namespace,
        stream: String,
        subject: String,
        text: Bytes,
    ) -> Result<(), QueueError> {
        self.server.need_streams(namespace).await?;
        let session = self.link().session().await?;
        let what = stream.clone();
        let message = PublishMessage::build()
            .payload(text)
            .expected_stream(stream);
        let stored = async {
            let sent = session.jetstream.send_publish(subject, message).await?;
            sent.await.map(|_| ())
        };
        let stored: Result<(), PublishError> = stored.await;
        if stored.as_ref().is_err_and(is_stream_lost) {
            self.server.forget_streams(namespace).await;
        }
        stored.map_err(|error| match code(&error) {
            Some(code) if is_full(code) => {
                QueueError::Full(format!("the stream {what}: {}", errors::words(&error)))
            }
            _ => self.link().unavailable(&what, &error),
        })
    }

    /// Says what becomes of the event, and returns when the server knows.
    async fn tell(&self, event: &TakenEvent, what: AckKind) -> Result<(), TellError> {
        let session = self.link().session().await.map_err(TellError::Failed)?;
        let request = Request::new().payload(what.into());
        let told = session.client.send_request(event.reply.clone(), request);
        match told.await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == async_nats::RequestErrorKind::NoResponders => {
                Err(TellError::NoConsumer)
            }
            Err(error) => {
                let what = "what became of an event";
                Err(TellError::Failed(self.link().unavailable(what, &error)))
            }
        }
    }

    async fn waiting(&self) -> Result<Vec<FunctionEvents>, QueueError> {
        let counts = self.server.counts().await?;
        let now = (self.clock)();
        let held = locked(&self.held);
        let waiting = counts.into_iter().map(|(function, count)| {
            let here = held.count(&function);
            FunctionEvents {
                // Of the others the server says when they are asked for.
                due: (here < count).then_some(now),
                function,
                count,
                bytes: None,
                oldest: None,
            }
        });
        Ok(waiting.collect())
    }

    async fn of(&self, function: &FunctionKey) -> Result<Option<FunctionEvents>, QueueError> {
        let prefix = &self.server.prefix;
        let (stream, subject) = (
            prefix.events_stream(&function.namespace),
            prefix.events(function),
        );
        let count = self.server.count(&stream, &subject).await?;
        if count == 0 {
            return Ok(None);
        }
        let oldest = self.oldest(function).await?;
        let now = (self.clock)();
        let mut held = locked(&self.held);
        let here = held.count(function);
        Ok(Some(FunctionEvents {
            function: function.clone(),
            count,
            bytes: None,
            oldest,
            due: match here < count {
                true => held.next_due(function, now).or(Some(now)),
                false => None,
            },
        }))
    }

    /// Events of a function are in the order in which they were stored.
    async fn oldest(&self, function: &FunctionKey) -> Result<Option<EventTime>, QueueError> {
        let prefix = &self.server.prefix;
        let stream = prefix.events_stream(&function.namespace);
        let subject = prefix.events(function);
        let session = self.link().session().await?;
        let first = self.message(&session, &stream, |ask| ask.next_by_subject(subject));
        let event = first
            .await?
            .and_then(|(_, text)| record::decode(&text).ok());
        Ok(event.map(|event| event.head.progress.accepted))
    }

    async fn purge(&self, function: &FunctionKey) -> Result<u64, QueueError> {
        let prefix = &self.server.prefix;
        let (events, progress) = (
            prefix.events_stream(&function.namespace),
            prefix.progress_stream(&function.namespace),
        );
        let purged = self.server.purge(&events, &prefix.events(function)).await?;
        let held = locked(&self.held).purge(function);
        self.server
            .purge(&progress, &prefix.progress_of(function))
            .await?;
        Ok(purged.saturating_sub(held))
    }
}

fn is_stream_lost(error: &PublishError) -> bool {
    error.kind() == PublishErrorKind::StreamNotFound
}

/// The server does not know what became of an event.
enum TellError {
    NoConsumer,
    Failed(QueueError),
}
