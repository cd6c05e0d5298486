//! What this process has of the queue: the events that were taken, and when those are due that wait for their time.
//!
//! In memory alone. The server knows as well which events were taken, and gives them to somebody else when this process no
//! longer says that it has them. When an event is due, the server decides; what is here says when to ask.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use pilotlight_core::events::retry::{EventTime, Progress};
use pilotlight_core::ids::{FunctionKey, Namespace};

use crate::event::EventOutcome;
use crate::queue::Ticket;

/// How long after its time an event is still asked for: the server's clock may be behind this one.
const OVERDUE_LIMIT: Duration = Duration::from_secs(10);
/// The pause between two questions for an event that is overdue.
const OVERDUE_PAUSE: Duration = Duration::from_millis(100);

/// An event that somebody here has.
#[derive(Clone, Debug)]
pub(super) struct TakenEvent {
    pub(super) function: FunctionKey,
    pub(super) request_id: String,
    /// In the stream of its namespace.
    pub(super) sequence: u64,
    /// Where the server learns what becomes of it.
    pub(super) reply: Subject,
    pub(super) progress: Progress,
    pub(super) deliveries: u64,
    /// Its progress is stored beside it.
    pub(super) has_record: bool,
    /// How it has ended, if it has.
    pub(super) outcome: Option<Arc<EventOutcome>>,
    /// It was removed from the stream meanwhile.
    pub(super) is_purged: bool,
}

#[derive(Debug, Default)]
pub(super) struct Held {
    last_ticket: u64,
    taken: HashMap<u64, TakenEvent>,
    by_sequence: HashMap<(Namespace, u64), u64>,
    waiting: HashMap<FunctionKey, Waiting>,
}

/// The events of a function that wait for their time.
#[derive(Debug, Default)]
struct Waiting {
    order: BTreeSet<(EventTime, u64)>,
    due: HashMap<u64, EventTime>,
}

impl Held {
    /// Somebody has the event now. `None`: somebody has had it already, and goes on.
    pub(super) fn take(&mut self, event: TakenEvent) -> Option<Ticket> {
        self.no_longer_waits(&event.function, event.sequence);
        let key = (event.function.namespace.clone(), event.sequence);
        if let Some(known) = self.by_sequence.get(&key) {
            if let Some(known) = self.taken.get_mut(known) {
                known.reply = event.reply;
                known.deliveries = event.deliveries;
            }
            return None;
        }
        self.last_ticket += 1;
        self.by_sequence.insert(key, self.last_ticket);
        self.taken.insert(self.last_ticket, event);
        Some(Ticket(self.last_ticket))
    }

    pub(super) fn get(&self, ticket: Ticket) -> Option<TakenEvent> {
        self.taken.get(&ticket.0).cloned()
    }

    /// The event has ended, and this is stored beside it.
    pub(super) fn ended(&mut self, ticket: Ticket, progress: Progress, outcome: EventOutcome) {
        if let Some(event) = self.taken.get_mut(&ticket.0) {
            event.progress = progress;
            event.outcome = Some(Arc::new(outcome));
            event.has_record = true;
        }
    }

    /// Nobody has it any more. `due`: when it can be tried.
    pub(super) fn settled(&mut self, ticket: Ticket, due: Option<EventTime>) {
        let Some(event) = self.taken.remove(&ticket.0) else {
            return;
        };
        let key = (event.function.namespace.clone(), event.sequence);
        self.by_sequence.remove(&key);
        if let Some(due) = due
            && !event.is_purged
        {
            self.waits(event.function, event.sequence, due);
        }
    }

    /// An event that nobody has waits for its time.
    pub(super) fn waits(&mut self, function: FunctionKey, sequence: u64, due: EventTime) {
        self.no_longer_waits(&function, sequence);
        let waiting = self.waiting.entry(function).or_default();
        waiting.order.insert((due, sequence));
        waiting.due.insert(sequence, due);
    }

