//! The CloudWatch Logs API: what its callers may read, how they read on, and live tails.
//!
//! `tests/sdk` asks with the SDKs and the command line of AWS.

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use pilotlight_core::access::Mode;
use pilotlight_core::ids::Qualifier;
use pilotlight_logs::entry::Origin;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::access::{Cluster, good};
use super::stage::{Answer, Stage, function, named, on_stage};
use crate::access::AccessConfig;
use crate::config::Config;

const GROUP: &str = "/aws/lambda/hello";
const STREAM: &str = "2026/01/31/[$LATEST]8f3c";

fn request(operation: &str) -> http::request::Builder {
    Request::post("/")
        .header("x-amz-target", format!("Logs_20140328.{operation}"))
        .header("content-type", "application/x-amz-json-1.1")
}

async fn ask(stage: &Stage, operation: &str, body: Value) -> Answer {
    let request = request(operation).body(Body::from(body.to_string()));
    stage.send(request).answer().await
}

/// The answer of an operation that succeeds.
async fn good_answer(stage: &Stage, operation: &str, body: Value) -> Value {
    let answer = ask(stage, operation, body).await;
    assert_eq!(answer.status, 200, "{operation}: {}", answer.text());
    assert_eq!(answer.header("content-type"), "application/x-amz-json-1.1");
    match answer.body.is_empty() {
        true => Value::Null,
        false => answer.json(),
    }
}

/// Status, type and text of an error.
async fn error(stage: &Stage, operation: &str, body: Value) -> (u16, String, String) {
    let answer = ask(stage, operation, body).await;
    let body = answer.json();
    let text = |field: &str| body[field].as_str().expect("a text").to_owned();
    (answer.status.as_u16(), text("__type"), text("message"))
}

/// Logs of `hello`: numbers of two instances by turns, one each second from 10:00:01 on.
async fn stage(count: u32) -> Stage {
    let stage = Stage::of(function("")).await;
    let feeds = ["8f3c", "4a1e"].map(|instance| {
        stage.logs.feed(Origin {
            function: "local/hello".parse().expect("a key"),
            qualifier: Qualifier::Latest,
            instance: instance.to_owned(),
        })
    });
    for number in 1..=count {
        let feed = &feeds[number as usize % 2];
        feed.line(&format!("2026-01-31T10:00:{number:02}Z stdout - {number}"));
    }
    stage
}

fn messages(answer: &Value) -> Vec<&str> {
    let events = answer["events"].as_array().expect("a list");
    let texts = events.iter().map(|event| event["message"].as_str());
    texts.map(|text| text.expect("a text")).collect()
}

