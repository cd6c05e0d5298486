//! The queue in NATS JetStream, with a real server on this machine.
//!
//! `tests/cluster/cluster build nats` builds the program. `make test` runs these tests; `cargo test` by itself leaves them out,
//! as the program takes a minute to build. Without the program they fail.

mod nats;
mod servers;

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use pilotlight_core::events::retry::{EventEnd, Progress};
use pilotlight_core::ids::FunctionKey;
use pilotlight_events::conformance::{self, TestTime, event, taken_soon};
use pilotlight_events::event::{EventOutcome, EventResponse};
use pilotlight_events::jetstream::{
    JetStreamConfig, JetStreamQueue, JetStreamTiming, NatsCredentials,
};
use pilotlight_events::queue::{EventQueue, QueueError, Ring, Settled};
use pilotlight_events::schedule::records::ScheduleRecords;

use self::nats::NatsServer;

/// How long whatever must happen is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
const REQUEST: Duration = Duration::from_secs(2);
const ACK_WAIT: Duration = Duration::from_secs(2);
const BYTES: u64 = 64 * 1024 * 1024;

fn config(server: &NatsServer, prefix: &str) -> JetStreamConfig {
    JetStreamConfig {
        servers: vec![server.url()],
        credentials: None,
        prefix: prefix.parse().expect("a prefix"),
        replicas: 1,
        bytes: BYTES,
        timing: JetStreamTiming {
            ack_wait: ACK_WAIT,
            request: REQUEST,
        },
        clock: || TestTime::Real.now(),
    }
}

fn open(server: &NatsServer, prefix: &str) -> JetStreamQueue {
    JetStreamQueue::open(config(server, prefix)).expect("a queue")
}

fn function(name: &str) -> FunctionKey {
    format!("local/{name}").parse().expect("a key")
}

async fn accept(queue: &JetStreamQueue, name: &str, id: &str) {
    let accepted = queue.accept(event(name, id, TestTime::Real.now())).await;
    accepted.expect("room");
}

async fn count(queue: &JetStreamQueue, name: &str) -> u64 {
    let of_it = queue.of(&function(name)).await.expect("counts");
    of_it.map_or(0, |events| events.count)
}

/// The event, once the queue answers again.
async fn accepted_again(queue: &JetStreamQueue, name: &str, id: &str) {
    let began = Instant::now();
    while let Err(error) = queue.accept(event(name, id, TestTime::Real.now())).await {
        assert!(began.elapsed() < PATIENCE, "{error}");
    }
}

