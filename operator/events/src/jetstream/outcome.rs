//! How events have ended, stored beside them, and in dead letters.
//!
//! An answer that there is no room for is left out: the event itself is never lost for it.

use bytes::Bytes;
use pilotlight_core::events::retry::Progress;

use super::link::{MESSAGE_BYTES, locked};
use super::record::StoredProgress;
use super::{EventOutcome, QueueError, Shared, Ticket};

impl Shared {
    pub(super) async fn end(
        &self,
        ticket: Ticket,
        progress: Progress,
        outcome: EventOutcome,
    ) -> Result<(), QueueError> {
        let Some(event) = locked(&self.held)
            .get(ticket)
            .filter(|event| !event.is_purged)
        else {
            return Ok(());
        };
        let record = |outcome: &EventOutcome| {
            let (id, deliveries) = (&event.request_id, event.deliveries);
            StoredProgress::ended(id, progress, deliveries, outcome.clone()).encode()
        };
        let stored = self.with_room(outcome, record, |text| self.store_progress(&event, text));
        let outcome = stored.await?;
        locked(&self.held).ended(ticket, progress, outcome);
        Ok(())
    }

    /// Stores what `text` makes of the outcome. Where there is no room for that, the response is left out. Returns the outcome
    /// that was stored.
    pub(super) async fn with_room<Stored>(
        &self,
        mut outcome: EventOutcome,
        text: impl Fn(&EventOutcome) -> Bytes + Send,
        store: impl Fn(Bytes) -> Stored + Send,
    ) -> Result<EventOutcome, QueueError>
    where
        Stored: Future<Output = Result<(), QueueError>> + Send,
    {
        loop {
            let record = text(&outcome);
            let stored = match record.len() > MESSAGE_BYTES {
                true => Err(QueueError::Full("it is too long".to_owned())),
                false => store(record).await,
            };
            match stored {
                Err(QueueError::Full(why)) if outcome.response.is_some() => {
                    tracing::warn!(why, "the answer of an event that has ended is not kept");
                    outcome.response = None;
                }
                stored => return stored.map(|()| outcome),
            }
        }
    }
}