#[tokio::test(start_paused = true)]
async fn the_events_of_a_stream_are_read_in_pages_in_both_directions() {
    on_stage(async {
        let stage = stage(9).await;
        // The instance of odd numbers: 1 3 5 7 9.
        let page = |token: Option<String>, from_head: bool| {
            let stream = "2026/01/31/[$LATEST]4a1e";
            let mut body = json!({ "logGroupName": GROUP, "logStreamName": stream, "limit": 2 });
            body["startFromHead"] = from_head.into();
            if let Some(token) = token {
                body["nextToken"] = token.into();
            }
            good_answer(&stage, "GetLogEvents", body)
        };
        let token = |page: &Value, field: &str| page[field].as_str().map(str::to_owned);
        let mut read = Vec::new();
        let mut now = page(None, true).await;
        loop {
            read.push(messages(&now).join(" "));
            let next = token(&now, "nextForwardToken");
            let then = page(next.clone(), true).await;
            if messages(&then).is_empty() {
                assert_eq!(token(&then, "nextForwardToken"), next, "the end");
                now = then;
                break;
            }
            now = then;
        }
        assert_eq!(read, ["1 3", "5 7", "9"]);
        let before_end = page(token(&now, "nextBackwardToken"), false).await;
        assert_eq!(messages(&before_end), ["7", "9"]);
        let latest = page(None, false).await;
        assert_eq!(messages(&latest), ["7", "9"]);
        let earlier = page(token(&latest, "nextBackwardToken"), false).await;
        assert_eq!(messages(&earlier), ["3", "5"]);
        let again = page(token(&earlier, "nextForwardToken"), true).await;
        assert_eq!(messages(&again), ["7", "9"]);
        let first = page(token(&earlier, "nextBackwardToken"), false).await;
        assert_eq!(messages(&first), ["1"]);
        let next = token(&first, "nextBackwardToken");
        let none = page(next.clone(), false).await;
        assert_eq!(
            (messages(&none).len(), token(&none, "nextBackwardToken")),
            (0, next)
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn events_are_filtered_by_pattern_stream_and_time() {
    on_stage(async {
        let stage = stage(9).await;
        let filter = |more: Value| {
            let mut body = json!({ "logGroupName": GROUP });
            let more = more.as_object().expect("an object").clone();
            body.as_object_mut().expect("an object").extend(more);
            good_answer(&stage, "FilterLogEvents", body)
        };
        let found = async |more: Value| messages(&filter(more).await).join(" ");
        assert_eq!(found(json!({})).await, "1 2 3 4 5 6 7 8 9");
        assert_eq!(found(json!({ "filterPattern": "%[246]%" })).await, "2 4 6");
        assert_eq!(found(json!({ "filterPattern": "[n > 7]" })).await, "8 9");
        assert_eq!(
            found(json!({ "logStreamNames": [STREAM] })).await,
            "2 4 6 8"
        );
        let prefix = json!({ "logStreamNamePrefix": "2026/01/31/[$LATEST]4a" });
        assert_eq!(found(prefix).await, "1 3 5 7 9");
        assert_eq!(found(json!({ "logStreamNamePrefix": "2026/02" })).await, "");
        // 10:00:03, which is included at both ends.
        let at = 1_769_853_603_000_i64;
        assert_eq!(found(json!({ "startTime": at, "endTime": at })).await, "3");
        assert_eq!(
            found(json!({ "startFromHead": false, "limit": 2 })).await,
            "9 8"
        );
        let mut token = Value::Null;
        let mut pages = Vec::new();
        loop {
            let mut more = json!({ "limit": 2, "filterPattern": "-5" });
            if !token.is_null() {
                more["nextToken"] = token;
            }
            let page = filter(more).await;
            pages.push(messages(&page).join(" "));
            token = page["nextToken"].clone();
            if token.is_null() {
                break;
            }
        }
        assert_eq!(pages, ["1 2", "3 4", "6 7", "8 9"]);
        let all = filter(json!({})).await;
        let first = &all["events"][0];
        assert_eq!(first["logStreamName"], "2026/01/31/[$LATEST]4a1e");
        assert_eq!(first["timestamp"], 1_769_853_601_000_i64);
        let ids = all["events"].as_array().expect("a list").iter();
        let ids =
            std::collections::BTreeSet::from_iter(ids.map(|event| event["eventId"].to_string()));
        assert_eq!(ids.len(), 9);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn groups_and_streams_are_listed() {
    on_stage(async {
        let stage = stage(3).await;
        let functions = ["hello", "other", "third"].map(|name| named(name, ""));
        stage.gateway.deploy(functions.into()).await;
        let groups = good_answer(&stage, "DescribeLogGroups", json!({ "limit": 2 })).await;
        let names = |groups: &Value| {
            let list = groups["logGroups"].as_array().expect("a list").iter();
            Vec::from_iter(
                list.map(|group| group["logGroupName"].as_str().expect("a name").to_owned()),
            )
        };
        assert_eq!(names(&groups), [GROUP, "/aws/lambda/other"]);
        let rest = json!({ "nextToken": groups["nextToken"] });
        let rest = good_answer(&stage, "DescribeLogGroups", rest).await;
        assert_eq!(
            (names(&rest), &rest["nextToken"]),
            (vec!["/aws/lambda/third".to_owned()], &Value::Null)
        );
        let arn = "arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/hello";
        assert_eq!(groups["logGroups"][0]["arn"], format!("{arn}:*"));
        for chosen in [
            json!({ "logGroupNamePrefix": "/aws/lambda/he" }),
            json!({ "logGroupNamePattern": "ell" }),
            json!({ "logGroupIdentifiers": [arn] }),
        ] {
            let groups = good_answer(&stage, "DescribeLogGroups", chosen.clone()).await;
            assert_eq!(names(&groups), [GROUP], "{chosen}");
        }
        let streams = async |more: Value| {
            let mut body = json!({ "logGroupIdentifier": arn });
            let more = more.as_object().expect("an object").clone();
            body.as_object_mut().expect("an object").extend(more);
            good_answer(&stage, "DescribeLogStreams", body).await
        };
        let by_time = json!({ "orderBy": "LastEventTime", "descending": true, "limit": 1 });
        let last = streams(by_time.clone()).await;
        assert_eq!(
            last["logStreams"][0]["logStreamName"],
            "2026/01/31/[$LATEST]4a1e"
        );
        assert_eq!(
            last["logStreams"][0]["lastEventTimestamp"],
            1_769_853_603_000_i64
        );
        let mut next = by_time;
        next["nextToken"] = last["nextToken"].clone();
        assert_eq!(
            streams(next).await["logStreams"][0]["logStreamName"],
            STREAM
        );
        let prefix = json!({ "logStreamNamePrefix": "2026/01/31/[$LATEST]8" });
        let chosen = streams(prefix).await;
        assert_eq!(chosen["logStreams"].as_array().expect("a list").len(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_refused_in_the_form_of_the_service() {
    on_stage(async {
        let stage = stage(1).await;
        let group = |more: Value| {
            let mut body = json!({ "logGroupName": GROUP });
            let more = more.as_object().expect("an object").clone();
            body.as_object_mut().expect("an object").extend(more);
            body
        };
        let both = json!({ "logGroupIdentifier": "/aws/lambda/hello" });
        for (operation, body, kind, part) in [
            (
                "PutLogEvents",
                json!({}),
                "UnknownOperationException",
                "`Logs_20140328.PutLogEvents`",
            ),
            (
                "FilterLogEvents",
                json!([]),
                "SerializationException",
                "JSON",
            ),
            (
                "FilterLogEvents",
                json!({}),
                "InvalidParameterException",
                "logGroupName",
            ),
            (
                "FilterLogEvents",
                group(both),
                "InvalidParameterException",
                "mutually exclusive",
            ),
            (
                "FilterLogEvents",
                json!({ "logGroupName": "/aws/lambda/nobody" }),
                "ResourceNotFoundException",
                "log group",
            ),
            (
                "FilterLogEvents",
                json!({ "logGroupName": "x y" }),
                "InvalidParameterException",
                "logGroupName",
            ),
            (
                "FilterLogEvents",
                group(json!({ "limit": 10_001 })),
                "InvalidParameterException",
                "'limit'",
            ),
            (
                "FilterLogEvents",
                group(json!({ "startTime": -1 })),
                "InvalidParameterException",
                "'startTime'",
            ),
            (
                "FilterLogEvents",
                group(json!({ "startTime": 2, "endTime": 1 })),
                "InvalidParameterException",
                "startTime",
            ),
            (
                "FilterLogEvents",
                group(json!({ "filterPattern": "a-b" })),
                "InvalidParameterException",
                "'a-b'",
            ),
            (
                "FilterLogEvents",
                group(json!({ "nextToken": "x" })),
                "InvalidParameterException",
                "nextToken",
            ),
            (
                "FilterLogEvents",
                group(json!({ "logStreamNames": ["a"], "logStreamNamePrefix": "a" })),
                "InvalidParameterException",
                "logStreamNames",
            ),
            (
                "GetLogEvents",
                group(json!({ "logStreamName": "2026/01/31/[$LATEST]0" })),
                "ResourceNotFoundException",
                "stream",
            ),
            (
                "GetLogEvents",
                group(json!({ "logStreamName": "a:b" })),
                "InvalidParameterException",
                "logStreamName",
            ),
            (
                "DescribeLogStreams",
                group(json!({ "limit": 51 })),
                "InvalidParameterException",
                "'limit'",
            ),
            (
                "DescribeLogStreams",
                group(json!({ "orderBy": "LastEventTime", "logStreamNamePrefix": "2" })),
                "InvalidParameterException",
                "LastEventTime",
            ),
            (
                "DescribeLogGroups",
                json!({ "logGroupNamePrefix": "a", "logGroupNamePattern": "a" }),
                "InvalidParameterException",
                "logGroupNamePrefix",
            ),
            (
                "PutRetentionPolicy",
                group(json!({ "retentionInDays": 2 })),
                "InvalidParameterException",
                "retentionInDays",
            ),
            (
                "StartLiveTail",
                json!({ "logGroupIdentifiers": [] }),
                "InvalidParameterException",
                "logGroupIdentifiers",
            ),
            (
                "StartLiveTail",
                json!({ "logGroupIdentifiers": [GROUP, GROUP], "logStreamNames": [STREAM] }),
                "InvalidParameterException",
                "exactly one",
            ),
        ] {
            let (status, found, message) = error(&stage, operation, body.clone()).await;
            assert_eq!(
                (status, found.as_str()),
                (400, kind),
                "{operation} {body}: {message}"
            );
            assert!(message.contains(part), "{operation} {body}: {message}");
        }
        let large = json!({ "logGroupName": "x".repeat(200 * 1024) });
        let (_, kind, message) = error(&stage, "FilterLogEvents", large).await;
        assert_eq!(
            (kind.as_str(), message.contains("131072 bytes")),
            ("InvalidParameterException", true)
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn how_long_a_group_is_kept_is_set_and_a_group_is_emptied() {
    on_stage(async {
        let stage = stage(3).await;
        let is_stored = async || {
            let functions = stage.logs.store().functions().await;
            !functions.expect("a list").is_empty()
        };
        let retention = async || {
            let groups = good_answer(&stage, "DescribeLogGroups", json!({})).await;
            groups["logGroups"][0]["retentionInDays"].clone()
        };
        assert_eq!(retention().await, Value::Null);
        let week = json!({ "logGroupName": GROUP, "retentionInDays": 7 });
        good_answer(&stage, "PutRetentionPolicy", week).await;
        assert_eq!(retention().await, 7);
        assert!(!is_stored().await, "its records are on their way");
        while !is_stored().await {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        assert_eq!(retention().await, 7);
        let group = json!({ "logGroupName": GROUP });
        good_answer(&stage, "DeleteRetentionPolicy", group.clone()).await;
        assert_eq!(retention().await, Value::Null);
        good_answer(&stage, "DeleteLogGroup", group.clone()).await;
        let left = good_answer(&stage, "FilterLogEvents", group).await;
        assert!(messages(&left).is_empty());
        stage
            .gateway
            .deploy(vec![function("logging: {retention: 30}")])
            .await;
        let week = json!({ "logGroupName": GROUP, "retentionInDays": 7 });
        let (_, kind, message) = error(&stage, "PutRetentionPolicy", week).await;
        assert_eq!(kind, "InvalidParameterException");
        assert!(
            message.contains("spec.logging.retention is 30 days"),
            "{message}"
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn each_operation_on_logs_needs_its_own_right() {
    on_stage(async {
        let all = [
            (
                "DescribeLogStreams",
                json!({ "logGroupName": GROUP }),
                "get",
            ),
            (
                "GetLogEvents",
                json!({ "logGroupName": GROUP, "logStreamName": STREAM }),
                "get",
            ),
            ("FilterLogEvents", json!({ "logGroupName": GROUP }), "get"),
            (
                "StartLiveTail",
                json!({ "logGroupIdentifiers": [GROUP] }),
                "get",
            ),
            (
                "PutRetentionPolicy",
                json!({ "logGroupName": GROUP, "retentionInDays": 1 }),
                "update",
            ),
            (
                "DeleteRetentionPolicy",
                json!({ "logGroupName": GROUP }),
                "update",
            ),
            ("DeleteLogGroup", json!({ "logGroupName": GROUP }), "delete"),
        ];
        for held in ["get", "update", "delete", "none"] {
            let right = format!("{held} functions/logs hello in namespace local");
            let config = Config {
                access: AccessConfig {
                    mode: Mode::Required,
                    judge: Some(Cluster::with(&[&right])),
                    ..AccessConfig::default()
                },
                ..Config::default()
            };
            let stage = Stage::new(config, None);
            stage
                .gateway
                .deploy(vec![function(""), named("other", "")])
                .await;
            let send = async |operation: &str, body: &Value, token: bool| {
                let mut request = request(operation);
                if token {
                    request = request.header("authorization", format!("Bearer {}", good()));
                }
                let request = request
                    .body(Body::from(body.to_string()))
                    .expect("a request");
                let answer = stage
                    .gateway
                    .api()
                    .oneshot(request)
                    .await
                    .expect("an answer");
                let status = answer.status().as_u16();
                let is_stream = answer.headers()["content-type"] != "application/x-amz-json-1.1";
                let body = match is_stream {
                    true => Default::default(),
                    false => answer
                        .into_body()
                        .collect()
                        .await
                        .expect("a body")
                        .to_bytes(),
                };
                (status, String::from_utf8_lossy(&body).into_owned())
            };
            for (operation, body, needed) in &all {
                let (status, text) = send(operation, body, true).await;
                if held == *needed {
                    assert!(
                        !text.contains("AccessDenied"),
                        "{operation} with {held}: {text}"
                    );
                } else {
                    assert_eq!(status, 400, "{operation} with {held}");
                    let right = format!("{needed} functions/logs hello in namespace local");
                    assert!(
                        text.contains("AccessDeniedException") && text.contains(&right),
                        "{text}"
                    );
                }
                let (status, text) = send(operation, body, false).await;
                assert!(
                    status == 400 && text.contains("MissingAuthenticationToken"),
                    "{text}"
                );
            }
            // The list has the groups alone whose events the caller may read.
            let (status, text) = send("DescribeLogGroups", &json!({}), true).await;
            let shown = (
                text.contains("/aws/lambda/hello"),
                text.contains("/aws/lambda/other"),
            );
            assert_eq!((status, shown), (200, (held == "get", false)), "{text}");
        }
    })
    .await;
}

/// The frames in bytes of an event stream: the type of each and its payload.
fn frames(mut bytes: &[u8]) -> Vec<(String, Value)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let number =
            |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four")) as usize;
        let (length, headers) = (number(0), number(4));
        let text = String::from_utf8_lossy(&bytes[12..12 + headers]);
        let kinds = [
            "initial-response",
            "sessionStart",
            "sessionUpdate",
            "SessionTimeoutException",
        ];
        let kind = kinds
            .into_iter()
            .find(|kind| text.contains(kind))
            .expect("a known type");
        let payload = &bytes[12 + headers..length - 4];
        frames.push((
            kind.to_owned(),
            serde_json::from_slice(payload).expect("JSON"),
        ));
        bytes = &bytes[length..];
    }
    frames
}

#[tokio::test(start_paused = true)]
async fn a_live_tail_has_what_comes_each_second_and_ends_after_three_hours() {
    on_stage(async {
        let stage = stage(0).await;
        let feed = stage.logs.feed(Origin {
            function: "local/hello".parse().expect("a key"),
            qualifier: Qualifier::Latest,
            instance: "8f3c".to_owned(),
        });
        let body = json!({ "logGroupIdentifiers": [GROUP], "logEventFilterPattern": "wanted" });
        let request = request("StartLiveTail").body(Body::from(body.to_string()));
        let answer = stage
            .gateway
            .api()
            .oneshot(request.expect("a request"))
            .await
            .expect("an answer");
        assert_eq!(
            answer.headers()["content-type"],
            "application/vnd.amazon.eventstream"
        );
        let mut tail = answer.into_body();
        let mut next = async || {
            let frame = tail.frame().await.expect("it goes on").expect("no error");
            frames(frame.data_ref().expect("data"))
        };
        let start = next().await;
        assert_eq!(start[0], ("initial-response".to_owned(), json!({})));
        assert_eq!(start[1].0, "sessionStart");
        assert_eq!(start[1].1["logEventFilterPattern"], "wanted");
        feed.line("2026-01-31T10:00:01Z stdout - wanted 1");
        feed.line("2026-01-31T10:00:02Z stdout - other");
        let update = next().await.remove(0).1;
        assert_eq!(update["sessionMetadata"]["sampled"], false);
        let results = update["sessionResults"].as_array().expect("a list");
        assert_eq!(results.len(), 1);
        assert_eq!(results[0]["message"], "wanted 1");
        assert_eq!(results[0]["logStreamName"], STREAM);
        let update = next().await.remove(0).1;
        assert_eq!(update["sessionResults"], json!([]));
        for number in 0..1200 {
            feed.line(&format!("2026-01-31T10:00:03Z stdout - wanted {number}"));
        }
        let update = next().await.remove(0).1;
        assert_eq!(update["sessionMetadata"]["sampled"], true);
        assert_eq!(
            update["sessionResults"].as_array().expect("a list").len(),
            500
        );
        tokio::time::advance(std::time::Duration::from_secs(3 * 3600)).await;
        assert_eq!(next().await[0].0, "SessionTimeoutException");
        assert!(tail.frame().await.is_none());
    })
    .await;
}
