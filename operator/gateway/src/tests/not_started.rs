//! Leases that provably never started: their calls go to another instance, once.

use std::time::Duration;

use super::instance::Instance;
use super::stage::{Stage, function, on_stage, settled};

/// Two idle instances; the gateway gives the next call to the first.
async fn two_idle(stage: &mut Stage) -> (Instance, Instance) {
    let callers = [stage.call("1"), stage.call("2")];
    let (mut first, mut second) = (stage.instance().await, stage.instance().await);
    second.serves("0").await;
    settled().await;
    first.serves("0").await;
    for caller in callers {
        assert_eq!(caller.answer().await.text(), "0");
    }
    settled().await;
    (first, second)
}

#[tokio::test(start_paused = true)]
async fn a_call_that_an_instance_refuses_as_busy_goes_to_another_one_once() {
    on_stage(async {
        let mut stage = Stage::of(function("concurrency: {reserved: 2}")).await;
        let (mut first, mut second) = two_idle(&mut stage).await;
        let lease = first.is_leased("another");
        let event = first.event().await;
        assert_eq!(event.payload, "\"another\"");

        let caller = stage.call("3");
        assert_eq!(second.serves("3").await, "3");
        assert_eq!(caller.answer().await.text(), "3");
        first.answers(&event, "0").await;
        assert_eq!(lease.await.unwrap().unwrap().body(), "0");

        // It has told that it is free: both serve, and none is started.
        let callers = [stage.call("4"), stage.call("5")];
        let served = [first.serves("0").await, second.serves("0").await];
        assert!(served == ["4", "5"] || served == ["5", "4"], "{served:?}");
        for caller in callers {
            assert_eq!(caller.answer().await.status.as_u16(), 200);
        }
        assert!(stage.starts().await.is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_connection_was_closed_before_it_was_sent_goes_to_another_instance_once() {
    on_stage(async {
        let mut stage = Stage::of(function("concurrency: {reserved: 2}")).await;
        let (mut first, mut second) = two_idle(&mut stage).await;
        first.cut(0);
        settled().await;
        let caller = stage.call("3");
        assert_eq!(second.serves("3").await, "3");
        assert_eq!(caller.answer().await.text(), "3");
        // Nothing reaches the other one any more, so it is given up.
        first.ended().await;
        assert!(!first.has_event() && !second.has_event());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_in_an_instance_whose_process_ends_is_run_by_the_next_process() {
    on_stage(async {
        let mut stage = Stage::of(function("concurrency: {reserved: 1}")).await;
        let first = stage.call("1");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        instance.posts(&event, "response", "1").await;
        assert_eq!(first.answer().await.text(), "1");
        // Leased, but not delivered, as the runtime process has not called `next`.
        let second = stage.call("2");
        settled().await;
        assert_eq!(
            stage
                .metric("pilotlight_in_flight{namespace=\"local\",function=\"hello\",qualifier=\"$LATEST\"}")
                .await,
            1.0
        );
        instance.crashes();
        instance.has_started(2).await;
        assert_eq!(instance.serves("2").await, "2");
        assert_eq!(second.answer().await.text(), "2");
        settled().await;
        assert!(!instance.has_event() && stage.starts().await.is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_for_an_instance_that_cannot_be_reached_any_more_is_handed_back_at_once() {
    on_stage(async {
        let mut stage = Stage::of(function("concurrency: {reserved: 2}")).await;
        let (mut first, mut second) = two_idle(&mut stage).await;
        // The gateway waits for the reason of its end, which does not come.
        first.cut(0);
        first.cut(1);
        settled().await;
        let caller = stage.call("3");
        assert_eq!(second.serves("3").await, "3");
        let answer = caller.answer().await;
        assert_eq!(answer.text(), "3");
        assert!(answer.took < Duration::from_millis(100), "{answer:?}");
        first.ended().await;
    })
    .await;
}
