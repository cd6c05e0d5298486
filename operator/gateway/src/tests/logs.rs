//! What handlers print, from the supervisor to whoever reads a function's log.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use super::stage::{Answer, Stage, function, on_stage, settled};

const PATH: &str = "/pilotlight/v1/functions/hello/logs";

fn texts(answer: &Answer) -> Vec<String> {
    let lines = answer.text();
    let entries = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let text = |entry: Value| entry["text"].as_str().expect("a text").to_owned();
    entries.map(text).collect()
}

#[tokio::test(start_paused = true)]
async fn a_functions_log_is_chosen_by_text_by_request_and_by_time() {
    on_stage(async {
        let mut stage = Stage::of(function("")).await;
        let caller = stage.call("1");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        instance.prints("hello from the handler");
        instance.answers(&event, "1").await;
        caller.answer().await;
        let all = texts(&stage.get(PATH).await);
        assert!(all[0].starts_with("INIT_START"), "{all:?}");
        let chosen = texts(&stage.get(&format!("{PATH}?filter=handler")).await);
        assert_eq!(chosen, ["hello from the handler"]);
        let of_request = stage
            .get(&format!("{PATH}?filter={}", event.request_id))
            .await;
        let entry: Value = serde_json::from_str(of_request.text().lines().nth(1).unwrap()).unwrap();
        assert_eq!(entry["text"], "hello from the handler");
        assert_eq!(
            (entry["source"].as_str(), entry["function"].as_str()),
            (Some("stdout"), Some("hello"))
        );
        assert_eq!(entry["instance"], instance.name.as_str());
        assert_eq!(texts(&of_request).len(), 4);
        assert_eq!(of_request.header("content-type"), "application/x-ndjson");
        let later = stage
            .get(&format!("{PATH}?since=2999-01-01T00:00:00Z"))
            .await;
        assert!(later.body.is_empty());
        let wrong = stage.get(&format!("{PATH}?since=today")).await;
        assert_eq!(wrong.error(), (400, "InvalidParameterValueException"));
        let absent = stage.get("/pilotlight/v1/functions/nobody/logs").await;
        assert_eq!(absent.error(), (404, "ResourceNotFoundException"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_read_right_after_an_answer_has_the_calls_last_record() {
    on_stage(async {
        let mut stage = Stage::of(function("")).await;
        let caller = stage.call("1");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        instance.prints("a line");
        instance.posts(&event, "response", "1").await;
        caller.answer().await;
        let read = stage.send(Request::get(PATH).body(Body::empty()));
        settled().await;
        assert!(!read.has_answer(), "the runtime process goes on");
        instance.asks();
        let read = read.answer().await;
        assert!(read.took < Duration::from_secs(1), "{:?}", read.took);
        let read = texts(&read);
        assert_eq!(read[2], "a line");
        assert!(
            read[4].starts_with("REPORT ") && read.len() == 5,
            "{read:?}"
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_log_is_read_as_far_as_it_is_when_an_instance_does_not_go_on() {
    on_stage(async {
        let mut stage = Stage::of(function("timeout: 600")).await;
        let caller = stage.call("1");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        instance.posts(&event, "response", "1").await;
        caller.answer().await;
        let read = stage.get(PATH).await;
        assert!(read.took < Duration::from_secs(5), "{:?}", read.took);
        assert!(texts(&read)[1].starts_with("START "));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_follows_a_log_gets_the_lines_that_come() {
    on_stage(async {
        let mut stage = Stage::of(function("")).await;
        let path = format!("{PATH}?follow=true&filter=line");
        let request = Request::get(path).body(Body::empty()).unwrap();
        let following = stage.gateway.api().oneshot(request).await.unwrap();
        let mut body = following.into_body();
        let caller = stage.call("1");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        for line in ["line 1", "another", "line 2"] {
            instance.prints(line);
        }
        let mut followed = String::new();
        while followed.lines().count() < 2 {
            let frame = body.frame().await.expect("it goes on").expect("no error");
            followed += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
        }
        assert!(followed.contains("line 1") && followed.contains("line 2"));
        assert!(!followed.contains("another"));
        instance.answers(&event, "1").await;
        caller.answer().await;
    })
    .await;
}
