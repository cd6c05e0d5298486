//! Calls that reach a gateway which does not own the function: the owner runs them, and the caller gets its
//! outcome as if there were one gateway.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use pilotlight_core::reason::Notice;

use super::peers::{Other, two};
use super::stage::{Stage, function, invocation, on_stage, settled, shared};
use crate::config::Config;

#[tokio::test(start_paused = true)]
async fn a_forwarded_call_keeps_its_request_id_and_reaches_the_handler_as_it_was_made() {
    on_stage(async {
        let ((mut first, _), (second, to_first)) = two("").await;
        let trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
        let request = invocation("hello:$LATEST")
            .header("x-amz-client-context", "eyJjdXN0b20iOnsiYSI6MX19")
            .header("x-amz-log-type", "Tail")
            .header("x-amzn-trace-id", trace);
        let caller = second.send(request.body(Body::from("{\"name\": 1}")));
        // Without the passing of time the instance is as old as the call, which is then no cold start.
        settled().await;
        let mut instance = first.instance().await;
        let event = instance.event().await;
        assert_eq!(event.payload, "{\"name\": 1}");
        let header = |name| event.headers[name].to_str().unwrap();
        let arn = "arn:aws:lambda:us-east-1:000000000000:function:hello:$LATEST";
        assert_eq!(header("lambda-runtime-invoked-function-arn"), arn);
        let counted = format!("{trace};Lineage=1:b86b5ecb:0");
        assert_eq!(header("lambda-runtime-trace-id"), counted);
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
        assert_eq!(answer.header("x-amzn-trace-id"), counted);
        assert!(!answer.header("x-amz-log-result").is_empty());
        assert!(answer.header("server-timing").contains("queue;dur="));
        assert_eq!(to_first.count(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_function_is_passed_back_as_the_owner_has_it() {
    on_stage(async {
        let ((mut first, _), (second, _)) = two("").await;
        let caller = second.call("1");
        let mut instance = first.instance().await;
        let event = instance.event().await;
        let error = r#"{"errorMessage":"m","errorType":"T"}"#;
        instance.posts(&event, "error", error).await;
        let answer = caller.answer().await;
        assert_eq!(
            (answer.status.as_u16(), answer.text().as_str()),
            (200, error)
        );
        assert_eq!(answer.header("x-amz-function-error"), "Unhandled");
        assert_eq!(answer.header("x-amzn-requestid"), event.request_id);
        let counted = "pilotlight_invocations_total{namespace=\"local\",function=\"hello\",qualifier=\"$LATEST\",outcome=\"function_error\"}";
        assert_eq!(first.metric(counted).await, 1.0);
        assert_eq!(second.metric(counted).await, 0.0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_the_owner_refuses_a_forwarded_call_with_its_reason() {
    on_stage(async {
        let ((_first, _), (second, to_first)) = two("concurrency: {reserved: 0}").await;
        let answer = second.call("1").answer().await;
        assert_eq!(answer.error(), (429, "TooManyRequestsException"));
        let reason = "ReservedFunctionConcurrentInvocationLimitExceeded";
        assert_eq!(answer.json()["Reason"], reason);
        assert_eq!(to_first.count(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_reason_why_no_instance_starts_comes_back_over_the_hop_and_not_to_the_caller() {
    on_stage(async {
        let ((mut first, _), (second, _)) = two("").await;
        let caller = second.call("1");
        let reason = "the image registry/shop:1 ist nicht da: \u{fc}";
        let answer = loop {
            first.start().await.fails(reason);
            settled().await;
            if caller.has_answer() {
                break caller.answer().await;
            }
        };
        assert_eq!(answer.error(), (502, "ResourceNotReadyException"));
        let reason = Notice::CannotStart.sentence(answer.header("x-amzn-requestid"));
        assert_eq!(answer.json()["message"], reason);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_follows_an_owner_that_changes_on_the_way() {
    on_stage(async {
        let ((first, to_second), (mut second, to_first)) = two("").await;
        first.loses().await;
        let caller = second.call("1");
        settled().await;
        // The first gateway has it, and waits to learn that it is the owner.
        assert_eq!((to_first.count(), to_second.count()), (1, 0));
        second.gains(&[]).await;
        let mut instance = second.instance().await;
        let event = instance.event().await;
        assert_eq!((to_first.count(), to_second.count()), (1, 1));
        instance.answers(&event, "1").await;
        let answer = caller.answer().await;
        assert_eq!(answer.text(), "1");
        assert_eq!(answer.header("x-amzn-requestid"), event.request_id);
        assert_eq!(answer.took.as_secs(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn gateways_that_take_each_other_for_the_owner_pass_a_call_on_only_a_few_times() {
    on_stage(async {
        let ((mut first, to_second), (mut second, to_first)) = two("").await;
        first.loses().await;
        let answer = second.call("1").answer().await;
        assert_eq!(answer.error(), (500, "ServiceException"));
        assert!(answer.text().contains("nothing was executed"));
        // Three hops (second, first, second, first), and then one until the time is over.
        assert_eq!((to_first.count(), to_second.count()), (3, 1));
        assert_eq!(answer.took.as_secs(), 10);
        assert!(first.starts().await.is_empty() && second.starts().await.is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_from_a_peer_waits_until_this_gateway_learns_that_it_is_the_owner() {
    on_stage(async {
        let ((mut first, to_second), (second, to_first)) = two("").await;
        first.loses().await;
        let caller = second.call("1");
        tokio::time::sleep(Duration::from_secs(1)).await;
        first.gains(&[]).await;
        let mut instance = first.instance().await;
        assert_eq!(instance.serves("1").await, "1");
        assert_eq!(caller.answer().await.text(), "1");
        assert_eq!((to_first.count(), to_second.count()), (1, 0));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_a_peer_never_got_is_sent_again() {
    on_stage(async {
        let ((mut first, _), (second, to_first)) = two("").await;
        to_first.is_unreachable();
        let caller = second.call("1");
        settled().await;
        assert!(to_first.count() == 1 && !caller.has_answer());
        to_first.is(&first);
        let mut instance = first.instance().await;
        let event = instance.event().await;
        assert_eq!(to_first.count(), 2);
        instance.answers(&event, "1").await;
        assert_eq!(
            caller.answer().await.header("x-amzn-requestid"),
            event.request_id
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_the_owner_cannot_read_is_refused_and_named_as_never_started() {
    on_stage(async {
        let ((mut first, _), (second, to_first)) = two("").await;
        to_first.does_not_get("pilotlight-target", &first);
        let answer = second.call("1").answer().await;
        assert_eq!(answer.error(), (500, "ServiceException"));
        let told = Notice::Incompatible.sentence(answer.header("x-amzn-requestid"));
        assert_eq!(answer.json()["Message"], told);
        assert_eq!(to_first.count(), 1);
        assert!(first.starts().await.is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_forwarded_call_whose_peer_is_lost_is_not_sent_again() {
    on_stage(async {
        let lost = Arc::new(Other::default());
        let mut stage = Stage::new(Config::default(), Some(lost.clone()));
        stage.gateway.deploy(vec![shared(function(""))]).await;
        let answer = stage.call("1").answer().await;
        assert_eq!(answer.error(), (500, "ServiceException"));
        let request_id = answer.header("x-amzn-requestid");
        assert!(!request_id.is_empty() && answer.text().contains(request_id));
        assert!(answer.text().contains("it was not sent again"));
        assert_eq!(lost.count(), 1);
        assert!(stage.starts().await.is_empty());
    })
    .await;
}
