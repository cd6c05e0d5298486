//! The checks that each queue must pass.
//!
//! A queue's own tests call them with an empty queue. None knows which queue it is, but how it passes time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use pilotlight_core::events::retry::{EventEnd, EventTime, Progress};
use pilotlight_core::ids::{FunctionKey, PoolId};

use crate::event::{EventHead, EventOutcome, EventOverrides, EventResponse, QueuedEvent};
use crate::queue::{DeadLetters, EventQueue, Settled, Ticket};
#[cfg(feature = "schedule")]
use crate::schedule::firing::ScheduleRecord;
#[cfg(feature = "schedule")]
use crate::schedule::records::{ScheduleId, ScheduleRecords};

/// For how many seconds a check waits for what must happen.
const PATIENCE: u64 = 20;
/// Milliseconds between two looks.
const LOOK_PAUSE: u64 = 20;
/// What a pause between attempts lasts, in seconds, by the time of whoever asks and by the time of day.
const PAUSES: (u64, u64) = (60, 2);

/// Whose time a queue goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestTime {
    /// That of whoever asks, so minutes pass at once.
    Told,
    /// The time of day.
    Real,
}

impl TestTime {
    pub fn now(self) -> EventTime {
        match self {
            TestTime::Told => EventTime(1_800_000_000_000),
            TestTime::Real => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                EventTime(since.expect("it is later than 1970").as_millis() as u64)
            }
        }
    }

    /// What a pause between attempts lasts.
    fn pause(self) -> Duration {
        let (told, real) = PAUSES;
        Duration::from_secs(match self {
            TestTime::Told => told,
            TestTime::Real => real,
        })
    }

    /// Returns once it is this time.
    async fn reach(self, time: EventTime) -> EventTime {
        if self == TestTime::Real {
            tokio::time::sleep(time.since(self.now())).await;
        }
        time
    }
}

fn function(name: &str) -> FunctionKey {
    format!("local/{name}").parse().expect("a key")
}

pub fn event(name: &str, request_id: &str, accepted: EventTime) -> QueuedEvent {
    let FunctionKey { name, namespace } = function(name);
    QueuedEvent {
        head: EventHead {
            request_id: request_id.to_owned(),
            function_arn: format!("arn:aws:lambda:us-east-1:000000000000:function:{name}"),
            target: PoolId::latest(namespace, name),
            client_context: Some("{\"a\":\"ü\"}".to_owned()),
            trace: "Root=1-5e1b4151-5ac6c58f12345678abcdefab".to_owned(),
            trace_state: None,
            progress: Progress::new(accepted),
            outcome: None,
            overrides: EventOverrides::default(),
        },
        payload: Bytes::from_static(b"{\"text\":\"\\u0000 \xc3\xbc\"}"),
    }
}

async fn taken(queue: &dyn EventQueue, name: &str, now: EventTime) -> Vec<(Ticket, QueuedEvent)> {
    let taken = queue.take(&function(name), now, 100).await;
    taken.expect("events").events
}

/// As many events as that, once they can be taken.
pub async fn taken_soon(
    queue: &dyn EventQueue,
    name: &str,
    now: EventTime,
    count: usize,
) -> Vec<(Ticket, QueuedEvent)> {
    let mut events = Vec::new();
    let all = async {
        loop {
            events.extend(taken(queue, name, now).await);
            if events.len() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(LOOK_PAUSE)).await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(PATIENCE), all).await;
    ended.unwrap_or_else(|_| panic!("{count} events of {name}"));
    assert_eq!(events.len(), count, "{:?}", ids(&events));
    events
}

fn ids(events: &[(Ticket, QueuedEvent)]) -> BTreeSet<&str> {
    let ids = events
        .iter()
        .map(|(_, event)| event.head.request_id.as_str());
    ids.collect()
}

