//! Instances that are lost while they run a call: the caller is told, and the event is sent once.

use std::time::Duration;

use pilotlight_core::instance::failure::PAYLOAD_LIMIT;
use pilotlight_core::invoke::deadline::{CONFIRM_OVERDUE, OVERDUE_SLACK};

use super::stage::{Answer, Stage, function, on_stage, settled};

#[track_caller]
fn assert_lost(answer: &Answer, request_id: &str) {
    assert_eq!(answer.error(), (500, "ServiceException"));
    let message = answer.json()["Message"].to_string();
    assert!(message.contains(request_id), "{message}");
    assert!(message.contains("may have taken effect"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_machine_is_lost_is_told_so_and_never_sent_again() {
    on_stage(async {
        let mut stage = Stage::of(function("concurrency: {reserved: 1}")).await;
        let caller = stage.call("1");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        instance.is_lost();
        let answer = caller.answer().await;
        assert_lost(&answer, &event.request_id);
        assert_eq!(answer.header("x-amzn-requestid"), event.request_id);
        let lost = "pilotlight_invocations_total{namespace=\"local\",function=\"hello\",qualifier=\"$LATEST\",outcome=\"lost\"}";
        assert_eq!(stage.metric(lost).await, 1.0);
        assert!(stage.starts().await.is_empty());

        let caller = stage.call("2");
        let mut other = stage.instance().await;
        assert_eq!(other.serves("2").await, "2");
        assert_eq!(caller.answer().await.text(), "2");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_under_a_call_costs_the_instance_and_no_more() {
    on_stage(async {
        let mut stage = Stage::of(function("concurrency: {reserved: 1}")).await;
        let caller = stage.call("1");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        // Statuses go on: the supervisor is well.
        instance.cut(0);
        assert_lost(&caller.answer().await, &event.request_id);

        // The place of the lost one is free again, and nobody is beside the one that follows.
        let caller = stage.call("2");
        let mut other = stage.instance().await;
        assert_eq!(other.serves("2").await, "2");
        assert_eq!(caller.answer().await.text(), "2");
        instance.ended().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_function_that_stops_its_supervisor_loses_its_call_and_its_instance() {
    on_stage(async {
        let spec = "timeout: 30, concurrency: {reserved: 1}";
        let mut stage = Stage::of(function(spec)).await;
        let caller = stage.call("1");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        instance.stalls();
        let waiting = stage.call("2");
        let answer = caller.answer().await;
        assert_lost(&answer, &event.request_id);
        // The instance had just become idle.
        let longest = 2 * Duration::from_secs(30) + OVERDUE_SLACK + CONFIRM_OVERDUE;
        assert_eq!(answer.took.as_secs(), longest.as_secs());

        // The call that waited gave up before.
        assert_eq!(waiting.answer().await.status.as_u16(), 429);
        instance.ended().await;
        let caller = stage.call("3");
        let mut other = stage.instance().await;
        assert_eq!(other.serves("3").await, "3");
        assert_eq!(caller.answer().await.text(), "3");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_function_that_stops_its_supervisor_during_its_init_keeps_no_place() {
    on_stage(async {
        let spec = "timeout: 3, concurrency: {reserved: 1}";
        let mut stage = Stage::of(function(spec)).await;
        let caller = stage.call("1");
        let mut instance = stage.up().await;
        instance.stalls();
        let answer = caller.answer().await;
        assert_eq!(answer.error(), (502, "ResourceNotReadyException"));
        instance.ended().await;
        // A failed start is followed by its backoff.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let caller = stage.call("2");
        let mut other = stage.instance().await;
        assert_eq!(other.serves("2").await, "2");
        assert_eq!(caller.answer().await.text(), "2");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_event_and_an_answer_of_the_largest_size_pass() {
    on_stage(async {
        let mut stage = Stage::of(function("")).await;
        let payload = format!("\"{}\"", "x".repeat(PAYLOAD_LIMIT - 2));
        let caller = stage.call(&payload);
        let mut instance = stage.instance().await;
        let served = instance.serves(&payload).await;
        assert!(served == payload);
        let answer = caller.answer().await;
        assert!(answer.status == 200 && answer.body == payload);
        settled().await;
    })
    .await;
}
