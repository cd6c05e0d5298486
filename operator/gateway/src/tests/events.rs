//! Asynchronous calls: stored before they are answered, tried as declared, and each with an end.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use http::{Request, StatusCode};
use pilotlight_core::events::retry::{EventTime, Progress};
use pilotlight_core::ids::FunctionKey;
use pilotlight_events::event::{EventOutcome, QueuedEvent};
use pilotlight_events::queue::{
    DeadLetters, EventQueue, FunctionEvents, QueueError, Ring, Settled, Taken, Ticket,
};
use pilotlight_events::sqlite::SqliteQueue;
use tempfile::TempDir;
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::peers::two_with;
use super::stage::{Answer, Caller, Stage, function, invocation, named, on_stage, settled};
use crate::catalog::Deployment;
use crate::config::{Config, EventsConfig};

const HELLO: &str = "namespace=\"local\",function=\"hello\",qualifier=\"$LATEST\"";

/// The time of events follows the test's time, which stands still while anything happens.
pub(super) fn clock() -> EventTime {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let origin = *ORIGIN.get_or_init(Instant::now);
    let since = Instant::now().saturating_duration_since(origin);
    EventTime(1_800_000_000_000).after(since)
}

pub(super) fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// With a queue in this folder that has so many bytes.
pub(super) fn config(folder: &TempDir, bytes: u64) -> Config {
    let queue = SqliteQueue::open(folder.path(), bytes).expect("a queue");
    Config {
        events: Some(EventsConfig {
            queue: Arc::new(queue),
            clock,
        }),
        ..Config::default()
    }
}

pub(super) async fn stage(folder: &TempDir, deployments: Vec<Deployment>) -> Stage {
    let stage = Stage::new(config(folder, 16 * 1024 * 1024), None);
    stage.gateway.deploy(deployments).await;
    stage
}

fn send(stage: &Stage, name: &str, payload: impl Into<Body>) -> Caller {
    let request = invocation(name).header("x-amz-invocation-type", "Event");
    stage.send(request.body(payload.into()))
}

pub(super) async fn accepted(stage: &Stage, payload: &str) -> Answer {
    let answer = send(stage, "hello", payload.to_owned()).answer().await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    assert!(answer.body.is_empty() && answer.header("x-amz-executed-version").is_empty());
    answer
}

pub(super) async fn count(stage: &Stage, name: &str, by: &str) -> f64 {
    let by = if by.is_empty() {
        String::new()
    } else {
        format!(",{by}")
    };
    stage
        .metric(&format!("pilotlight_{name}_total{{{HELLO}{by}}}"))
        .await
}

pub(super) async fn waiting(stage: &Stage) -> u64 {
    let answer = stage.get("/pilotlight/v1/functions/hello/events").await;
    answer.json()["count"].as_u64().expect("a count")
}