/// An event comes out as it went in, to one taker, until it is gone.
pub async fn events_are_given_to_one_until_they_are_settled(
    queue: &dyn EventQueue,
    time: TestTime,
) {
    let now = time.now();
    for id in ["r1", "r2"] {
        queue.accept(event("a", id, now)).await.expect("room");
    }
    queue.accept(event("b", "r3", now)).await.expect("room");
    let first = taken_soon(queue, "a", now, 2).await;
    assert_eq!(ids(&first), BTreeSet::from(["r1", "r2"]));
    for (_, found) in &first {
        assert_eq!(*found, event("a", &found.head.request_id, now));
    }
    let later = now.after(time.pause());
    assert_eq!(taken(queue, "a", later).await, []);
    let of_b = taken_soon(queue, "b", now, 1).await;
    assert_eq!(ids(&of_b), BTreeSet::from(["r3"]));
    for (ticket, _) in first {
        queue.settle(ticket, Settled::Gone).await.expect("settled");
        // Whoever is not sure asks again.
        queue.settle(ticket, Settled::Gone).await.expect("settled");
    }
    assert_eq!(taken(queue, "a", later).await, []);
    let waiting = queue.waiting().await.expect("counts");
    let names = waiting
        .iter()
        .map(|events| (events.function.clone(), events.count));
    assert_eq!(Vec::from_iter(names), [(function("b"), 1)]);
    let of_b = queue.of(&function("b")).await.expect("counts");
    let of_b = of_b.expect("its events");
    assert_eq!((of_b.count, of_b.oldest, of_b.due), (1, Some(now), None));
    assert_eq!(queue.of(&function("a")).await, Ok(None));
}

/// An event that is tried again comes with its progress, and not before its time.
pub async fn events_come_again_at_their_time(queue: &dyn EventQueue, time: TestTime) {
    let now = time.now();
    queue.accept(event("a", "r1", now)).await.expect("room");
    let [(ticket, found)] = &taken_soon(queue, "a", now, 1).await[..] else {
        panic!("one event");
    };
    let progress = Progress {
        failures: 1,
        ..found.head.progress
    };
    let due = time.now().after(time.pause());
    let again = Settled::Again { progress, due };
    queue.settle(*ticket, again).await.expect("settled");
    let early = queue.take(&function("a"), time.now(), 100).await;
    let early = early.expect("none yet");
    assert_eq!((early.events.len(), early.due), (0, Some(due)));
    let before = EventTime(due.0 - 200);
    let before = time.reach(before).await;
    assert_eq!(taken(queue, "a", before).await, []);
    let at = time.reach(due).await;
    let [(ticket, found)] = &taken_soon(queue, "a", at, 1).await[..] else {
        panic!("one event");
    };
    let mut expected = event("a", "r1", now);
    expected.head.progress = progress;
    assert_eq!(*found, expected);
    // An attempt that does not begin changes nothing but the backoff.
    let progress = Progress {
        refusals: 1,
        ..progress
    };
    let due = time.now().after(time.pause() / 2);
    let again = Settled::Again { progress, due };
    queue.settle(*ticket, again).await.expect("settled");
    let at = time.reach(due).await;
    let [(ticket, found)] = &taken_soon(queue, "a", at, 1).await[..] else {
        panic!("one event");
    };
    expected.head.progress = progress;
    assert_eq!(*found, expected);
    queue.settle(*ticket, Settled::Gone).await.expect("settled");
    assert_eq!(queue.waiting().await, Ok(Vec::new()));
}

/// Those that have waited longest are the first, and no more than asked for.
pub async fn the_first_are_those_that_wait_longest(queue: &dyn EventQueue, time: TestTime) {
    let now = time.now();
    let later = |millis: u64| now.after(Duration::from_millis(millis));
    for (id, at) in [("r1", 1), ("r2", 2), ("r3", 3)] {
        let accepted = later(at);
        queue.accept(event("a", id, accepted)).await.expect("room");
    }
    let first = queue.take(&function("a"), later(10), 2).await.expect("two");
    assert_eq!(ids(&first.events), BTreeSet::from(["r1", "r2"]));
    let due = first.due.expect("there is another");
    assert!(due <= later(10), "it can be tried now: {due:?}");
    let of_a = queue.of(&function("a")).await.expect("counts");
    let of_a = of_a.expect("its events");
    assert_eq!((of_a.count, of_a.oldest), (3, Some(later(1))));
    assert!(of_a.due.is_some());
    assert!(of_a.bytes.is_none_or(|bytes| bytes > 3 * 24));
}

