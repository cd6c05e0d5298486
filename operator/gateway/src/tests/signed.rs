//! Callers that sign: with temporary credentials that this gateway has issued, and with access keys.
//!
//! AWS' own signer for Rust signs. `pilotlight-access` tests what a signature covers, `tests/e2e/test_access.py` whole SDKs.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use axum::body::Body;
use http::Request;
use pilotlight_access::access_key::AccessKey;
use pilotlight_access::session::{SessionKey, SessionKeys};
use pilotlight_core::access::Mode;

use super::access::{Cluster, INVOKE, good, token};
use super::stage::{Answer, Stage, function, on_stage};
use crate::access::{AccessConfig, Keyring};
use crate::clock::seconds;
use crate::config::Config;

const ROLE: &str = "arn%3Aaws%3Aiam%3A%3A000000000000%3Arole%2Fshop%2Fcaller";
const INVOCATIONS: &str = "/2015-03-31/functions/hello/invocations";

async fn stage(mode: Mode, rights: &[&str]) -> (Stage, AccessKey) {
    let keyring = Keyring::default();
    keyring.set_sessions(SessionKeys::new([SessionKey::new([1; 8], 0, [2; 32])]));
    let account = "shop/caller".parse().expect("an account");
    let key = AccessKey::new(&[3; _], account, seconds() + 600);
    keyring.set_access_keys([key.clone()]);
    let config = Config {
        access: AccessConfig {
            mode,
            judge: Some(Cluster::with(rights)),
            keyring,
            ..AccessConfig::default()
        },
        ..Config::default()
    };
    let stage = Stage::new(config, None);
    stage.gateway.deploy(vec![function("")]).await;
    (stage, key)
}

fn of_key(key: &AccessKey) -> Credentials {
    Credentials::from_keys(&key.id, &key.secret, None)
}

/// Signs `signed` and sends `sent`.
async fn post(
    stage: &Stage,
    credentials: Credentials,
    (service, path): (&str, &str),
    (signed, sent): (&str, &str),
) -> Answer {
    let identity = credentials.into();
    let parameters = SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name(service)
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .expect("all parameters are there");
    let kind = match service {
        "sts" => ("content-type", "application/x-www-form-urlencoded"),
        _ => ("x-amz-invocation-type", "DryRun"),
    };
    let headers = [("host", "gateway"), kind];
    let url = format!("http://gateway{path}");
    let body = SignableBody::Bytes(signed.as_bytes());
    let signable = SignableRequest::new("POST", url, headers.into_iter(), body);
    let signature = sign(signable.expect("a request"), &parameters.into()).expect("it signs");
    let mut request = Request::post(path);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let mut request = request
        .body(Body::from(sent.to_owned()))
        .expect("a request");
    signature
        .into_parts()
        .0
        .apply_to_request_http1x(&mut request);
    stage.send(Ok(request)).answer().await
}

async fn dry_run(stage: &Stage, credentials: Credentials) -> Answer {
    post(stage, credentials, ("lambda", INVOCATIONS), ("{}", "{}")).await
}

/// Asks STS, without a signature.
async fn assume(stage: &Stage, role: &str, token: &str) -> Answer {
    let form = format!(
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=app-1&RoleArn={role}&WebIdentityToken={token}"
    );
    let request = Request::post("/").header("content-type", "application/x-www-form-urlencoded");
    stage.send(request.body(Body::from(form))).answer().await
}

fn element<'a>(xml: &'a str, name: &str) -> &'a str {
    let (_, rest) = xml.split_once(&format!("<{name}>")).expect("the element");
    rest.split_once("</").expect("its end").0
}

async fn session(stage: &Stage) -> Credentials {
    let answer = assume(stage, ROLE, &good()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "text/xml");
    let xml = answer.text();
    let part = |name| element(&xml, name).to_owned();
    Credentials::from_keys(
        part("AccessKeyId"),
        part("SecretAccessKey"),
        Some(part("SessionToken")),
    )
}

