//! Events that have ended: their records go to the destinations, and what failed can be replayed.
//!
//! Here destinations are functions. `tests/destinations` has the others, with real receivers.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use super::events::{accepted, count, folder, stage, waiting};
use super::instance::Instance;
use super::stage::{Stage, function, named, on_stage, settled};

const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:hello:$LATEST";

/// The next event of the instance, which answers 0.
async fn record(instance: &mut Instance) -> Value {
    serde_json::from_str(&instance.serves("0").await).expect("JSON")
}

async fn dead(stage: &Stage) -> u64 {
    let answer = stage.get("/pilotlight/v1/functions/hello/events").await;
    answer.json()["dead"].as_u64().expect("a count")
}

async fn replay(stage: &Stage) -> u64 {
    let request = Request::post("/pilotlight/v1/functions/hello/events/replay");
    let answer = stage.send(request.body(Body::empty())).answer().await;
    answer.json()["replayed"].as_u64().expect("a count")
}

#[tokio::test(start_paused = true)]
async fn the_record_of_an_event_is_an_event_of_its_destination() {
    on_stage(async {
        let folder = folder();
        let spec = "keepAlive: 3600, \
                    async: {retries: 1, onSuccess: {function: done}, onFailure: {function: failed}}";
        let all = [
            function(spec),
            named("done", "keepAlive: 3600"),
            named("failed", ""),
        ];
        let mut stage = stage(&folder, all.into()).await;
        let answer = accepted(&stage, "{\"n\": 1}").await;
        let mut hello = stage.instance().await;
        hello.serves("[ 2 ]").await;
        let mut done = stage.instance().await;
        let found = record(&mut done).await;
        let request_id = answer.header("x-amzn-requestid");
        assert_eq!(
            found["requestContext"],
            json!({
                "requestId": request_id,
                "functionArn": ARN,
                "condition": "Success",
                "approximateInvokeCount": 1,
            })
        );
        assert_eq!(found["requestPayload"], json!({"n": 1}));
        assert_eq!(found["responsePayload"], json!([2]));

        accepted(&stage, "3").await;
        for _ in 0..2 {
            let event = hello.event().await;
            let error = "{\"errorType\": \"Broken\"}";
            hello.posts(&event, "error", error).await;
            hello.asks();
        }
        let mut failed = stage.instance().await;
        let found = record(&mut failed).await;
        assert_eq!(found["requestContext"]["condition"], "RetriesExhausted");
        assert_eq!(found["requestContext"]["approximateInvokeCount"], 2);
        assert_eq!(found["responseContext"]["functionError"], "Unhandled");
        assert_eq!(found["responsePayload"]["errorType"], "Broken");
        settled().await;
        assert_eq!((waiting(&stage).await, dead(&stage).await), (0, 0));
        let delivered = "outcome=\"delivered\"";
        assert_eq!(count(&stage, "event_deliveries", delivered).await, 2.0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_has_failed_is_a_dead_letter_until_it_is_replayed() {
    on_stage(async {
        let folder = folder();
        let mut stage = stage(
            &folder,
            vec![function("keepAlive: 3600, async: {retries: 0}")],
        )
        .await;
        let answer = accepted(&stage, "1").await;
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        instance.posts(&event, "error", "{}").await;
        instance.asks();
        settled().await;
        assert_eq!((waiting(&stage).await, dead(&stage).await), (0, 1));
        assert_eq!(count(&stage, "dead_letters", "").await, 1.0);

        assert_eq!(replay(&stage).await, 1);
        let event = instance.event().await;
        assert_eq!(
            (event.payload.as_str(), &*event.request_id),
            ("1", answer.header("x-amzn-requestid"))
        );
        instance.answers(&event, "0").await;
        settled().await;
        assert_eq!((waiting(&stage).await, dead(&stage).await), (0, 0));
        assert_eq!(replay(&stage).await, 0);

        accepted(&stage, "2").await;
        let event = instance.event().await;
        instance.posts(&event, "error", "{}").await;
        settled().await;
        let purge = Request::delete("/pilotlight/v1/functions/hello/events/dead");
        let purged = stage.send(purge.body(Body::empty())).answer().await;
        assert_eq!(purged.json()["purged"], 1);
        assert_eq!(dead(&stage).await, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_record_waits_for_its_destination_and_the_function_does_not_run_again() {
    on_stage(async {
        let folder = folder();
        let spec =
            "concurrency: {reserved: 1}, keepAlive: 3600, async: {onSuccess: {function: later}}";
        let mut first = stage(&folder, vec![function(spec)]).await;
        accepted(&first, "1").await;
        let mut hello = first.instance().await;
        hello.serves("0").await;
        settled().await;
        assert_eq!(waiting(&first).await, 1, "its record waits");
        // The record takes no place of the function's own events.
        accepted(&first, "2").await;
        hello.serves("0").await;
        settled().await;
        assert!(count(&first, "event_deliveries", "outcome=\"failed\"").await >= 2.0);
        first.gateway.shutdown().await;
        drop(hello);
        drop(first);
        settled().await;

        let all = vec![function(spec), named("later", "concurrency: {reserved: 1}")];
        let mut next = stage(&folder, all).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        let mut later = next.instance().await;
        let mut seen = [record(&mut later).await, record(&mut later).await];
        seen.sort_by_key(|record| record["requestPayload"].as_u64());
        let payloads: Vec<&Value> = seen
            .iter()
            .map(|record| &record["requestPayload"])
            .collect();
        assert_eq!(payloads, [&json!(1), &json!(2)]);
        settled().await;
        assert!(next.starts().await.is_empty(), "nothing else runs");
        assert_eq!(waiting(&next).await, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_circle_of_destinations_ends() {
    on_stage(async {
        let folder = folder();
        let to =
            |name: &str| format!("keepAlive: 3600, async: {{onSuccess: {{function: {name}}}}}");
        let all = vec![function(&to("other")), named("other", &to("hello"))];
        let mut stage = stage(&folder, all).await;
        accepted(&stage, "1").await;
        let mut hello = stage.instance().await;
        hello.serves("0").await;
        let mut other = stage.instance().await;
        let mut ran = 0;
        loop {
            settled().await;
            if !other.has_event() {
                break;
            }
            other.serves("0").await;
            ran += 1;
            settled().await;
            if !hello.has_event() {
                break;
            }
            hello.serves("0").await;
        }
        // The chain's second function is the one that is counted.
        assert_eq!(ran, 16);
        assert_eq!(waiting(&stage).await, 0);
    })
    .await;
}
