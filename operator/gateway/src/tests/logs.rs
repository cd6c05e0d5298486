//! What handlers print, from the supervisor to whoever reads a function's log.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use super::peers::two;
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
        let chosen = texts(&stage.get(&format!("{PATH}?text=handler")).await);
        assert_eq!(chosen, ["hello from the handler"]);
        let of_request = stage
            .get(&format!("{PATH}?request-id={}", event.request_id))
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
        for (parameters, said) in [
            ("since=today", "since must be a time such as"),
            ("filter=handler", "`filter` is no parameter"),
            ("regex=(", "regex is no regular expression"),
        ] {
            let wrong = stage.get(&format!("{PATH}?{parameters}")).await;
            assert_eq!(wrong.error(), (400, "InvalidParameterValueException"));
            assert!(wrong.text().contains(said), "{}", wrong.text());
        }
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
        let path = format!("{PATH}?follow=true&text=line");
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

/// The request ids of a page's REPORT records.
fn reported(answer: &Answer) -> Vec<String> {
    let texts = texts(answer);
    let reports = texts
        .iter()
        .filter_map(|text| text.strip_prefix("REPORT RequestId: "));
    let ids = reports.map(|rest| rest.split('\t').next().expect("an id").to_owned());
    ids.collect()
}

#[tokio::test(start_paused = true)]
async fn calls_are_chosen_by_how_they_went() {
    on_stage(async {
        let mut stage = Stage::of(function("timeout: 600")).await;
        let caller = stage.call("1");
        let mut instance = stage.instance().await;
        let first = instance.event().await;
        instance.prints("the first");
        instance.answers(&first, "1").await;
        caller.answer().await;
        let caller = stage.call("2");
        let second = instance.event().await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        instance
            .posts(&second, "error", r#"{"errorType":"X","errorMessage":"no"}"#)
            .await;
        instance.asks();
        caller.answer().await;
        let (first, second) = (first.request_id, second.request_id);
        for (parameters, expected) in [
            ("failed=true", vec![&second]),
            ("cold=true", vec![&first]),
            ("slow=30000", vec![&second]),
            ("slow=0", vec![&first, &second]),
            ("failed=true&cold=true", vec![]),
        ] {
            let chosen = stage.get(&format!("{PATH}?{parameters}")).await;
            let chosen = reported(&chosen);
            assert_eq!(chosen.iter().collect::<Vec<_>>(), expected, "{parameters}");
        }
        let whole = texts(&stage.get(&format!("{PATH}?cold=true")).await);
        assert!(whole[0].starts_with("START ") && whole[1] == "the first" && whole.len() == 4);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_follows_failed_calls_gets_each_as_a_whole() {
    on_stage(async {
        let mut stage = Stage::of(function("")).await;
        let path = format!("{PATH}?follow=true&failed=true");
        let request = Request::get(path).body(Body::empty()).unwrap();
        let following = stage.gateway.api().oneshot(request).await.unwrap();
        let mut body = following.into_body();
        let caller = stage.call("1");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        instance.prints("of a good call");
        instance.answers(&event, "1").await;
        caller.answer().await;
        let caller = stage.call("2");
        let event = instance.event().await;
        instance.prints("of a bad call");
        instance
            .posts(&event, "error", r#"{"errorType":"X","errorMessage":"no"}"#)
            .await;
        instance.asks();
        caller.answer().await;
        let frame = body.frame().await.expect("it goes on").expect("no error");
        let followed = std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
        assert_eq!(followed.lines().count(), 4, "{followed}");
        assert!(followed.contains("of a bad call") && !followed.contains("of a good call"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_page_says_where_the_next_one_begins() {
    on_stage(async {
        let mut stage = Stage::of(function("")).await;
        let caller = stage.call("1");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        for line in ["line 1", "line 2", "line 3"] {
            instance.prints(line);
        }
        instance.answers(&event, "1").await;
        caller.answer().await;
        for (order, expected) in [
            ("oldest-first", [vec!["line 1", "line 2"], vec!["line 3"]]),
            ("newest-first", [vec!["line 3", "line 2"], vec!["line 1"]]),
        ] {
            let path = format!("{PATH}?text=line&limit=2&order={order}");
            let page = stage.get(&path).await;
            assert_eq!(texts(&page), expected[0]);
            let next = page.header("pilotlight-next").to_owned();
            let page = stage.get(&format!("{path}&after={next}")).await;
            assert_eq!(texts(&page), expected[1]);
            assert!(page.headers.get("pilotlight-next").is_none());
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_records_of_a_pod_come_over_its_status_stream_to_the_last_one() {
    on_stage(async {
        let ((mut first, _), _second) = two("").await;
        let caller = first.call("1");
        let mut instance = first.instance().await;
        let event = instance.event().await;
        instance.prints("a line");
        instance.answers(&event, "1").await;
        caller.answer().await;
        let read = texts(&first.get(PATH).await);
        assert!(read[0].starts_with("INIT_START"), "{read:?}");
        assert_eq!(read[2], "a line");
        assert!(
            read[4].starts_with("REPORT ") && read.len() == 5,
            "{read:?}"
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_no_gateway_has_for_good_goes_to_the_new_owner() {
    on_stage(async {
        let ((mut first, _), (mut second, _)) = two("").await;
        let caller = first.call("1");
        let mut instance = first.instance().await;
        let event = instance.event().await;
        instance.answers(&event, "1").await;
        caller.answer().await;
        // The first gateway has this record, and its store does not have it yet.
        instance.prints("a last line");
        tokio::time::sleep(Duration::from_millis(20)).await;
        first.loses().await;
        second.gains(&[&instance.name]).await;
        second.start().await.found(instance.line());
        settled().await;
        instance.prints("a new line");
        let read = texts(&second.get(PATH).await);
        let lines = read.iter().filter(|text| text.ends_with(" line"));
        assert_eq!(Vec::from_iter(lines), ["a last line", "a new line"]);
    })
    .await;
}