#[tokio::test(start_paused = true)]
async fn a_call_is_answered_before_its_event_runs_and_keeps_its_request_id() {
    on_stage(async {
        let folder = folder();
        let mut stage = stage(&folder, vec![function("")]).await;
        let answer = accepted(&stage, "{\"n\": 1}").await;
        assert_eq!(waiting(&stage).await, 1);
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        assert_eq!(event.payload, "{\"n\": 1}");
        assert_eq!(event.request_id, answer.header("x-amzn-requestid"));
        instance.answers(&event, "1").await;
        settled().await;
        assert_eq!(waiting(&stage).await, 0);
        assert_eq!(count(&stage, "events_accepted", "").await, 1.0);
        assert_eq!(
            count(&stage, "events_ended", "condition=\"Success\"").await,
            1.0
        );
        // As clients of the first version call.
        let request = Request::post("/2014-11-13/functions/hello/invoke-async/");
        let answer = stage.send(request.body(Body::from("2"))).answer().await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
        assert_eq!(instance.serves("0").await, "2");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_function_that_fails_gets_the_event_again_after_one_and_two_minutes() {
    on_stage(async {
        let folder = folder();
        let mut stage = stage(&folder, vec![function("keepAlive: 3600")]).await;
        let answer = accepted(&stage, "1").await;
        let mut instance = stage.instance().await;
        let (mut begun, mut pauses) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let event = instance.event().await;
            assert_eq!(event.request_id, answer.header("x-amzn-requestid"));
            begun.push(Instant::now());
            instance
                .posts(&event, "error", "{\"errorType\": \"Broken\"}")
                .await;
            instance.asks();
        }
        for pair in begun.windows(2) {
            pauses.push((pair[1] - pair[0]).as_secs());
        }
        assert_eq!(pauses, [60, 120]);
        settled().await;
        assert_eq!(waiting(&stage).await, 0);
        let exhausted = "condition=\"RetriesExhausted\"";
        assert_eq!(count(&stage, "events_ended", exhausted).await, 1.0);
        assert_eq!(
            count(&stage, "event_attempts", "outcome=\"failed\"").await,
            3.0
        );
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(!instance.has_event());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_manifest_says_how_often_and_how_long_an_event_is_tried() {
    on_stage(async {
        let folder = folder();
        let spec = "keepAlive: 3600, async: {retries: 1, maxAge: 60}";
        let mut stage = stage(&folder, vec![function(spec)]).await;
        accepted(&stage, "1").await;
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        instance.posts(&event, "error", "{}").await;
        instance.asks();
        // The retry would be due a second after the event is too old.
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(!instance.has_event());
        let old = "condition=\"EventAgeExceeded\"";
        assert_eq!(count(&stage, "events_ended", old).await, 1.0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_could_not_begin_is_tried_until_it_can() {
    on_stage(async {
        let folder = folder();
        let spec = "keepAlive: 3600, async: {retries: 0}";
        let mut stage = stage(&folder, vec![function(spec)]).await;
        accepted(&stage, "1").await;
        for _ in 0..3 {
            stage.start().await.fails("no room");
        }
        let mut instance = stage.instance().await;
        assert_eq!(instance.serves("0").await, "1");
        settled().await;
        assert_eq!(
            count(&stage, "events_ended", "condition=\"Success\"").await,
            1.0
        );
        assert!(count(&stage, "event_attempts", "outcome=\"not_begun\"").await >= 1.0);
        assert_eq!(
            count(&stage, "event_attempts", "outcome=\"failed\"").await,
            0.0
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_function_without_concurrency_ends_its_events_unrun() {
    on_stage(async {
        let folder = folder();
        let spec = "concurrency: {reserved: 0}";
        let mut stage = stage(&folder, vec![function(spec)]).await;
        accepted(&stage, "1").await;
        assert!(stage.starts().await.is_empty());
        let zero = "condition=\"ZeroReservedConcurrency\"";
        assert_eq!(count(&stage, "events_ended", zero).await, 1.0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn no_more_events_than_instances_are_under_way_and_calls_come_between_them() {
    on_stage(async {
        let folder = folder();
        let spec = "concurrency: {reserved: 1, queue: 1}";
        let mut stage = stage(&folder, vec![function(spec)]).await;
        for n in 0..10 {
            accepted(&stage, &n.to_string()).await;
        }
        let mut instance = stage.instance().await;
        let first = instance.event().await;
        // Nine events wait in the durable queue, and none in the one place before the instance.
        let call = stage.call("\"call\"");
        settled().await;
        instance.answers(&first, "0").await;
        assert_eq!(instance.serves("0").await, "\"call\"");
        assert_eq!(call.answer().await.status, StatusCode::OK);
        for _ in 1..10 {
            instance.serves("0").await;
        }
        settled().await;
        assert_eq!(waiting(&stage).await, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn events_survive_the_gateway_and_the_next_one_runs_them() {
    on_stage(async {
        let folder = folder();
        let mut first = stage(&folder, vec![function("")]).await;
        accepted(&first, "1").await;
        let start = first.start().await;
        accepted(&first, "2").await;
        first.gateway.shutdown().await;
        drop(start);
        drop(first);
        settled().await;
        let mut next = stage(&folder, vec![function("concurrency: {reserved: 1}")]).await;
        let mut instance = next.instance().await;
        let mut ran = vec![instance.serves("0").await, instance.serves("0").await];
        ran.sort();
        assert_eq!(ran, ["1", "2"]);
        settled().await;
        assert_eq!(waiting(&next).await, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_too_large_or_finds_no_room_is_refused() {
    on_stage(async {
        let folder = folder();
        let stage = Stage::new(config(&folder, 1500 * 1024), None);
        stage
            .gateway
            .deploy(vec![named("hello", "concurrency: {reserved: 1}")])
            .await;
        let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
        let most = 1024 * 1024;
        let large = send(&stage, "hello", text(most + 1)).answer().await;
        assert_eq!(large.error(), (413, "RequestTooLargeException"));
        accepted(&stage, &text(most)).await;
        let full = send(&stage, "hello", text(most)).answer().await;
        assert_eq!(full.error(), (429, "TooManyRequestsException"));
        assert!(full.text().contains("queue is full"), "{}", full.text());
        let unknown = send(&stage, "nobody", "1").answer().await;
        assert_eq!(unknown.error(), (404, "ResourceNotFoundException"));
        let none = Stage::of(function("")).await;
        let refused = send(&none, "hello", "1").answer().await;
        assert_eq!(refused.error(), (400, "InvalidParameterValueException"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn waiting_events_can_be_removed() {
    on_stage(async {
        let folder = folder();
        let mut stage = stage(&folder, vec![function("concurrency: {reserved: 1}")]).await;
        for n in 0..3 {
            accepted(&stage, &n.to_string()).await;
        }
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        let purge = Request::delete("/pilotlight/v1/functions/hello/events");
        let purged = stage.send(purge.body(Body::empty())).answer().await;
        assert_eq!(purged.json()["purged"], 2);
        instance.answers(&event, "0").await;
        settled().await;
        assert!(!instance.has_event());
        assert_eq!(waiting(&stage).await, 0);
    })
    .await;
}

/// A queue that several gateways use, and which rings for what each of them has accepted.
#[derive(Debug)]
struct SharedQueue {
    queue: SqliteQueue,
    rings: broadcast::Sender<Ring>,
}

impl EventQueue for SharedQueue {
    fn accept(&self, event: QueuedEvent) -> BoxFuture<'_, Result<(), QueueError>> {
        let ring = Ring::Events(event.head.target.function.clone());
        Box::pin(async move {
            self.queue.accept(event).await?;
            // A gateway that has ended hears nothing.
            let _ = self.rings.send(ring);
            Ok(())
        })
    }

    fn take<'a>(
        &'a self,
        function: &'a FunctionKey,
        now: EventTime,
        count: usize,
    ) -> BoxFuture<'a, Result<Taken, QueueError>> {
        self.queue.take(function, now, count)
    }

    fn end(
        &self,
        ticket: Ticket,
        progress: Progress,
        outcome: EventOutcome,
    ) -> BoxFuture<'_, Result<(), QueueError>> {
        self.queue.end(ticket, progress, outcome)
    }

    fn settle(&self, ticket: Ticket, settled: Settled) -> BoxFuture<'_, Result<(), QueueError>> {
        self.queue.settle(ticket, settled)
    }

    fn waiting(&self) -> BoxFuture<'_, Result<Vec<FunctionEvents>, QueueError>> {
        self.queue.waiting()
    }

    fn rings(&self) -> BoxStream<'static, Ring> {
        let rings = stream::unfold(self.rings.subscribe(), |mut rings| async {
            let ring = rings.recv().await.ok()?;
            Some((ring, rings))
        });
        rings.boxed()
    }

    fn purge<'a>(&'a self, function: &'a FunctionKey) -> BoxFuture<'a, Result<u64, QueueError>> {
        self.queue.purge(function)
    }

    fn dead_letters<'a>(
        &'a self,
        function: &'a FunctionKey,
    ) -> BoxFuture<'a, Result<DeadLetters, QueueError>> {
        self.queue.dead_letters(function)
    }

    fn replay<'a>(
        &'a self,
        function: &'a FunctionKey,
        now: EventTime,
    ) -> BoxFuture<'a, Result<u64, QueueError>> {
        self.queue.replay(function, now)
    }

    fn purge_dead<'a>(
        &'a self,
        function: &'a FunctionKey,
    ) -> BoxFuture<'a, Result<u64, QueueError>> {
        self.queue.purge_dead(function)
    }
}

#[tokio::test(start_paused = true)]
async fn the_owner_of_a_function_tries_events_that_any_gateway_has_accepted() {
    on_stage(async {
        let folder = folder();
        let queue = SqliteQueue::open(folder.path(), 1024 * 1024).expect("a queue");
        let queue: Arc<dyn EventQueue> = Arc::new(SharedQueue {
            queue,
            rings: broadcast::Sender::new(16),
        });
        let config = || Config {
            events: Some(EventsConfig {
                queue: queue.clone(),
                clock,
            }),
            ..Config::default()
        };
        let both = two_with("concurrency: {reserved: 1}", (config(), config())).await;
        let ((mut first, second_as_peer), (second, first_as_peer)) = both;
        first_as_peer.owns_all(true);
        settled().await;
        for payload in ["1", "2"] {
            accepted(&second, payload).await;
        }
        let mut instance = first.instance().await;
        let event = instance.event().await;
        assert_eq!(first_as_peer.count(), 0, "the owner itself has taken it");
        // Another owner goes on with what waits. The event that is under way ends where it is.
        second_as_peer.owns_all(true);
        first_as_peer.owns_all(false);
        settled().await;
        instance.answers(&event, "0").await;
        let event = instance.event().await;
        assert_eq!(first_as_peer.count(), 1, "the other one has taken it");
        instance.answers(&event, "0").await;
        settled().await;
        assert_eq!(waiting(&first).await, 0);
    })
    .await;
}
