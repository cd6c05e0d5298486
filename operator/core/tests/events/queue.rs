//! The durable queue of the simulation: what JetStream and SQLite promise, and no more.
//!
//! It outlives all gateways. Whoever has taken an event has it until it is settled, or until [`ACK_WAIT`] has passed without a
//! sign of life.

use std::collections::BTreeMap;
use std::time::Duration;

use pilotlight_core::events::retry::{EventEnd, EventTime, Progress};

pub(crate) const ACK_WAIT: Duration = Duration::from_secs(30);

/// An event of the queue.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) function: usize,
    pub(crate) progress: Progress,
    /// How and when it ended, while its record waits for the destination.
    pub(crate) outcome: Option<(EventEnd, EventTime)>,
    pub(crate) due: EventTime,
    /// Who has it, by the number of its life, and since when nobody has said so.
    pub(crate) taken: Option<(u64, Option<EventTime>)>,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) is_away: bool,
    pub(crate) events: BTreeMap<u64, Stored>,
}

impl Queue {
    /// Events of the function that can be tried now and that nobody has, and when the next one can be.
    pub(crate) fn take(
        &mut self,
        function: usize,
        now: EventTime,
        count: usize,
        life: u64,
    ) -> (Vec<u64>, Option<EventTime>) {
        let mut taken = Vec::new();
        for (id, event) in &mut self.events {
            let is_free = event.function == function && event.taken.is_none();
            if is_free && event.due <= now && taken.len() < count {
                event.taken = Some((life, None));
                taken.push(*id);
            }
        }
        (taken, self.due(function))
    }

    /// When an event of the function that nobody has can be tried.
    pub(crate) fn due(&self, function: usize) -> Option<EventTime> {
        let free = self.events.values();
        let free = free.filter(|event| event.function == function && event.taken.is_none());
        free.map(|event| event.due).min()
    }

    /// The gateway of this life gives no signs any more.
    pub(crate) fn is_silent(&mut self, life: u64, now: EventTime) {
        for event in self.events.values_mut() {
            if let Some((owner, since)) = &mut event.taken
                && *owner == life
            {
                *since = Some(now);
            }
        }
    }

    /// Frees what nobody has shown to have for long, and returns the functions of it with the events.
    pub(crate) fn redeliver(&mut self, now: EventTime) -> Vec<(usize, u64)> {
        let mut freed = Vec::new();
        for (id, event) in &mut self.events {
            if let Some((_, Some(since))) = event.taken
                && now >= since.after(ACK_WAIT)
            {
                event.taken = None;
                freed.push((event.function, *id));
            }
        }
        freed
    }
}
