//! What a function may use: instances, places and bytes in its queue, time to wait, attempts to start.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pilotlight_core::instance::failure::PAYLOAD_LIMIT;
use pilotlight_core::reason::Notice;
use serde_json::json;

use super::stage::{Stage, function, on_stage, settled};
use crate::config::Config;

#[tokio::test(start_paused = true)]
async fn a_call_beyond_limit_and_queue_is_refused_at_once() {
    on_stage(async {
        let mut stage = Stage::of(function("concurrency: {reserved: 1, queue: 2}")).await;
        let callers: Vec<_> = ["1", "2", "3"].map(|n| stage.call(n)).into();
        settled().await;
        let refused = stage.call("4").answer().await;
        assert_eq!(refused.error(), (429, "TooManyRequestsException"));
        let reason = "ReservedFunctionConcurrentInvocationLimitExceeded";
        assert_eq!(refused.json()["Reason"], reason);
        assert_eq!(refused.took, Duration::ZERO);

        let mut instance = stage.instance().await;
        for (n, caller) in ["1", "2", "3"].into_iter().zip(callers) {
            assert_eq!(instance.serves("0").await, n);
            assert_eq!(caller.answer().await.status.as_u16(), 200);
        }
        let throttled = "pilotlight_invocations_total{namespace=\"local\",function=\"hello\",qualifier=\"$LATEST\",outcome=\"throttled\"}";
        assert_eq!(stage.metric(throttled).await, 1.0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_function_with_no_concurrency_starts_nothing() {
    on_stage(async {
        let mut stage = Stage::of(function("concurrency: {reserved: 0}")).await;
        let refused = stage.call("1").answer().await;
        assert_eq!(refused.error(), (429, "TooManyRequestsException"));
        assert!(stage.starts().await.is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn payloads_that_wait_are_bounded_in_bytes() {
    on_stage(async {
        let config = Config {
            queue_bytes: 100,
            ..Config::default()
        };
        let mut stage = Stage::new(config, None);
        let deployment = function("concurrency: {reserved: 1, queue: 100}");
        stage.gateway.deploy(vec![deployment]).await;
        let payload = json!("x".repeat(48)).to_string();
        let first = stage.call(&payload);
        let second = stage.call(&payload);
        settled().await;
        let third = stage.call("1").answer().await;
        assert_eq!(third.error(), (429, "TooManyRequestsException"));
        assert_eq!(third.json()["Reason"], "CallerRateLimitExceeded");

        // What runs is in the queue no more.
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        let fourth = stage.call("4");
        settled().await;
        assert!(!fourth.has_answer());
        instance.answers(&event, "1").await;
        instance.serves("2").await;
        assert_eq!(instance.serves("4").await, "4");
        for caller in [first, second, fourth] {
            assert_eq!(caller.answer().await.status.as_u16(), 200);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_a_busy_instance_as_long_as_it_may_and_reaches_it_no_later() {
    on_stage(async {
        let mut stage = Stage::of(function("timeout: 60, concurrency: {reserved: 1}")).await;
        let first = stage.call("1");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        let second = stage.call("2").answer().await;
        assert_eq!(second.error(), (429, "TooManyRequestsException"));
        assert_eq!(
            second.took.as_secs(),
            Config::default().queue_wait.as_secs()
        );
        instance.answers(&event, "1").await;
        assert_eq!(first.answer().await.text(), "1");
        settled().await;
        assert!(!instance.has_event());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_for_which_no_instance_comes_up_is_told_that_and_not_of_a_limit() {
    on_stage(async {
        let mut stage = Stage::of(function("")).await;
        let caller = stage.call("1");
        let start = stage.start().await;
        let answer = caller.answer().await;
        assert_eq!(answer.error(), (502, "ResourceNotReadyException"));
        assert_eq!(
            answer.took.as_secs(),
            Config::default().queue_wait.as_secs()
        );
        assert!(!start.is_given_up());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_is_tried_again_and_the_second_failure_is_told() {
    on_stage(async {
        let mut stage = Stage::of(function("")).await;
        let caller = stage.call("1");
        stage.start().await.fails("no room");
        let failed = tokio::time::Instant::now();
        let again = stage.start().await;
        assert_eq!(failed.elapsed().as_millis(), 250);
        assert!(!caller.has_answer());
        again.fails("no room at all");
        let answer = caller.answer().await;
        assert_eq!(answer.error(), (502, "ResourceNotReadyException"));
        let told = Notice::CannotStart.sentence(answer.header("x-amzn-requestid"));
        assert_eq!(answer.json()["message"], told);

        // Within the pause nothing is started, and who comes is told at once.
        let early = stage.call("2").answer().await;
        assert_eq!(early.error(), (502, "ResourceNotReadyException"));
        assert!(early.took.is_zero() && stage.starts().await.is_empty());
        tokio::time::sleep(Duration::from_millis(500)).await;
        let late = stage.call("3");
        let mut instance = stage.instance().await;
        assert_eq!(instance.serves("3").await, "3");
        assert_eq!(late.answer().await.text(), "3");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn while_instances_are_refused_they_are_asked_for_every_second_at_least() {
    on_stage(async {
        let mut stage = Stage::of(function("")).await;
        stage.backend.refuses.store(true, Ordering::Relaxed);
        for n in 0..6 {
            let caller = stage.call("1");
            stage.start().await.fails("exceeded quota");
            // Even the first is told at once: to ask again costs nothing.
            let answer = caller.answer().await;
            assert_eq!(answer.error(), (502, "ResourceNotReadyException"), "{n}");
            assert!(answer.took.is_zero(), "{n}: {answer:?}");
            let early = stage.call("1").answer().await;
            assert_eq!(early.error(), (502, "ResourceNotReadyException"), "{n}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        stage.backend.refuses.store(false, Ordering::Relaxed);
        let caller = stage.call("2");
        let mut instance = stage.instance().await;
        assert_eq!(instance.serves("2").await, "2");
        assert_eq!(caller.answer().await.text(), "2");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_event_beyond_the_limit_is_refused_before_an_instance_is_started() {
    on_stage(async {
        let mut stage = Stage::of(function("")).await;
        let payload = format!("\"{}\"", "x".repeat(PAYLOAD_LIMIT - 1));
        let answer = stage.call(&payload).answer().await;
        assert_eq!(answer.error(), (413, "RequestTooLargeException"));
        assert!(stage.starts().await.is_empty());
        let refused = "pilotlight_invocations_total{namespace=\"local\",function=\"hello\",qualifier=\"$LATEST\",outcome=\"refused\"}";
        assert_eq!(stage.metric(refused).await, 1.0);
    })
    .await;
}
