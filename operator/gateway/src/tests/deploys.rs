//! Functions that change while they are called: each call is answered by one revision, the newest last.

use super::stage::{Stage, function, named, on_stage, settled};
use crate::catalog::Deployment;

fn second(spec: &str) -> Deployment {
    Deployment {
        revision: "second".into(),
        ..function(spec)
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_revision_takes_the_calls_that_wait_and_the_old_one_ends_after_its_last() {
    on_stage(async {
        let spec = "concurrency: {reserved: 1, queue: 10}";
        let mut stage = Stage::of(function(spec)).await;
        let running = stage.call("1");
        let mut old = stage.instance().await;
        let event = old.event().await;
        let queued = stage.call("2");
        settled().await;
        stage.gateway.deploy(vec![second(spec)]).await;
        assert!(stage.starts().await.is_empty(), "the limit holds");
        old.answers(&event, "\"old\"").await;
        assert_eq!(running.answer().await.text(), "\"old\"");

        let start = stage.start().await;
        assert_eq!(start.revision(), "second");
        let mut new = start.up(&stage.logs);
        assert_eq!(new.serves("\"new\"").await, "2");
        assert_eq!(queued.answer().await.text(), "\"new\"");
        old.ended().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_changes_no_instance_keeps_them_and_counts_at_once() {
    on_stage(async {
        let mut stage = Stage::of(function("concurrency: {reserved: 1, queue: 0}")).await;
        let first = stage.call("1");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        assert_eq!(stage.call("2").answer().await.status.as_u16(), 429);
        let wider = function("concurrency: {reserved: 2, queue: 0}");
        stage.gateway.deploy(vec![wider]).await;
        let second = stage.call("2");
        let mut other = stage.instance().await;
        assert_eq!(other.serves("2").await, "2");
        instance.answers(&event, "1").await;
        for (caller, text) in [(first, "1"), (second, "2")] {
            assert_eq!(caller.answer().await.text(), text);
        }
        settled().await;
        let third = stage.call("3");
        assert_eq!(instance.serves("3").await, "3");
        assert_eq!(third.answer().await.text(), "3");
        assert!(stage.starts().await.is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_function_that_is_deleted_is_not_found_and_its_instances_end() {
    on_stage(async {
        let mut stage = Stage::of(function("concurrency: {reserved: 1}")).await;
        let running = stage.call("1");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        let queued = stage.call("2");
        settled().await;
        stage.gateway.deploy(vec![named("other", "")]).await;
        let not_found = (404, "ResourceNotFoundException");
        assert_eq!(queued.answer().await.error(), not_found);
        assert_eq!(stage.call("3").answer().await.error(), not_found);
        instance.answers(&event, "1").await;
        assert_eq!(running.answer().await.text(), "1");
        instance.ended().await;
        settled().await;
        let metrics = stage.status("/metrics").await.text();
        assert!(!metrics.contains("hello") && metrics.contains("other"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_provisioned_comes_up_before_the_first_call_and_stays() {
    on_stage(async {
        let spec = "keepAlive: 1, concurrency: {reserved: 3, provisioned: 2}";
        let mut stage = Stage::of(function(spec)).await;
        let mut instances = [stage.instance().await, stage.instance().await];
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        assert!(stage.starts().await.is_empty());
        let callers = [stage.call("1"), stage.call("2")];
        for instance in &mut instances {
            instance.serves("0").await;
        }
        for caller in callers {
            let answer = caller.answer().await;
            assert_eq!(
                (answer.text().as_str(), answer.header("server-timing")),
                ("0", "")
            );
        }
    })
    .await;
}