    /// When to ask the server again for an event of the function that waits. Those that have not come for long are forgotten:
    /// somebody else has them, or they are gone.
    pub(super) fn next_due(&mut self, function: &FunctionKey, now: EventTime) -> Option<EventTime> {
        let waiting = self.waiting.get_mut(function)?;
        while let Some(&(due, sequence)) = waiting.order.first() {
            if now < due {
                return Some(due);
            }
            if now.since(due) < OVERDUE_LIMIT {
                return Some(now.after(OVERDUE_PAUSE));
            }
            waiting.order.pop_first();
            waiting.due.remove(&sequence);
        }
        self.waiting.remove(function);
        None
    }

    /// All events of the function were removed. Returns how many of them somebody has here.
    pub(super) fn purge(&mut self, function: &FunctionKey) -> u64 {
        self.waiting.remove(function);
        let mut held = 0;
        for event in self.taken.values_mut() {
            if event.function == *function && !event.is_purged {
                event.is_purged = true;
                held += 1;
            }
        }
        held
    }

    pub(super) fn count(&self, function: &FunctionKey) -> u64 {
        let of_it = self
            .taken
            .values()
            .filter(|event| event.function == *function && !event.is_purged);
        of_it.count() as u64
    }

    /// Where the server learns that the taken events are still had.
    pub(super) fn replies(&self) -> Vec<Subject> {
        let taken = self.taken.values();
        taken.map(|event| event.reply.clone()).collect()
    }

    fn no_longer_waits(&mut self, function: &FunctionKey, sequence: u64) {
        let Some(waiting) = self.waiting.get_mut(function) else {
            return;
        };
        if let Some(due) = waiting.due.remove(&sequence) {
            waiting.order.remove(&(due, sequence));
        }
        if waiting.order.is_empty() {
            self.waiting.remove(function);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: EventTime = EventTime(1_800_000_000_000);

    fn function() -> FunctionKey {
        "local/a".parse().expect("a key")
    }

    fn event(sequence: u64, reply: &str) -> TakenEvent {
        TakenEvent {
            function: function(),
            request_id: format!("r{sequence}"),
            sequence,
            reply: reply.into(),
            progress: Progress::new(NOW),
            deliveries: 1,
            has_record: false,
            outcome: None,
            is_purged: false,
        }
    }

    fn later(seconds: u64) -> EventTime {
        NOW.after(Duration::from_secs(seconds))
    }

    #[test]
    fn an_event_that_comes_again_while_somebody_has_it_is_given_to_nobody_else() {
        let mut held = Held::default();
        let ticket = held.take(event(7, "first")).expect("it is new");
        assert_eq!(held.take(event(7, "second")), None);
        let known = held.get(ticket).expect("it is held");
        assert_eq!(&*known.reply, "second", "the server listens there now");
        held.settled(ticket, None);
        assert!(held.take(event(7, "third")).is_some());
    }

    #[test]
    fn an_event_is_asked_for_from_its_time_on_until_it_has_come() {
        let mut held = Held::default();
        for (sequence, due) in [(1, 20), (2, 10)] {
            let ticket = held.take(event(sequence, "")).expect("it is new");
            held.settled(ticket, Some(later(due)));
        }
        assert_eq!(held.next_due(&function(), NOW), Some(later(10)));
        let again = later(11).after(OVERDUE_PAUSE);
        assert_eq!(held.next_due(&function(), later(11)), Some(again));
        held.take(event(2, ""));
        assert_eq!(held.next_due(&function(), later(11)), Some(later(20)));
        // Another process has it.
        assert_eq!(held.next_due(&function(), later(30)), None);
        assert!(held.waiting.is_empty());
    }

    #[test]
    fn what_is_purged_waits_no_longer_and_is_not_waited_for() {
        let mut held = Held::default();
        let ticket = held.take(event(1, "")).expect("it is new");
        held.waits(function(), 2, later(10));
        assert_eq!(held.purge(&function()), 1);
        assert_eq!(held.purge(&function()), 0, "it is counted once");
        held.settled(ticket, Some(later(5)));
        assert_eq!(held.next_due(&function(), NOW), None);
    }
}
