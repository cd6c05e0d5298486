//! A function that goes from one gateway to another, with its instances: nothing is lost, or sent twice.

use std::time::Duration;

use super::peers::two;
use super::stage::{Stage, function, on_stage, settled, shared};
use crate::config::Config;

#[tokio::test(start_paused = true)]
async fn queued_calls_move_to_the_new_owner_and_the_running_one_ends_where_it_is() {
    on_stage(async {
        let ((mut first, to_second), (mut second, _)) =
            two("concurrency: {reserved: 1, queue: 10}").await;
        let running = first.call("1");
        let mut instance = first.instance().await;
        let event = instance.event().await;
        let queued = [first.call("2"), first.call("3")];
        settled().await;

        first.loses().await;
        second.gains(&[&instance.name]).await;
        let adopted = second.start().await;
        assert_eq!(adopted.name, instance.name);
        adopted.found(instance.line());
        settled().await;
        // The new owner has found it busy.
        assert!(queued.iter().all(|caller| !caller.has_answer()));
        instance.answers(&event, "\"one\"").await;
        assert_eq!(running.answer().await.text(), "\"one\"");

        // In whatever order: which of them learns first where to go is not decided.
        let mut served = Vec::new();
        for _ in 0..2 {
            let event = instance.event().await;
            instance.answers(&event, &event.payload).await;
            served.push(event.payload);
        }
        served.sort();
        assert_eq!(served, ["2", "3"]);
        for (caller, text) in queued.into_iter().zip(["2", "3"]) {
            assert_eq!(caller.answer().await.text(), text);
        }
        assert_eq!(to_second.count(), 2);
        assert!(first.starts().await.is_empty() && second.starts().await.is_empty());
        let live = first.metric("pilotlight_instances{namespace=\"local\",function=\"hello\",qualifier=\"$LATEST\",state=\"idle\"}");
        assert_eq!(live.await, 0.0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_of_a_function_that_comes_back_while_it_runs_a_call_is_kept() {
    on_stage(async {
        let ((mut first, _), (second, _)) = two("concurrency: {reserved: 1, queue: 10}").await;
        let running = first.call("1");
        let mut instance = first.instance().await;
        let event = instance.event().await;
        first.loses().await;
        second.gains(&[]).await;
        second.loses().await;
        first.gains(&[&instance.name]).await;

        let next = first.call("2");
        settled().await;
        instance.answers(&event, "1").await;
        assert_eq!(running.answer().await.text(), "1");
        assert_eq!(instance.serves("2").await, "2");
        assert_eq!(next.answer().await.text(), "2");
        assert!(first.starts().await.is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_released_lives_on_for_the_new_owner() {
    on_stage(async {
        let ((mut first, _), (mut second, to_first)) = two("keepAlive: 60").await;
        let caller = second.call("1");
        let mut instance = first.instance().await;
        instance.serves("1").await;
        assert_eq!(caller.answer().await.text(), "1");
        assert_eq!(to_first.count(), 1);
        settled().await;

        first.loses().await;
        settled().await;
        second.gains(&[&instance.name]).await;
        second.start().await.found(instance.line());
        let caller = second.call("2");
        assert_eq!(instance.serves("2").await, "2");
        assert_eq!(caller.answer().await.text(), "2");
        assert!(second.starts().await.is_empty());
        instance.ended().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_for_a_function_that_is_nobodys_waits_for_an_owner_but_not_for_ever() {
    on_stage(async {
        let mut stage = Stage::new(Config::default(), None);
        stage.gateway.deploy(vec![shared(function(""))]).await;
        let waits = stage.call("1");
        settled().await;
        assert!(!waits.has_answer());
        stage.gains(&[]).await;
        let mut instance = stage.instance().await;
        assert_eq!(instance.serves("1").await, "1");
        assert_eq!(waits.answer().await.text(), "1");

        stage.loses().await;
        let answer = stage.call("2").answer().await;
        assert_eq!(answer.error(), (500, "ServiceException"));
        assert!(answer.text().contains("nothing was executed"));
        assert_eq!(answer.took.as_secs(), 10);
    })
    .await;
}

/// The time in a queue is no time without an owner, at this gateway nor at the one that has passed the call on.
#[tokio::test(start_paused = true)]
async fn a_call_that_has_queued_for_long_moves_to_the_new_owner_as_well() {
    on_stage(async {
        let ((mut first, _), (mut second, _)) =
            two("timeout: 60, concurrency: {reserved: 1, queue: 10}").await;
        let running = first.call("1");
        let mut instance = first.instance().await;
        let event = instance.event().await;
        let queued = [first.call("2"), second.call("3")];
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(queued.iter().all(|caller| !caller.has_answer()));

        first.loses().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        second.gains(&[&instance.name]).await;
        second.start().await.found(instance.line());
        instance.answers(&event, "1").await;
        running.answer().await;
        for _ in 0..2 {
            let event = instance.event().await;
            instance.answers(&event, &event.payload).await;
        }
        for (caller, text) in queued.into_iter().zip(["2", "3"]) {
            assert_eq!(caller.answer().await.text(), text);
        }
    })
    .await;
}
