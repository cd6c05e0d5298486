//! Who may call the public API: what callers show, what they may do, and how they are refused.
//!
//! A [`Cluster`] takes the place of the API server; `tests/e2e/test_access.py` asks a real one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::Request;
use pilotlight_core::access::reviews::Unanswered;
use pilotlight_core::access::{Mode, Principal, Right, ServiceAccount};
use serde_json::json;

use super::stage::{Answer, Stage, function, invocation, on_stage};
use crate::access::{AccessConfig, Judge, Later};
use crate::clock::seconds;
use crate::config::Config;

/// Knows the service account `shop/caller` by each token that ends in `.known`, and its rights.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    rights: Mutex<Vec<String>>,
    reviews: AtomicUsize,
    /// Questions about rights.
    asked: AtomicUsize,
    is_away: AtomicBool,
}

impl Cluster {
    pub(super) fn with(rights: &[&str]) -> Arc<Self> {
        let rights = rights.iter().map(ToString::to_string).collect();
        Arc::new(Cluster {
            rights: Mutex::new(rights),
            ..Cluster::default()
        })
    }

    fn answer<T: Send + 'static>(&self, answer: Option<T>) -> Later<T> {
        let is_away = self.is_away.load(Ordering::Relaxed);
        Box::pin(async move {
            match is_away {
                true => Err(Unanswered),
                false => Ok(answer),
            }
        })
    }
}

impl Judge for Cluster {
    fn who(&self, token: &str) -> Later<Principal> {
        self.reviews.fetch_add(1, Ordering::Relaxed);
        let account: ServiceAccount = "shop/caller".parse().expect("an account");
        self.answer(token.ends_with(".known").then(|| account.principal()))
    }

    fn may(&self, who: &Principal, right: &Right) -> Later<()> {
        assert_eq!(who.user, "system:serviceaccount:shop:caller");
        self.asked.fetch_add(1, Ordering::Relaxed);
        let rights = self.rights.lock().expect("no test panics with it");
        self.answer(rights.contains(&right.to_string()).then_some(()))
    }
}