/// What was taken and not tried can be taken by the next one at once.
pub async fn what_was_not_tried_is_given_out_again(queue: &dyn EventQueue, time: TestTime) {
    let now = time.now();
    queue.accept(event("a", "r1", now)).await.expect("room");
    let [(ticket, _)] = &taken_soon(queue, "a", now, 1).await[..] else {
        panic!("one event");
    };
    let untried = queue.settle(*ticket, Settled::Untried).await;
    untried.expect("settled");
    let [(_, found)] = &taken_soon(queue, "a", now, 1).await[..] else {
        panic!("one event");
    };
    let Progress {
        accepted, failures, ..
    } = found.head.progress;
    assert_eq!((accepted, failures), (now, 0));
}

/// An event that is accepted a second time is one event, also if it has ended meanwhile. `open` opens the queue again.
pub async fn an_event_is_accepted_once<Opened>(open: impl Fn() -> Opened, time: TestTime)
where
    Opened: Future<Output = Arc<dyn EventQueue>>,
{
    let queue = open().await;
    let now = time.now();
    for _ in 0..2 {
        queue.accept(event("a", "r1", now)).await.expect("room");
    }
    let [(ticket, _)] = &taken_soon(&*queue, "a", now, 1).await[..] else {
        panic!("one event");
    };
    queue.settle(*ticket, Settled::Gone).await.expect("settled");
    queue.accept(event("a", "r1", now)).await.expect("room");
    drop(queue);
    let queue = open().await;
    let later = time.now().after(time.pause());
    queue.accept(event("a", "r1", later)).await.expect("room");
    // A later one, so that what came before it would have come.
    queue.accept(event("a", "r2", now)).await.expect("room");
    let left = taken_soon(&*queue, "a", later, 1).await;
    assert_eq!(ids(&left), BTreeSet::from(["r2"]));
    assert_eq!(taken(&*queue, "a", later).await, []);
}

/// What nobody has can be removed, whether it waits for its time or not.
pub async fn a_purge_removes_what_waits(queue: &dyn EventQueue, time: TestTime) {
    let now = time.now();
    queue.accept(event("b", "r4", now)).await.expect("room");
    queue.accept(event("a", "r0", now)).await.expect("room");
    let [(ticket, found)] = &taken_soon(queue, "a", now, 1).await[..] else {
        panic!("one event");
    };
    let progress = Progress {
        failures: 1,
        ..found.head.progress
    };
    let due = now.after(time.pause());
    let again = Settled::Again { progress, due };
    queue.settle(*ticket, again).await.expect("settled");
    for id in ["r1", "r2", "r3"] {
        queue.accept(event("a", id, now)).await.expect("room");
    }
    let one = queue.take(&function("a"), now, 1).await.expect("one");
    assert_eq!(queue.purge(&function("a")).await, Ok(3));
    let (ticket, _) = one.events[0];
    let again = Settled::Again { progress, due };
    queue.settle(ticket, again).await.expect("settled");
    assert_eq!(queue.of(&function("a")).await, Ok(None));
    let at = time.reach(due.after(time.pause() / 4)).await;
    assert_eq!(taken(queue, "a", at).await, []);
    assert_eq!(taken_soon(queue, "b", at, 1).await.len(), 1);
    assert_eq!(queue.purge(&function("nobody")).await, Ok(0));
}

/// How an event ends that has failed for the last time.
fn outcome(at: EventTime) -> EventOutcome {
    EventOutcome {
        end: EventEnd::RetriesExhausted,
        at,
        attempts: 3,
        response: Some(EventResponse {
            payload: "{\"errorMessage\":\"ü\\n\"}".to_owned(),
            version: "$LATEST".to_owned(),
            function_error: Some("Unhandled".to_owned()),
        }),
    }
}