fn unavailable<T: std::fmt::Debug>(result: Result<T, QueueError>) -> String {
    match result {
        Err(QueueError::Unavailable(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
#[ignore = "needs nats-server"]
async fn it_does_what_every_queue_does() {
    use conformance::*;
    let server = NatsServer::start();
    let (server, time) = (&server, TestTime::Real);
    tokio::join!(
        async { events_are_given_to_one_until_they_are_settled(&open(server, "p1"), time).await },
        async { events_come_again_at_their_time(&open(server, "p2"), time).await },
        async { the_first_are_those_that_wait_longest(&open(server, "p3"), time).await },
        async { what_was_not_tried_is_given_out_again(&open(server, "p4"), time).await },
        async { a_purge_removes_what_waits(&open(server, "p5"), time).await },
        async { an_event_that_has_ended_comes_with_its_outcome(&open(server, "p7"), time).await },
        async { dead_letters_are_kept_until_they_are_replayed(&open(server, "p8"), time).await },
        async {
            let again = async || Arc::new(open(server, "p6")) as Arc<dyn EventQueue>;
            what_was_taken_is_taken_again(again, time).await;
        },
        async {
            let again = async || Arc::new(open(server, "p9")) as Arc<dyn EventQueue>;
            an_event_is_accepted_once(again, time).await;
        },
        async {
            let again = async || Arc::new(open(server, "p10")) as Arc<dyn ScheduleRecords>;
            the_record_of_a_schedule_is_kept_until_it_is_forgotten(again, time).await;
        },
    );
}

/// The server takes messages of up to 1 MiB and a head.
#[tokio::test]
#[ignore = "needs nats-server"]
async fn an_answer_that_there_is_no_room_for_is_left_out() {
    let server = NatsServer::start();
    let queue = open(&server, "p");
    accept(&queue, "a", "r1").await;
    let now = TestTime::Real.now();
    let (ticket, found) = taken_soon(&queue, "a", now, 1).await.remove(0);
    let outcome = |payload: usize| EventOutcome {
        end: EventEnd::RetriesExhausted,
        at: now,
        attempts: 1,
        response: Some(EventResponse {
            payload: "1".repeat(payload),
            version: "$LATEST".to_owned(),
            function_error: None,
        }),
    };
    let ended = queue.end(ticket, found.head.progress, outcome(2 * 1024 * 1024));
    ended.await.expect("it is stored");
    let untried = queue.settle(ticket, Settled::Untried).await;
    untried.expect("settled");
    let (ticket, found) = taken_soon(&queue, "a", now, 1).await.remove(0);
    let kept = found.head.outcome.expect("it has ended");
    assert_eq!(
        (kept.end, kept.response),
        (EventEnd::RetriesExhausted, None)
    );
    // One that fits is kept.
    let ended = queue.end(ticket, found.head.progress, outcome(1024 * 1024));
    ended.await.expect("it is stored");
    let buried = queue
        .settle(ticket, Settled::Dead(outcome(1024 * 1024)))
        .await;
    buried.expect("the payload and the answer are one message");
    let dead = queue.dead_letters(&function("a")).await.expect("counts");
    assert_eq!((dead.count, dead.oldest), (1, Some(now)));
}

#[tokio::test]
#[ignore = "needs nats-server"]
async fn an_event_that_is_accepted_twice_is_one() {
    let server = NatsServer::start();
    let queue = open(&server, "p");
    for id in ["r1", "r1", "r2"] {
        accept(&queue, "a", id).await;
    }
    assert_eq!(count(&queue, "a").await, 2);
    let (ticket, _) = taken_soon(&queue, "a", TestTime::Real.now(), 2).await[0];
    queue.settle(ticket, Settled::Gone).await.expect("settled");
    // Also when it has ended meanwhile.
    accept(&queue, "a", "r1").await;
    assert_eq!(count(&queue, "a").await, 1);
}

#[tokio::test]
#[ignore = "needs nats-server"]
async fn what_was_accepted_survives_a_server_that_is_killed() {
    let mut server = NatsServer::start();
    let queue = open(&server, "p");
    let sent: Vec<String> = (0..200).map(|n| format!("r{n}")).collect();
    let accepted = sent.iter().map(|id| {
        let mut large = event("a", id, TestTime::Real.now());
        large.payload = format!("\"{id}{}\"", "x".repeat(20_000)).into();
        queue.accept(large)
    });
    for accepted in join_all(accepted).await {
        accepted.expect("room");
    }
    let now = TestTime::Real.now();
    let first = taken_soon(&queue, "a", now, 100).await;
    // Some have failed, some have ended, and some are under way.
    for (n, (ticket, found)) in first.iter().enumerate() {
        let progress = Progress {
            failures: 1,
            ..found.head.progress
        };
        let due = TestTime::Real.now().after(Duration::from_secs(1));
        match n % 3 {
            0 => queue.settle(*ticket, Settled::Gone).await.expect("settled"),
            1 => {
                let again = Settled::Again { progress, due };
                queue.settle(*ticket, again).await.expect("settled");
            }
            _ => {}
        }
    }
    server.kill();
    drop(queue);
    server.restart();
    let queue = open(&server, "p");
    let left = taken_until(&queue, "a", 166).await;
    let ended: BTreeSet<_> = first
        .iter()
        .step_by(3)
        .map(|(_, event)| &event.head.request_id)
        .collect();
    let failed: BTreeSet<_> = first
        .iter()
        .skip(1)
        .step_by(3)
        .map(|(_, event)| &event.head.request_id)
        .collect();
    for (_, found) in &left {
        let id = &found.head.request_id;
        assert!(!ended.contains(id), "{id} has ended");
        assert_eq!(
            found.head.progress.failures,
            u8::from(failed.contains(id)),
            "{id}"
        );
        assert_eq!(found.payload.len(), id.len() + 20_002);
    }
}

/// As many different events as that, over several takes.
async fn taken_until(
    queue: &JetStreamQueue,
    name: &str,
    count: usize,
) -> Vec<(
    pilotlight_events::queue::Ticket,
    pilotlight_events::event::QueuedEvent,
)> {
    let began = Instant::now();
    let mut all = Vec::new();
    while all.len() < count {
        assert!(began.elapsed() < PATIENCE, "{} of {count}", all.len());
        match queue.take(&function(name), TestTime::Real.now(), 16).await {
            Ok(taken) => all.extend(taken.events),
            Err(error) => eprintln!("{error}"),
        }
    }
    let ids: BTreeSet<_> = all
        .iter()
        .map(|(_, event)| event.head.request_id.clone())
        .collect();
    assert_eq!((all.len(), ids.len()), (count, count));
    all
}

#[tokio::test]
#[ignore = "needs nats-server"]
async fn a_full_stream_refuses_and_has_room_again_after_an_end() {
    let server = NatsServer::start();
    let small = JetStreamConfig {
        bytes: 100 * 1024,
        ..config(&server, "p")
    };
    let queue = JetStreamQueue::open(small).expect("a queue");
    let mut large = event("a", "", TestTime::Real.now());
    large.payload = format!("\"{}\"", "x".repeat(24_000)).into();
    let mut accepted = 0;
    let why = loop {
        large.head.request_id = format!("r{accepted}");
        match queue.accept(large.clone()).await {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(&why, QueueError::Full(text) if text.contains("102400 bytes")),
        "{why}"
    );
    assert_eq!(accepted, 4, "of 24,000 bytes each");
    // What is there can be tried all the same, as often as it has to be.
    let now = TestTime::Real.now();
    let taken = queue
        .take(&function("a"), now, 2)
        .await
        .expect("two")
        .events;
    let progress = Progress {
        failures: 1,
        ..taken[0].1.head.progress
    };
    let due = TestTime::Real.now();
    let again = Settled::Again { progress, due };
    queue.settle(taken[0].0, again).await.expect("settled");
    assert!(queue.accept(large.clone()).await.is_err());
    queue
        .settle(taken[1].0, Settled::Gone)
        .await
        .expect("settled");
    queue.accept(large).await.expect("room");
    assert_eq!(count(&queue, "a").await, 4);
    let found = taken_soon(&queue, "a", TestTime::Real.now(), 4).await;
    let failures: u8 = found
        .iter()
        .map(|(_, event)| event.head.progress.failures)
        .sum();
    assert_eq!(failures, 1);
}

#[tokio::test]
#[ignore = "needs nats-server"]
async fn a_server_that_is_away_is_an_error_and_what_is_taken_stays_taken() {
    let mut server = NatsServer::start();
    let queue = open(&server, "p");
    let mut rings = queue.rings();
    assert_eq!(rings.next().await, Some(Ring::Any));
    accept(&queue, "a", "r1").await;
    let [(ticket, _)] = taken_soon(&queue, "a", TestTime::Real.now(), 1).await[..] else {
        panic!("one event");
    };
    server.kill();
    let began = Instant::now();
    let attempts = join_all((0..50).map(|n| {
        let id = format!("away-{n}");
        let sent = event("a", &id, TestTime::Real.now());
        queue.accept(sent)
    }));
    for refused in attempts.await {
        assert!(unavailable(refused).contains(&server.url()));
    }
    unavailable(queue.take(&function("a"), TestTime::Real.now(), 1).await);
    unavailable(queue.settle(ticket, Settled::Gone).await);
    unavailable(queue.waiting().await);
    assert!(began.elapsed() < 6 * REQUEST, "{:?}", began.elapsed());
    server.restart();
    accepted_again(&queue, "a", "r2").await;
    while rings.next().await != Some(Ring::Any) {}
    queue.settle(ticket, Settled::Gone).await.expect("settled");
    let [(_, found)] = &taken_soon(&queue, "a", TestTime::Real.now(), 1).await[..] else {
        panic!("one event");
    };
    assert_eq!(found.head.request_id, "r2");
    assert_eq!(count(&queue, "a").await, 1);
}

#[tokio::test]
#[ignore = "needs nats-server"]
async fn another_gets_what_was_taken_when_nobody_has_it_any_more() {
    let server = NatsServer::start();
    let (first, second) = (open(&server, "p"), open(&server, "p"));
    accept(&first, "a", "r1").await;
    taken_soon(&first, "a", TestTime::Real.now(), 1).await;
    // For as long as somebody has it, nobody else gets it.
    let began = Instant::now();
    while began.elapsed() < 3 * ACK_WAIT {
        let taken = second.take(&function("a"), TestTime::Real.now(), 1).await;
        assert_eq!(taken.expect("none").events, []);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(first);
    let [(ticket, found)] = &taken_soon(&second, "a", TestTime::Real.now(), 1).await[..] else {
        panic!("one event");
    };
    assert_eq!(found.head.progress.failures, 0);
    second
        .settle(*ticket, Settled::Gone)
        .await
        .expect("settled");
    assert_eq!(second.waiting().await, Ok(Vec::new()));
}

#[tokio::test]
#[ignore = "needs nats-server"]
async fn others_learn_at_once_that_an_event_was_stored() {
    let server = NatsServer::start();
    let (sender, owner) = (open(&server, "p"), open(&server, "p"));
    let mut rings = owner.rings();
    assert_eq!(rings.next().await, Some(Ring::Any));
    for n in 0..20 {
        // Connecting counts as something that may have been missed.
        accept(&sender, "a", &format!("r{n}")).await;
        while rings.next().await != Some(Ring::Events(function("a"))) {}
        let taken = owner.take(&function("a"), TestTime::Real.now(), 9).await;
        assert_eq!(
            taken.expect("one").events.len(),
            1,
            "it can be taken when it rings"
        );
    }
}

#[tokio::test]
#[ignore = "needs nats-server"]
async fn servers_that_cannot_keep_events_are_refused_in_words() {
    let small = NatsServer::start_with("max_payload: 1MB");
    let queue = open(&small, "p");
    let refused = unavailable(queue.accept(event("a", "r1", TestTime::Real.now())).await);
    assert!(refused.contains("raise `max_payload`"), "{refused}");
    let without = NatsServer::start_with("max_payload: 2MB\njetstream: false");
    let queue = open(&without, "p");
    let refused = unavailable(queue.accept(event("a", "r1", TestTime::Real.now())).await);
    assert!(refused.contains("JetStream cannot be used"), "{refused}");
    let other = NatsServer::start();
    let client = async_nats::connect(other.url()).await.expect("a client");
    let context = async_nats::jetstream::new(client);
    let theirs = async_nats::jetstream::stream::Config {
        name: "p_local".to_owned(),
        subjects: vec!["orders.>".to_owned()],
        ..Default::default()
    };
    context.create_stream(theirs).await.expect("a stream");
    let queue = open(&other, "p");
    let refused = unavailable(queue.accept(event("a", "r1", TestTime::Real.now())).await);
    assert!(
        refused.contains("p_local was not made for events"),
        "{refused}"
    );
}

#[tokio::test]
#[ignore = "needs nats-server"]
async fn what_cannot_be_read_stays_and_holds_up_nobody() {
    let server = NatsServer::start();
    let queue = open(&server, "p");
    accept(&queue, "a", "r1").await;
    let client = async_nats::connect(server.url()).await.expect("a client");
    let context = async_nats::jetstream::new(client);
    for text in ["", "{}\n1", "\u{0}"] {
        let sent = context.publish("p.events.local.a", text.into()).await;
        sent.expect("sent").await.expect("stored");
    }
    accept(&queue, "a", "r2").await;
    let found = taken_soon(&queue, "a", TestTime::Real.now(), 2).await;
    for (ticket, _) in found {
        queue.settle(ticket, Settled::Gone).await.expect("settled");
    }
    assert_eq!(count(&queue, "a").await, 3);
    assert_eq!(queue.purge(&function("a")).await, Ok(3));
}

#[tokio::test]
#[ignore = "needs nats-server"]
async fn streams_and_consumers_that_are_gone_are_made_anew() {
    let server = NatsServer::start();
    let queue = open(&server, "p");
    for id in ["r1", "r2"] {
        accept(&queue, "a", id).await;
    }
    let client = async_nats::connect(server.url()).await.expect("a client");
    let context = async_nats::jetstream::new(client);
    let taken = taken_soon(&queue, "a", TestTime::Real.now(), 2).await;
    let deleted = context.delete_consumer_from_stream("a", "p_local").await;
    deleted.expect("deleted");
    // It is known to nobody that these were given out, and they are ended all the same.
    queue
        .settle(taken[0].0, Settled::Gone)
        .await
        .expect("settled");
    assert_eq!(count(&queue, "a").await, 1);
    // Whoever has the other one goes on.
    let again = queue.take(&function("a"), TestTime::Real.now(), 9).await;
    assert_eq!(again.expect("none").events, []);
    queue
        .settle(taken[1].0, Settled::Gone)
        .await
        .expect("settled");
    assert_eq!(queue.waiting().await, Ok(Vec::new()));
    context.delete_stream("p_local").await.expect("deleted");
    accept(&queue, "a", "r3").await;
    taken_soon(&queue, "a", TestTime::Real.now(), 1).await;
}

#[tokio::test]
#[ignore = "needs nats-server"]
async fn bounds_that_change_are_those_of_the_stream_from_then_on() {
    let server = NatsServer::start();
    accept(&open(&server, "p"), "a", "r1").await;
    let larger = JetStreamConfig {
        bytes: 2 * BYTES,
        ..config(&server, "p")
    };
    let queue = JetStreamQueue::open(larger).expect("a queue");
    accept(&queue, "a", "r2").await;
    let client = async_nats::connect(server.url()).await.expect("a client");
    let context = async_nats::jetstream::new(client);
    let mut stream = context.get_stream("p_local").await.expect("a stream");
    let config = &stream.info().await.expect("what it is").config;
    assert_eq!(config.max_bytes, 2 * BYTES as i64);
    assert_eq!(count(&queue, "a").await, 2);
}

#[tokio::test]
#[ignore = "needs nats-server"]
async fn streams_have_room_once_however_many_gateways_there_are() {
    // Room for one stream of events and one of their progress.
    let server = NatsServer::start_with(
        "max_payload: 2MB\njetstream { store_dir: \"FOLDER\", max_file_store: 150MB }",
    );
    let gateways: Vec<_> = (0..4).map(|_| open(&server, "p")).collect();
    let accepted = gateways.iter().enumerate().map(|(n, queue)| {
        let sent = event("a", &format!("r{n}"), TestTime::Real.now());
        queue.accept(sent)
    });
    for accepted in join_all(accepted).await {
        accepted.expect("room");
    }
    accept(&open(&server, "p"), "a", "r4").await;
    assert_eq!(count(&gateways[0], "a").await, 5);
    let other = open(&server, "other");
    let refused = other.accept(event("a", "r1", TestTime::Real.now())).await;
    assert!(
        matches!(&refused, Err(QueueError::Full(why)) if why.contains("no room for the stream other_local")),
        "{refused:?}"
    );
}

#[tokio::test]
#[ignore = "needs nats-server"]
async fn credentials_are_read_for_each_connection() {
    let server = NatsServer::start_with(
        "max_payload: 2MB\njetstream { store_dir: \"FOLDER\" }\nauthorization { user: pilot, password: light }",
    );
    let folder = tempfile::tempdir().expect("a folder");
    let password = folder.path().join("password");
    fs::write(folder.path().join("username"), "pilot\n").expect("a file");
    fs::write(&password, "dark\n").expect("a file");
    let with = JetStreamConfig {
        credentials: Some(NatsCredentials(folder.path().to_owned())),
        ..config(&server, "p")
    };
    let queue = JetStreamQueue::open(with).expect("a queue");
    let refused = unavailable(queue.accept(event("a", "r1", TestTime::Real.now())).await);
    assert!(refused.contains("authorization"), "{refused}");
    assert!(!refused.contains("dark"), "{refused}");
    fs::write(&password, "light\n").expect("a file");
    accepted_again(&queue, "a", "r1").await;
}