pub(super) fn token(audience: &str, expires: u64, end: &str) -> String {
    let part = |text: String| BASE64_URL_SAFE_NO_PAD.encode(text);
    let claims = format!(r#"{{"aud": ["{audience}"], "exp": {expires}}}"#);
    format!("{}.{}.{end}", part("{}".to_owned()), part(claims))
}

pub(super) fn good() -> String {
    token("pilotlight", seconds() + 600, "known")
}

async fn stage(mode: Mode, cluster: &Arc<Cluster>) -> Stage {
    let config = Config {
        access: AccessConfig {
            mode,
            judge: Some(cluster.clone()),
            ..AccessConfig::default()
        },
        ..Config::default()
    };
    let stage = Stage::new(config, None);
    let deployed = function("environment: {GREETING: hello}");
    stage.gateway.deploy(vec![deployed]).await;
    stage
}

const CONFIGURATION: &str = "/2015-03-31/functions/hello/configuration";

async fn ask(stage: &Stage, path: &str, authorization: Option<&str>) -> Answer {
    let mut request = Request::get(path);
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    stage.send(request.body(Body::empty())).answer().await
}

async fn dry_run(stage: &Stage, name: &str, token: &str) -> Answer {
    let call = invocation(name)
        .header("x-amz-invocation-type", "DryRun")
        .header("authorization", format!("Bearer {token}"));
    stage.send(call.body(Body::from("{}"))).answer().await
}

pub(super) const INVOKE: &str = "invoke functions hello in namespace local";
const GET: &str = "get functions hello in namespace local";
const LIST: &str = "list functions in namespace local";
const ENVIRONMENT: &str = "get functions/environment hello in namespace local";
const LOGS: &str = "get functions/logs hello in namespace local";

#[tokio::test(start_paused = true)]
async fn who_shows_nothing_or_something_else_is_refused_as_the_platform_refuses() {
    on_stage(async {
        let cluster = Cluster::with(&[GET]);
        let stage = stage(Mode::Required, &cluster).await;
        let bearer = |token: String| format!("Bearer {token}");
        let hour = seconds() + 3600;
        let for_both = token(
            "pilotlight\", \"https://kubernetes.default.svc",
            hour,
            "known",
        );
        for (authorization, kind) in [
            (None, "MissingAuthenticationTokenException"),
            (
                Some("Basic YTpi".to_owned()),
                "IncompleteSignatureException",
            ),
            (
                Some(bearer("nonsense".to_owned())),
                "UnrecognizedClientException",
            ),
            (
                Some(bearer(token("pilotlight", hour, "unknown"))),
                "UnrecognizedClientException",
            ),
            // A key to the API server.
            (
                Some(bearer(token(
                    "https://kubernetes.default.svc",
                    hour,
                    "known",
                ))),
                "UnrecognizedClientException",
            ),
            // A key to both.
            (Some(bearer(for_both)), "UnrecognizedClientException"),
            (
                Some(bearer("e30.bm8ganNvbg.known".to_owned())),
                "UnrecognizedClientException",
            ),
            (
                Some(bearer(token("pilotlight", seconds() - 1, "known"))),
                "ExpiredTokenException",
            ),
            (
                Some(bearer("x".repeat(17 * 1024))),
                "IncompleteSignatureException",
            ),
        ] {
            let answer = ask(&stage, CONFIGURATION, authorization.as_deref()).await;
            assert_eq!(answer.error(), (403, kind), "{authorization:?}");
        }
        // The token for the API server was not sent there.
        assert_eq!(cluster.reviews.load(Ordering::Relaxed), 3);
        let good = ask(&stage, CONFIGURATION, Some(&bearer(good()))).await;
        assert_eq!(good.status, 200);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn each_operation_needs_its_own_right() {
    on_stage(async {
        let bearer = format!("Bearer {}", good());
        let operations = [
            (GET, CONFIGURATION),
            (GET, "/2015-03-31/functions/hello"),
            (LIST, "/2015-03-31/functions/"),
            (LIST, "/pilotlight/v1/state"),
            (LOGS, "/pilotlight/v1/functions/hello/logs"),
        ];
        for right in [INVOKE, GET, LIST, LOGS, ENVIRONMENT] {
            let stage = stage(Mode::Required, &Cluster::with(&[right])).await;
            for (needed, path) in operations {
                let answer = ask(&stage, path, Some(&bearer)).await;
                match right == needed {
                    true => assert_eq!(answer.status, 200, "{right}: {path}"),
                    false => assert_eq!(
                        answer.error(),
                        (403, "AccessDeniedException"),
                        "{right}: {path}"
                    ),
                }
            }
            let answer = dry_run(&stage, "hello", &good()).await;
            assert_eq!(
                answer.status.as_u16(),
                if right == INVOKE { 204 } else { 403 }
            );
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_names_the_caller_and_the_right_and_not_whether_the_function_exists() {
    on_stage(async {
        let stage = stage(Mode::Required, &Cluster::with(&[])).await;
        let message = |answer: Answer| answer.json()["Message"].as_str().unwrap().to_owned();
        let there = message(dry_run(&stage, "hello", &good()).await);
        assert_eq!(
            there,
            "User: system:serviceaccount:shop:caller is not authorized to perform: lambda:InvokeFunction on resource: \
             arn:aws:lambda:us-east-1:000000000000:function:hello because no role of Kubernetes allows it: invoke \
             functions hello in namespace local"
        );
        let missing = message(dry_run(&stage, "nobody", &good()).await);
        assert_eq!(missing, there.replace("hello", "nobody"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn values_of_variables_are_shown_to_who_may_read_them() {
    on_stage(async {
        let bearer = format!("Bearer {}", good());
        for (rights, variables) in [
            (vec![GET], json!(null)),
            (vec![GET, ENVIRONMENT], json!({"GREETING": "hello"})),
        ] {
            let stage = stage(Mode::Required, &Cluster::with(&rights)).await;
            let answer = ask(&stage, CONFIGURATION, Some(&bearer)).await.json();
            assert_eq!(answer["Environment"]["Variables"], variables);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn optional_lets_in_who_shows_nothing_of_ours_and_checks_all_others() {
    on_stage(async {
        let cluster = Cluster::with(&[]);
        let stage = stage(Mode::Optional, &cluster).await;
        for authorization in [
            None,
            Some("AWS4-HMAC-SHA256 Credential=test/20260131/us-east-1/lambda/aws4_request"),
        ] {
            let answer = ask(&stage, CONFIGURATION, authorization).await;
            assert_eq!(answer.status, 200, "{authorization:?}");
            // Anonymous callers see no values, as before.
            assert!(answer.json()["Environment"]["Variables"].is_null());
        }
        let denied = ask(&stage, CONFIGURATION, Some(&format!("Bearer {}", good()))).await;
        assert_eq!(denied.error(), (403, "AccessDeniedException"));
        let expired = format!("Bearer {}", token("pilotlight", seconds() - 1, "known"));
        let expired = ask(&stage, CONFIGURATION, Some(&expired)).await;
        assert_eq!(expired.error(), (403, "ExpiredTokenException"));
    })
    .await;
}

/// Supervisors of an earlier release add no token, and those of this one do: an upgrade must not shut functions out.
#[tokio::test(start_paused = true)]
async fn optional_lets_in_functions_whose_supervisors_show_what_they_have_not_chosen() {
    on_stage(async {
        let expired = token("pilotlight", seconds() - 1, "known");
        for (mode, is_function, served) in [
            (Mode::Optional, true, true),
            (Mode::Optional, false, false),
            (Mode::Required, true, false),
        ] {
            let cluster = Cluster::with(&[]);
            let stage = stage(mode, &cluster).await;
            for bearer in [good(), expired.clone()] {
                let mut request =
                    Request::get(CONFIGURATION).header("authorization", format!("Bearer {bearer}"));
                if is_function {
                    request = request.header("pilotlight-caller", "functions/other");
                }
                let answer = stage.send(request.body(Body::empty())).answer().await;
                assert_eq!(answer.status == 200, served, "{mode:?} {is_function}");
                // What only a right opens stays closed.
                assert!(!served || answer.json()["Environment"]["Variables"].is_null());
            }
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn known_callers_are_served_in_an_outage_and_others_get_an_error_that_sdks_repeat() {
    on_stage(async {
        let cluster = Cluster::with(&[INVOKE]);
        let stage = stage(Mode::Required, &cluster).await;
        // Tokens of a long life: paused time does not move the clock of tokens.
        let (known, other) = (good(), token("pilotlight", seconds() + 601, "known"));
        assert_eq!(dry_run(&stage, "hello", &known).await.status, 204);
        cluster.is_away.store(true, Ordering::Relaxed);
        for minutes in [1, 10] {
            tokio::time::sleep(Duration::from_secs(60 * minutes)).await;
            assert_eq!(
                dry_run(&stage, "hello", &known).await.status,
                204,
                "{minutes}"
            );
            let stranger = dry_run(&stage, "hello", &other).await;
            assert_eq!(stranger.error(), (500, "ServiceException"));
        }
        tokio::time::sleep(Duration::from_secs(240)).await;
        let late = dry_run(&stage, "hello", &known).await;
        assert_eq!(late.error(), (500, "ServiceException"));
        cluster.is_away.store(false, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(dry_run(&stage, "hello", &known).await.status, 204);
        assert_eq!(dry_run(&stage, "hello", &other).await.status, 204);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_without_the_right_learns_nothing_from_a_body_that_is_too_large() {
    on_stage(async {
        let stage = stage(Mode::Required, &Cluster::with(&[GET])).await;
        let bearer = format!("Bearer {}", good());
        for name in ["hello", "nobody"] {
            let call = invocation(name).header("authorization", &bearer);
            let large = Body::from(vec![b' '; 7 * 1024 * 1024]);
            let answer = stage.send(call.body(large)).answer().await;
            assert_eq!(answer.error(), (403, "AccessDeniedException"), "{name}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_may_not_read_values_reads_the_rest_in_an_outage_too() {
    on_stage(async {
        let cluster = Cluster::with(&[GET]);
        let stage = stage(Mode::Required, &cluster).await;
        let bearer = format!("Bearer {}", good());
        assert_eq!(ask(&stage, CONFIGURATION, Some(&bearer)).await.status, 200);
        cluster.is_away.store(true, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(300)).await;
        let answer = ask(&stage, CONFIGURATION, Some(&bearer)).await;
        assert_eq!(answer.status, 200);
        assert!(answer.json()["Environment"]["Variables"].is_null());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn names_that_no_function_has_are_one_question() {
    on_stage(async {
        let cluster = Cluster::with(&[]);
        let stage = stage(Mode::Required, &cluster).await;
        for number in 0..300 {
            let answer = dry_run(&stage, &format!("nobody-{number}"), &good()).await;
            assert_eq!(answer.error(), (403, "AccessDeniedException"));
        }
        assert_eq!(cluster.asked.load(Ordering::Relaxed), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_right_that_was_taken_away_ends_while_it_is_used() {
    on_stage(async {
        let cluster = Cluster::with(&[INVOKE]);
        let stage = stage(Mode::Required, &cluster).await;
        let known = good();
        assert_eq!(dry_run(&stage, "hello", &known).await.status, 204);
        cluster.rights.lock().unwrap().clear();
        let mut served = 0;
        // Every second a call.
        while dry_run(&stage, "hello", &known).await.status == 204 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            served += 1;
        }
        // The gateway asks again in the background after 30 s.
        assert!((30..=32).contains(&served), "{served}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn refusals_are_counted_by_their_reason() {
    on_stage(async {
        let stage = stage(Mode::Required, &Cluster::with(&[])).await;
        ask(&stage, CONFIGURATION, None).await;
        ask(&stage, CONFIGURATION, Some(&format!("Bearer {}", good()))).await;
        for reason in ["missing", "denied"] {
            let counted = format!("pilotlight_callers_refused_total{{reason=\"{reason}\"}}");
            assert_eq!(stage.metric(&counted).await, 1.0, "{reason}");
        }
    })
    .await;
}