/// An event that has ended stays taken, comes again with its outcome for each further delivery, and is gone in the end.
pub async fn an_event_that_has_ended_comes_with_its_outcome(
    queue: &dyn EventQueue,
    time: TestTime,
) {
    let now = time.now();
    queue.accept(event("a", "r1", now)).await.expect("room");
    let [(ticket, found)] = &taken_soon(queue, "a", now, 1).await[..] else {
        panic!("one event");
    };
    let (ticket, mut progress) = (*ticket, found.head.progress);
    progress.failures = 3;
    let ended = queue.end(ticket, progress, outcome(now));
    ended.await.expect("it is stored");
    assert_eq!(taken(queue, "a", now).await, [], "it is still taken");
    let mut ticket = ticket;
    for delivery in 1..3 {
        progress.refusals = delivery;
        let due = time.now().after(time.pause() / 2);
        let again = Settled::Again { progress, due };
        queue.settle(ticket, again).await.expect("settled");
        let at = time.reach(due).await;
        let [(taken, found)] = &taken_soon(queue, "a", at, 1).await[..] else {
            panic!("one event");
        };
        let mut expected = event("a", "r1", now);
        (expected.head.progress, expected.head.outcome) = (progress, Some(outcome(now)));
        assert_eq!(*found, expected);
        ticket = *taken;
    }
    queue.settle(ticket, Settled::Gone).await.expect("settled");
    assert_eq!(queue.of(&function("a")).await, Ok(None));
    assert_eq!(dead(queue, "a").await, DeadLetters::default());
}

async fn dead(queue: &dyn EventQueue, name: &str) -> DeadLetters {
    let dead = queue.dead_letters(&function(name)).await;
    dead.expect("counts")
}

/// Dead letters wait for nobody until they are replayed: then they are events like new ones.
pub async fn dead_letters_are_kept_until_they_are_replayed(queue: &dyn EventQueue, time: TestTime) {
    let now = time.now();
    let later = EventTime(now.0 + 1000);
    for id in ["r1", "r2", "r3"] {
        queue.accept(event("a", id, now)).await.expect("room");
    }
    queue.accept(event("b", "r4", now)).await.expect("room");
    let mut first = taken_soon(queue, "a", now, 3).await;
    first.extend(taken_soon(queue, "b", now, 1).await);
    for (ticket, found) in first {
        let id = &*found.head.request_id;
        let at = if id == "r2" { now } else { later };
        // The record of one of them could not be delivered.
        if id == "r1" {
            let ended = queue.end(ticket, found.head.progress, outcome(at));
            ended.await.expect("it is stored");
        }
        let buried = queue.settle(ticket, Settled::Dead(outcome(at))).await;
        buried.expect("it is stored");
    }
    assert_eq!(queue.waiting().await, Ok(Vec::new()));
    let of_a = dead(queue, "a").await;
    assert_eq!(of_a.count, 3);
    assert!(
        of_a.oldest
            .is_some_and(|oldest| (now..=later).contains(&oldest))
    );
    assert_eq!(queue.purge(&function("a")).await, Ok(0), "they do not wait");

    let replayed = EventTime(time.now().0 + 1);
    assert_eq!(queue.replay(&function("a"), replayed).await, Ok(3));
    let again = taken_soon(queue, "a", replayed, 3).await;
    assert_eq!(ids(&again), BTreeSet::from(["r1", "r2", "r3"]));
    for (_, found) in &again {
        assert_eq!(*found, event("a", &found.head.request_id, replayed));
    }
    assert_eq!(dead(queue, "a").await, DeadLetters::default());
    assert_eq!(queue.replay(&function("a"), replayed).await, Ok(0));
    // It fails again.
    for (ticket, _) in again {
        let buried = queue.settle(ticket, Settled::Dead(outcome(now))).await;
        buried.expect("it is stored");
    }
    assert_eq!(queue.purge_dead(&function("a")).await, Ok(3));
    assert_eq!(dead(queue, "a").await.count, 0);
    assert_eq!(dead(queue, "b").await.count, 1, "those of others stay");
    assert_eq!(queue.replay(&function("nobody"), now).await, Ok(0));
}

