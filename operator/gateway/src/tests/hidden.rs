//! What is hidden from callers: the private half of reasons, the values of variables, and with `errors: Sanitized` or
//! `logging.enabled: false` what the function prints.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use pilotlight_core::reason::Audience;

use super::stage::{Answer, Stage, function, invocation, on_stage, settled};
use crate::config::Config;

/// What a 502 told a caller before: an address with a password and a signature, a pod, a node, a Secret, a quota.
const REASON: &str = "spec.code.archive: url: https://me:hunter2@store/a.zip?sig=5ecret cannot be fetched; pod \
                      shop-8f3c on node-7; Secret shop-login; exceeded quota: pods-of-team-a";

/// The answer to a call for which no instance starts.
async fn refused(audience: Audience) -> Answer {
    let config = Config {
        audience,
        ..Config::default()
    };
    let mut stage = Stage::new(config, None);
    stage.gateway.deploy(vec![function("")]).await;
    let caller = stage.call("1");
    loop {
        stage.start().await.fails(REASON);
        settled().await;
        if caller.has_answer() {
            return caller.answer().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_is_refused_gets_a_fixed_sentence_and_the_request_id_alone() {
    on_stage(async {
        let answer = refused(Audience::Callers).await;
        assert_eq!(answer.error(), (502, "ResourceNotReadyException"));
        let told = answer.text();
        for hidden in [
            "hunter2",
            "5ecret",
            "store",
            "shop-8f3c",
            "node-7",
            "shop-login",
            "pods-of-team-a",
        ] {
            assert!(!told.contains(hidden), "{hidden}: {told}");
        }
        assert!(told.contains(answer.header("x-amzn-requestid")), "{told}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_developer_of_a_local_gateway_gets_the_whole_reason() {
    on_stage(async {
        let answer = refused(Audience::Developer).await;
        assert_eq!(answer.error(), (502, "ResourceNotReadyException"));
        assert!(answer.text().contains(REASON), "{}", answer.text());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_values_of_variables_are_not_in_answers_unless_the_operator_shows_them() {
    on_stage(async {
        let stage = Stage::of(function("environment: {TOKEN: hunter2}")).await;
        for path in ["", "/", "/hello", "/hello/configuration"] {
            let answer = stage.get(&format!("/2015-03-31/functions{path}")).await;
            assert_eq!(answer.status.as_u16(), 200, "{path}");
            let told = answer.text();
            assert!(
                !told.contains("hunter2") && !told.contains("TOKEN"),
                "{told}"
            );
        }
        let path = "/2015-03-31/functions/hello/configuration";
        let environment = &stage.get(path).await.json()["Environment"];
        assert_eq!(environment["Error"]["ErrorCode"], "AccessDeniedException");
        assert!(environment["Error"]["Message"].is_string() && environment["Variables"].is_null());

        let without = Stage::of(function("")).await;
        let environment = &without.get(path).await.json()["Environment"];
        assert_eq!(*environment, serde_json::json!({"Variables": {}}));
    })
    .await;
}

/// The log's tail of a call whose handler prints and fails.
async fn tail(spec: &str) -> (Answer, String) {
    let mut stage = Stage::of(function(spec)).await;
    let request = invocation("hello").header("x-amz-log-type", "Tail");
    let caller = stage.send(request.body("1".into()));
    let mut instance = stage.up().await;
    instance.prints("init prints hunter2");
    instance.asks();
    let event = instance.event().await;
    instance.prints("Traceback: card hunter2");
    let error = r#"{"errorType":"ValueError","errorMessage":"hunter2","stackTrace":["hunter2"]}"#;
    instance.posts(&event, "error", error).await;
    instance.asks();
    let answer = caller.answer().await;
    let tail = BASE64_STANDARD.decode(answer.header("x-amz-log-result"));
    let tail = String::from_utf8(tail.expect("base64")).expect("text");
    (answer, tail)
}

fn words(tail: &str) -> Vec<&str> {
    tail.lines()
        .filter_map(|line| line.split(' ').next())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn the_tail_of_a_sanitised_function_has_lines_of_the_platform_alone() {
    on_stage(async {
        let (answer, tail) = tail("errors: Sanitized").await;
        assert_eq!(words(&tail), ["START", "END", "REPORT"], "{tail}");
        assert!(!answer.text().contains("hunter2"), "{}", answer.text());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_tail_of_a_function_whose_output_is_dropped_has_lines_of_the_platform_alone() {
    on_stage(async {
        let (_, tail) = tail("logging: {enabled: false}").await;
        assert_eq!(words(&tail), ["START", "END", "REPORT"], "{tail}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_tail_of_any_other_function_has_what_it_prints() {
    on_stage(async {
        let (_, tail) = tail("").await;
        assert!(tail.contains("Traceback: card hunter2"), "{tail}");
        assert!(tail.contains("init prints"), "{tail}");
    })
    .await;
}