#[tokio::test(start_paused = true)]
async fn a_token_becomes_credentials_with_the_rights_of_its_account() {
    on_stage(async {
        let (stage, _) = stage(Mode::Required, &[INVOKE]).await;
        let credentials = session(&stage).await;
        assert_eq!(dry_run(&stage, credentials.clone()).await.status, 204);
        let other = ("lambda", "/2015-03-31/functions/other/invocations");
        let denied = post(&stage, credentials.clone(), other, ("{}", "{}")).await;
        assert_eq!(denied.error(), (403, "AccessDeniedException"));
        let form = "Action=GetCallerIdentity&Version=2011-06-15";
        let me = post(&stage, credentials, ("sts", "/"), (form, form)).await;
        let arn = "arn:aws:sts::000000000000:assumed-role/shop/caller/app-1";
        assert_eq!(element(&me.text(), "Arn"), arn);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn sts_gives_nothing_for_another_account_or_a_token_that_is_not_for_gateways() {
    on_stage(async {
        let (stage, _) = stage(Mode::Required, &[]).await;
        let hour = seconds() + 3600;
        let other = ROLE.replace("caller", "admin");
        for (role, token, status, code) in [
            (other.as_str(), good(), 403, "AccessDenied"),
            (
                ROLE,
                token("kubernetes", hour, "known"),
                400,
                "InvalidIdentityToken",
            ),
            (
                ROLE,
                token("pilotlight", hour, "unknown"),
                400,
                "InvalidIdentityToken",
            ),
            (
                ROLE,
                token("pilotlight", seconds() - 1, "known"),
                400,
                "ExpiredTokenException",
            ),
        ] {
            let answer = assume(&stage, role, &token).await;
            assert_eq!(answer.status.as_u16(), status, "{code}");
            assert_eq!(element(&answer.text(), "Code"), code);
        }
        let refused = stage.metric("pilotlight_callers_refused_total{reason=\"no-session\"}");
        assert_eq!(refused.await, 4.0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_path_of_sts_has_no_other_operations() {
    on_stage(async {
        let (stage, _) = stage(Mode::Off, &[]).await;
        let unknown = (404, "UnknownOperationException");
        assert_eq!(stage.get("/").await.error(), unknown);
        let json = Request::post("/").header("content-type", "application/json");
        let json = stage.send(json.body(Body::from("{}"))).answer().await;
        assert_eq!(json.error(), unknown);
        // Nobody has proven anything yet, so a large form takes no room from good callers.
        let form = "application/x-www-form-urlencoded";
        let large = Request::post("/").header("content-type", form);
        let large = large.body(Body::from("a".repeat(65 * 1024)));
        let refused = stage.send(large).answer().await;
        assert_eq!(element(&refused.text(), "Code"), "ValidationError");
        // There is nothing to prove here, and no credentials for it.
        let answer = assume(&stage, ROLE, &good()).await;
        assert_eq!(element(&answer.text(), "Code"), "AccessDenied");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_access_key_signs_for_its_account_and_covers_the_body() {
    on_stage(async {
        let (stage, key) = stage(Mode::Required, &[INVOKE]).await;
        assert_eq!(dry_run(&stage, of_key(&key)).await.status, 204);
        let invoke = ("lambda", INVOCATIONS);
        let changed = post(&stage, of_key(&key), invoke, ("{}", "{ }")).await;
        assert_eq!(changed.error(), (403, "InvalidSignatureException"));
        let wrong = Credentials::from_keys(&key.id, "wrong", None);
        let wrong = dry_run(&stage, wrong).await;
        assert_eq!(wrong.error(), (403, "InvalidSignatureException"));
        let unknown = Credentials::from_keys("AKIAIOSFODNN7EXAMPLE", "x", None);
        let unknown = dry_run(&stage, unknown).await;
        assert_eq!(unknown.error(), (403, "UnrecognizedClientException"));
        // It is for one service alone.
        let sts = post(&stage, of_key(&key), ("sts", INVOCATIONS), ("{}", "{}")).await;
        assert_eq!(sts.error().0, 403);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn optional_serves_keys_of_other_platforms_and_checks_its_own() {
    on_stage(async {
        let (stage, key) = stage(Mode::Optional, &[]).await;
        let foreign = Credentials::from_keys("test", "test", None);
        assert_eq!(dry_run(&stage, foreign).await.status, 204);
        let own = dry_run(&stage, of_key(&key)).await;
        assert_eq!(own.error(), (403, "AccessDeniedException"));
        let forged = Credentials::from_keys(&key.id, "wrong", None);
        let forged = dry_run(&stage, forged).await;
        assert_eq!(forged.error(), (403, "InvalidSignatureException"));
    })
    .await;
}
