//! Calls on their way to instances: one at a time each, started up to the limit, used again while warm.

use std::time::Duration;

use axum::body::Body;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use pilotlight_core::invoke::pool::Pacing;

use super::stage::{Stage, function, invocation, on_stage, settled};
use crate::config::Config;

const TRACE: &str =
    "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1;a=b";
const COUNTED: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1;Lineage=1:b86b5ecb:0;a=b";

#[tokio::test(start_paused = true)]
async fn a_call_reaches_the_handler_as_it_was_made_and_the_answer_the_caller() {
    on_stage(async {
        let mut stage = Stage::of(function("")).await;
        let context = BASE64_STANDARD.encode(r#"{"custom":{"a":1}}"#);
        let caller = stage.send(
            invocation("hello:$LATEST")
                .header("x-amz-client-context", context)
                .header("x-amzn-trace-id", TRACE)
                .body(Body::from("{\"name\": 1}")),
        );
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        assert_eq!(event.payload, "{\"name\": 1}");
        let header = |name| event.headers[name].to_str().unwrap();
        let arn = "arn:aws:lambda:us-east-1:000000000000:function:hello:$LATEST";
        assert_eq!(header("lambda-runtime-invoked-function-arn"), arn);
        assert_eq!(header("lambda-runtime-trace-id"), COUNTED);
        let client_context = header("lambda-runtime-client-context");
        assert_eq!(client_context, r#"{"custom":{"a":1}}"#);

        instance.answers(&event, "[2]").await;
        let answer = caller.answer().await;
        assert_eq!(
            (answer.status.as_u16(), answer.text().as_str()),
            (200, "[2]")
        );
        assert_eq!(answer.header("x-amzn-requestid"), event.request_id);
        assert_eq!(answer.header("x-amz-executed-version"), "$LATEST");
        assert_eq!(answer.header("x-amz-function-error"), "");
        assert_eq!(answer.header("x-amzn-trace-id"), COUNTED);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_has_one_call_at_a_time_and_serves_the_next_one_warm() {
    on_stage(async {
        let mut stage = Stage::of(function("concurrency: {reserved: 1, queue: 10}")).await;
        let (first, second) = (stage.call("1"), stage.call("2"));
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        assert_eq!(event.payload, "1");
        instance.posts(&event, "response", "\"one\"").await;
        assert_eq!(first.answer().await.text(), "\"one\"");
        // The second has no event while the runtime process works after its answer.
        settled().await;
        assert!(!second.has_answer() && stage.starts().await.is_empty());
        let event = instance.event().await;
        assert_eq!(event.payload, "2");
        instance.answers(&event, "\"two\"").await;
        let second = second.answer().await;
        assert_eq!(second.text(), "\"two\"");
        assert_eq!(second.header("server-timing"), "");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn ten_calls_start_as_many_instances_as_the_limit_allows_and_all_are_answered() {
    on_stage(async {
        let mut stage = Stage::of(function("concurrency: {reserved: 3, queue: 10}")).await;
        let callers: Vec<_> = (0..10).map(|n| stage.call(&n.to_string())).collect();
        let starts = stage.starts().await;
        assert_eq!(starts.len(), 3);
        let up = |start: super::stage::Start| start.up(&stage.logs);
        let mut instances: Vec<_> = starts.into_iter().map(up).collect();
        instances
            .iter_mut()
            .for_each(super::instance::Instance::asks);
        let mut served = Vec::new();
        while served.len() < 10 {
            settled().await;
            let had = served.len();
            for instance in &mut instances {
                if instance.has_event() {
                    let event = instance.event().await;
                    instance.answers(&event, &event.payload).await;
                    served.push(event.payload);
                }
            }
            assert!(served.len() > had, "nothing moves after {served:?}");
        }
        for (n, caller) in callers.into_iter().enumerate() {
            assert_eq!(caller.answer().await.text(), n.to_string());
        }
        served.sort();
        assert_eq!(served, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
        assert!(stage.starts().await.is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_cold_start_is_told_phase_by_phase_and_a_warm_call_has_none() {
    on_stage(async {
        let mut stage = Stage::of(function("")).await;
        let caller = stage.call("1");
        let start = stage.start().await;
        tokio::time::advance(Duration::from_millis(300)).await;
        let mut instance = start.up(&stage.logs);
        instance.has_started(1).await;
        tokio::time::advance(Duration::from_millis(1250)).await;
        let event = instance.event().await;
        instance.answers(&event, "1").await;
        let answer = caller.answer().await;
        let timing = "queue;dur=0.00, start;dur=300.00, init;dur=1250.00";
        assert_eq!(answer.header("server-timing"), timing);
        assert_eq!(answer.took, Duration::from_millis(1550));

        let caller = stage.call("2");
        let event = instance.event().await;
        instance.answers(&event, "2").await;
        assert_eq!(caller.answer().await.header("server-timing"), "");
        let cold = stage
            .metric("pilotlight_cold_starts_total{namespace=\"local\",function=\"hello\",qualifier=\"$LATEST\"}")
            .await;
        assert_eq!(cold, 1.0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_instance_is_kept_for_its_keep_alive_and_ends_after_it() {
    on_stage(async {
        let mut stage = Stage::of(function("keepAlive: 60")).await;
        let first = stage.call("1");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        instance.answers(&event, "1").await;
        first.answer().await;

        tokio::time::sleep(Duration::from_secs(59)).await;
        let second = stage.call("2");
        let event = instance.event().await;
        assert_eq!(event.payload, "2");
        instance.answers(&event, "2").await;
        second.answer().await;

        let idle = tokio::time::Instant::now();
        instance.ended().await;
        assert_eq!(idle.elapsed().as_secs(), 60);
        let third = stage.call("3");
        let mut other = stage.instance().await;
        let event = other.event().await;
        other.answers(&event, "3").await;
        assert_eq!(third.answer().await.text(), "3");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn starts_beyond_the_burst_are_paced() {
    on_stage(async {
        let pacing = Pacing {
            burst: 2,
            interval: Duration::from_secs(5),
        };
        let config = Config {
            pacing,
            ..Config::default()
        };
        let mut stage = Stage::new(config, None);
        stage.gateway.deploy(vec![function("")]).await;
        let _callers: Vec<_> = (0..4).map(|_| stage.call("1")).collect();
        let begun = tokio::time::Instant::now();
        let (mut starts, mut waits) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            starts.push(stage.start().await);
            waits.push(begun.elapsed().as_secs());
        }
        assert_eq!(waits, [0, 0, 5, 10]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_does_not_answer_is_stopped_after_its_timeout_and_its_instance_serves_on() {
    on_stage(async {
        let mut stage = Stage::of(function("timeout: 3, concurrency: {reserved: 1}")).await;
        let caller = stage.call("1");
        let mut instance = stage.instance().await;
        instance.event().await;
        let answer = caller.answer().await;
        assert_eq!(answer.status.as_u16(), 200);
        assert_eq!(answer.header("x-amz-function-error"), "Unhandled");
        let body = answer.json();
        assert_eq!(body["errorType"], "Sandbox.Timedout", "{body}");
        assert_eq!(answer.took.as_secs(), 3);

        instance.has_started(2).await;
        let caller = stage.call("2");
        let event = instance.event().await;
        assert_eq!(event.payload, "2");
        instance
            .posts(&event, "error", r#"{"errorType":"E"}"#)
            .await;
        let answer = caller.answer().await;
        assert_eq!(answer.header("x-amz-function-error"), "Unhandled");
        assert_eq!(answer.text(), r#"{"errorType":"E"}"#);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_init_that_fails_answers_one_call_and_the_next_finds_a_fresh_process() {
    on_stage(async {
        let mut stage = Stage::of(function("concurrency: {reserved: 1}")).await;
        let first = stage.call("1");
        let mut instance = stage.up().await;
        instance.has_started(1).await;
        let error = r#"{"errorType":"Runtime.ImportModuleError"}"#;
        instance.fails_init(error).await;
        instance.crashes();
        let answer = first.answer().await;
        assert_eq!(answer.header("x-amz-function-error"), "Unhandled");
        assert_eq!(answer.text(), error);

        instance.has_started(2).await;
        let second = stage.call("2");
        assert_eq!(instance.serves("2").await, "2");
        assert_eq!(second.answer().await.text(), "2");
        assert!(stage.starts().await.is_empty());
    })
    .await;
}
