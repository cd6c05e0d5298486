//! The APIs beside a plain call: what is refused and how, what callers may ask about functions.

use axum::body::Body;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{Request, StatusCode};
use serde_json::json;

use super::stage::{Stage, function, invocation, named, on_stage};
use crate::config::Config;

#[tokio::test(start_paused = true)]
async fn a_call_that_cannot_be_one_is_refused_with_its_reason_and_starts_nothing() {
    on_stage(async {
        let mut stage = Stage::of(function("")).await;
        let long = BASE64_STANDARD.encode(format!("\"{}\"", "x".repeat(2700)));
        for (name, header, value, payload, status, kind) in [
            (
                "nobody",
                "x-other",
                "",
                "{}",
                404,
                "ResourceNotFoundException",
            ),
            (
                "hello:7",
                "x-other",
                "",
                "{}",
                404,
                "ResourceNotFoundException",
            ),
            ("a:b:c:d", "x-other", "", "{}", 400, "ValidationException"),
            (
                "hello",
                "x-other",
                "",
                "{",
                400,
                "InvalidRequestContentException",
            ),
            (
                "hello",
                "x-amz-invocation-type",
                "Event",
                "{}",
                400,
                "InvalidParameterValueException",
            ),
            (
                "hello",
                "x-amz-log-type",
                "All",
                "{}",
                400,
                "InvalidParameterValueException",
            ),
            (
                "hello",
                "x-amz-client-context",
                "e30=e30=",
                "{}",
                400,
                "InvalidParameterValueException",
            ),
            (
                "hello",
                "x-amz-client-context",
                &long,
                "{}",
                400,
                "InvalidParameterValueException",
            ),
        ] {
            let call = invocation(name).header(header, value);
            let answer = stage.send(call.body(Body::from(payload))).answer().await;
            assert_eq!(answer.error(), (status, kind), "{name} {header}: {value}");
            assert_eq!(answer.header("x-amzn-requestid").len(), 36);
            assert_eq!(answer.header("content-type"), "application/json");
        }
        assert!(stage.starts().await.is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_checks_the_call_and_runs_nothing() {
    on_stage(async {
        let mut stage = Stage::of(function("")).await;
        let dry = || invocation("hello").header("x-amz-invocation-type", "DryRun");
        let answer = stage.send(dry().body(Body::from("{}"))).answer().await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        let answer = stage.send(dry().body(Body::from("{"))).answer().await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(stage.starts().await.is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn functions_are_listed_page_by_page_in_the_order_of_their_names() {
    on_stage(async {
        let stage = Stage::new(Config::default(), None);
        let names = ["delta", "alpha", "echo", "bravo", "charlie"];
        let all = names.map(|name| named(name, ""));
        stage.gateway.deploy(all.into()).await;
        let (mut listed, mut path) = (Vec::new(), "?MaxItems=2".to_owned());
        loop {
            let answer = stage.get(&format!("/2015-03-31/functions{path}")).await;
            let page = answer.json();
            let functions = page["Functions"].as_array().expect("a list");
            assert!((1..=2).contains(&functions.len()));
            for function in functions {
                listed.push(function["FunctionName"].as_str().unwrap().to_owned());
            }
            let Some(marker) = page["NextMarker"].as_str() else {
                break;
            };
            path = format!("/?MaxItems=2&Marker={}", marker.replace('=', "%3D"));
        }
        assert_eq!(listed, ["alpha", "bravo", "charlie", "delta", "echo"]);
        for query in ["MaxItems=0", "MaxItems=x", "FunctionVersion=1"] {
            let answer = stage.get(&format!("/2015-03-31/functions?{query}")).await;
            assert_eq!(answer.error(), (400, "ValidationException"), "{query}");
        }
        let answer = stage.get("/2015-03-31/functions?Marker=%21").await;
        assert_eq!(answer.error(), (400, "InvalidParameterValueException"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_functions_configuration_is_that_of_its_manifest() {
    on_stage(async {
        let spec = "memory: 512, timeout: 7, description: greets, environment: {A: b}";
        let config = Config {
            shows_environment: true,
            ..Config::default()
        };
        let stage = Stage::new(config, None);
        stage.gateway.deploy(vec![function(spec)]).await;
        let path = "/2015-03-31/functions/hello";
        let whole = stage.get(path).await.json();
        let configuration = stage.get(&format!("{path}/configuration")).await.json();
        assert_eq!(whole["Configuration"], configuration);
        let arn = "arn:aws:lambda:us-east-1:000000000000:function:hello";
        for (field, value) in [
            ("FunctionArn", json!(arn)),
            ("MemorySize", json!(512)),
            ("Timeout", json!(7)),
            ("Description", json!("greets")),
            ("Handler", json!("main")),
            ("Runtime", json!("provided.al2023")),
            ("Environment", json!({"Variables": {"A": "b"}})),
            ("CodeSize", json!(4711)),
            ("RevisionId", json!("first")),
            ("LastModified", json!("1970-01-01T00:00:00.000+0000")),
        ] {
            assert_eq!(configuration[field], value, "{field}");
        }
        let absent = stage.get("/2015-03-31/functions/nobody").await;
        assert_eq!(absent.error(), (404, "ResourceNotFoundException"));
        let qualified = stage.get(&format!("{path}?Qualifier=1")).await;
        assert_eq!(qualified.error(), (404, "ResourceNotFoundException"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_path_that_is_none_is_an_unknown_operation() {
    on_stage(async {
        let stage = Stage::of(function("")).await;
        let unknown = (404, "UnknownOperationException");
        assert_eq!(stage.get("/2015-03-31/layers").await.error(), unknown);
        let wrong = Request::delete("/2015-03-31/functions/hello").body(Body::empty());
        assert_eq!(stage.send(wrong).answer().await.error(), unknown);
        assert_eq!(stage.status("/healthz").await.text(), "ok\n");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_log_tail_that_a_caller_asks_for_has_the_invocations_lines_and_no_others() {
    on_stage(async {
        let mut stage = Stage::of(function("")).await;
        let caller = stage.call("1");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        instance.prints("of the first");
        instance.answers(&event, "1").await;
        assert_eq!(caller.answer().await.header("x-amz-log-result"), "");

        let tail = invocation("hello").header("x-amz-log-type", "Tail");
        let caller = stage.send(tail.body(Body::from("2")));
        let event = instance.event().await;
        instance.prints("of the second");
        instance.answers(&event, "2").await;
        let answer = caller.answer().await;
        let tail = BASE64_STANDARD.decode(answer.header("x-amz-log-result"));
        let tail = String::from_utf8(tail.unwrap()).unwrap();
        let lines: Vec<_> = tail.lines().collect();
        assert_eq!(lines.len(), 4, "{tail}");
        assert!(lines[0].starts_with(&format!("START RequestId: {}", event.request_id)));
        assert_eq!(lines[1], "of the second");
        assert!(lines[3].starts_with("REPORT RequestId:"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn metrics_count_what_callers_were_told_and_what_lives() {
    on_stage(async {
        let mut stage = Stage::of(function("concurrency: {reserved: 1, queue: 1}")).await;
        let callers = [stage.call("1"), stage.call("2")];
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        let value = |name: &str| format!("pilotlight_{name}{{namespace=\"local\",function=\"hello\",qualifier=\"$LATEST\"}}");
        let state =
            |state: &str| format!("pilotlight_instances{{namespace=\"local\",function=\"hello\",qualifier=\"$LATEST\",state=\"{state}\"}}");
        assert_eq!(stage.metric(&value("queued")).await, 1.0);
        assert_eq!(stage.metric(&value("in_flight")).await, 1.0);
        assert_eq!(stage.metric(&state("busy")).await, 1.0);
        assert_eq!(*stage.backend.loads.lock().unwrap().last().unwrap(), (1, 1));

        instance.answers(&event, "1").await;
        let event = instance.event().await;
        instance.posts(&event, "error", "{}").await;
        instance.asks();
        for caller in callers {
            caller.answer().await;
        }
        let ended = |outcome: &str| {
            format!("pilotlight_invocations_total{{namespace=\"local\",function=\"hello\",qualifier=\"$LATEST\",outcome=\"{outcome}\"}}")
        };
        assert_eq!(stage.metric(&ended("success")).await, 1.0);
        assert_eq!(stage.metric(&ended("function_error")).await, 1.0);
        assert_eq!(stage.metric(&state("idle")).await, 1.0);
        assert_eq!(stage.metric(&value("in_flight")).await, 0.0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn no_listener_serves_the_paths_of_another() {
    on_stage(async {
        let stage = Stage::of(function("")).await;
        let api = ["/2015-03-31/functions", "/2015-03-31/functions/hello"];
        let status = ["/healthz", "/readyz", "/metrics"];
        // With another method a path that exists is unknown too, so this one is called as it is meant.
        let invoke = Request::post("/pilotlight/v1/invoke").body(Body::empty());
        let invoke = stage.send(invoke).answer().await;
        assert_eq!(invoke.error(), (404, "UnknownOperationException"));
        for path in api {
            assert_eq!(stage.get(path).await.status.as_u16(), 200, "{path}");
            assert_eq!(stage.part(path).await.status.as_u16(), 404, "{path}");
            assert_eq!(stage.status(path).await.status.as_u16(), 404, "{path}");
        }
        for path in status {
            assert_eq!(stage.status(path).await.status.as_u16(), 200, "{path}");
            assert_eq!(stage.get(path).await.status.as_u16(), 404, "{path}");
            assert_eq!(stage.part(path).await.status.as_u16(), 404, "{path}");
        }
    })
    .await;
}
