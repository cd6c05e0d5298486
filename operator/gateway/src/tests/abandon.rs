//! Callers that go away: a queued call is forgotten, a running one goes on to its end.

use super::stage::{Stage, function, on_stage, settled};

#[tokio::test(start_paused = true)]
async fn a_queued_call_whose_caller_has_gone_leaves_its_place_and_reaches_no_handler() {
    on_stage(async {
        let mut stage = Stage::of(function("concurrency: {reserved: 1, queue: 1}")).await;
        let first = stage.call("1");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        let second = stage.call("2");
        settled().await;
        assert_eq!(stage.call("3").answer().await.status.as_u16(), 429);

        second.goes().await;
        let fourth = stage.call("4");
        instance.answers(&event, "1").await;
        assert_eq!(instance.serves("4").await, "4");
        assert_eq!(fourth.answer().await.text(), "4");
        first.answer().await;
        settled().await;
        assert!(!instance.has_event());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_running_call_whose_caller_has_gone_keeps_its_instance_to_its_end() {
    on_stage(async {
        let mut stage = Stage::of(function("concurrency: {reserved: 1, queue: 1}")).await;
        let first = stage.call("1");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        first.goes().await;
        let second = stage.call("2");
        settled().await;
        assert!(!second.has_answer() && stage.starts().await.is_empty());
        assert_eq!(
            stage
                .metric("pilotlight_in_flight{namespace=\"local\",function=\"hello\",qualifier=\"$LATEST\"}")
                .await,
            1.0
        );

        instance.answers(&event, "1").await;
        assert_eq!(instance.serves("2").await, "2");
        assert_eq!(second.answer().await.text(), "2");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_caller_has_gone_before_it_came_up_serves_the_next_call() {
    on_stage(async {
        let mut stage = Stage::of(function("concurrency: {reserved: 1}")).await;
        let first = stage.call("1");
        let start = stage.start().await;
        first.goes().await;
        settled().await;
        assert!(!start.is_given_up());
        let mut instance = start.up(&stage.logs);
        instance.asks();
        settled().await;
        assert!(!instance.has_event());
        let second = stage.call("2");
        assert_eq!(instance.serves("2").await, "2");
        let answer = second.answer().await;
        assert_eq!(answer.text(), "2");
        // It was up before the call came.
        assert_eq!(answer.header("server-timing"), "");
        assert!(stage.starts().await.is_empty());
    })
    .await;
}