/// What was accepted outlives whoever has taken it, with the progress that was stored. `open` opens the queue again.
pub async fn what_was_taken_is_taken_again<Opened>(open: impl Fn() -> Opened, time: TestTime)
where
    Opened: Future<Output = Arc<dyn EventQueue>>,
{
    let queue = open().await;
    let now = time.now();
    for id in ["r1", "r2", "r3", "r4", "r5"] {
        queue.accept(event("a", id, now)).await.expect("room");
    }
    let first = taken_soon(&*queue, "a", now, 5).await;
    let of = |wanted: &str| {
        let found = first
            .iter()
            .find(|(_, event)| event.head.request_id == wanted);
        found.expect("it was taken").0
    };
    queue.settle(of("r1"), Settled::Gone).await.expect("gone");
    let progress = Progress {
        failures: 2,
        ..Progress::new(now)
    };
    let due = time.now().after(time.pause());
    let again = Settled::Again { progress, due };
    queue.settle(of("r2"), again).await.expect("settled");
    let ended = queue.end(of("r4"), Progress::new(now), outcome(now));
    ended.await.expect("it is stored");
    let buried = queue.settle(of("r5"), Settled::Dead(outcome(now)));
    buried.await.expect("it is stored");
    drop(queue);
    let queue = open().await;
    let at = time.reach(due).await;
    let mut left = taken_soon(&*queue, "a", at, 3).await;
    left.sort_by(|(_, one), (_, other)| one.head.request_id.cmp(&other.head.request_id));
    assert_eq!(ids(&left), BTreeSet::from(["r2", "r3", "r4"]));
    let states: Vec<_> = left
        .iter()
        .map(|(_, event)| (event.head.progress.failures, event.head.outcome.clone()))
        .collect();
    assert_eq!(states, [(2, None), (0, None), (0, Some(outcome(now)))]);
    assert_eq!(dead(&*queue, "a").await.count, 1);
}

/// The record of a schedule is there for whoever opens the queue, until it is forgotten, and for no other schedule.
#[cfg(feature = "schedule")]
pub async fn the_record_of_a_schedule_is_kept_until_it_is_forgotten<Opened>(
    open: impl Fn() -> Opened,
    time: TestTime,
) where
    Opened: Future<Output = Arc<dyn ScheduleRecords>>,
{
    let id = |namespace: &str, uid: &str| ScheduleId {
        namespace: namespace.parse().expect("a namespace"),
        uid: uid.to_owned(),
    };
    let (first, other, elsewhere) = (id("one", "u-1"), id("one", "u-2"), id("two", "u-1"));
    let records = open().await;
    assert_eq!(records.read(&first).await, Ok(None));
    let stored = |missed: u64| ScheduleRecord {
        seen: Some(time.now()),
        timing: "rate(1 minute)".to_owned(),
        missed,
        ..ScheduleRecord::default()
    };
    for missed in [1, 2] {
        let record = stored(missed);
        records
            .store(&first, record.clone())
            .await
            .expect("it is stored");
        assert_eq!(records.read(&first).await, Ok(Some(record)));
    }
    records
        .store(&other, stored(3))
        .await
        .expect("it is stored");
    drop(records);
    let records = open().await;
    let read = async |id: &ScheduleId| {
        let found = records.read(id).await.expect("it can be read");
        found.map(|record| record.missed)
    };
    assert_eq!(read(&first).await, Some(2));
    assert_eq!(read(&elsewhere).await, None);
    records.forget(&first).await.expect("it is forgotten");
    assert_eq!((read(&first).await, read(&other).await), (None, Some(3)));
    // Nothing is there to forget.
    records.forget(&elsewhere).await.expect("it is forgotten");
}
