//! Dead letters: events that have failed, in a stream of their own.
//!
//! A dead letter has the sequence of its event in its subject, so an event that is buried twice is one dead letter. The stream
//! keeps the newest ones that it has room for.

use async_nats::jetstream::stream::RawMessageBuilder;
use pilotlight_core::events::retry::{EventTime, Progress};
use pilotlight_core::ids::FunctionKey;

use super::record;
use super::taken::TakenEvent;
use super::{EventOutcome, QueueError, QueuedEvent, Shared};
use crate::queue::DeadLetters;

impl Shared {
    /// Stores the event, which is still in its own stream, as a dead letter.
    pub(super) async fn bury(
        &self,
        event: &TakenEvent,
        outcome: EventOutcome,
    ) -> Result<(), QueueError> {
        let (prefix, namespace) = (&self.server.prefix, &event.function.namespace);
        let session = self.link().session().await?;
        let from = prefix.events_stream(namespace);
        let found = self.message(&session, &from, |ask| ask.sequence(event.sequence));
        let found = found.await?;
        // It was acknowledged already, or removed.
        let Some(mut dead) = found.and_then(|(_, text)| record::decode(&text).ok()) else {
            return Ok(());
        };
        dead.head.progress = event.progress;
        let text = |outcome: &EventOutcome| {
            let mut dead = dead.clone();
            dead.head.outcome = Some(outcome.clone());
            record::encode(&dead)
        };
        let stored = self.with_room(outcome, text, |text| {
            let subject = prefix.dead(&event.function, event.sequence);
            self.store_beside(namespace, prefix.dead_stream(namespace), subject, text)
        });
        stored.await.map(|_| ())
    }

    pub(super) async fn dead_letters(
        &self,
        function: &FunctionKey,
    ) -> Result<DeadLetters, QueueError> {
        let prefix = &self.server.prefix;
        let stream = prefix.dead_stream(&function.namespace);
        let subjects = prefix.dead_of(function);
        let count = self.server.count(&stream, &subjects).await?;
        if count == 0 {
            return Ok(DeadLetters::default());
        }
        let oldest = self.dead_letter_from(function, 0).await?;
        let outcome = oldest.and_then(|(_, event)| event?.head.outcome);
        Ok(DeadLetters {
            count,
            oldest: outcome.map(|outcome| outcome.at),
        })
    }

    pub(super) async fn replay(
        &self,
        function: &FunctionKey,
        now: EventTime,
    ) -> Result<u64, QueueError> {
        let stream = self.server.prefix.dead_stream(&function.namespace);
        let (mut replayed, mut from) = (0, 0);
        while let Some((sequence, event)) = self.dead_letter_from(function, from).await? {
            from = sequence + 1;
            // It stays: a later version may read it.
            let Some(mut event) = event else {
                continue;
            };
            (event.head.progress, event.head.outcome) = (Progress::new(now), None);
            // The server may still know the request id. If it fails from here on, the next replay is the same message.
            let id = format!("{}-replay-{sequence}", event.head.request_id);
            match self.store(&event, &id).await {
                Err(QueueError::Full(_)) if replayed > 0 => break,
                stored => stored?,
            }
            self.server.remove(&stream, sequence).await?;
            replayed += 1;
        }
        Ok(replayed)
    }

    pub(super) async fn purge_dead(&self, function: &FunctionKey) -> Result<u64, QueueError> {
        let prefix = &self.server.prefix;
        let stream = prefix.dead_stream(&function.namespace);
        self.server.purge(&stream, &prefix.dead_of(function)).await
    }

    /// The function's first dead letter from this sequence on; without the event, if this version cannot read it.
    async fn dead_letter_from(
        &self,
        function: &FunctionKey,
        sequence: u64,
    ) -> Result<Option<(u64, Option<QueuedEvent>)>, QueueError> {
        let prefix = &self.server.prefix;
        let stream = prefix.dead_stream(&function.namespace);
        let subjects = prefix.dead_of(function);
        let ask = |ask: RawMessageBuilder| match sequence {
            0 => ask.next_by_subject(subjects),
            from => ask.sequence(from).next_by_subject(subjects),
        };
        let session = self.link().session().await?;
        let found = self.message(&session, &stream, ask).await?;
        Ok(found.map(|(sequence, text)| (sequence, record::decode(&text).ok())))
    }
}
