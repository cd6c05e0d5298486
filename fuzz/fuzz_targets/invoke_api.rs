//! Requests to a gateway that has one function, `hello`.
//!
//! Each request becomes the invocation that it asks for, or gets an error of the documented form: its status,
//! its type in `x-amzn-errortype`, and JSON with a message.

#![no_main]

use std::sync::mpsc::Receiver;

use axum::Router;
use axum::body::Body;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use libfuzzer_sys::fuzz_target;
use pilotlight_core::ids::{Namespace, PoolId};
use pilotlight_core::instance::launch::Launch;
use pilotlight_fuzz::request::{self, Pieces};
use pilotlight_gateway::fuzzing::{self, Invocation};
use pilotlight_gateway::{Deployment, Source};
use serde_json::Value;
use tokio::runtime::Runtime;
use tower::ServiceExt;

const MANIFEST: &str = "\
apiVersion: pilotlight.dev/v1alpha1
kind: Function
metadata: {name: hello}
spec: {runtime: python3.11, handler: app.handler, code: {path: ./hello}}
";
const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:hello";
const PAYLOAD_LIMIT: usize = 6 * 1024 * 1024 + 100;
const CLIENT_CONTEXT_LIMIT: usize = 3583;
/// The documented errors of this API (contract §4).
const ERRORS: [(u16, &str); 9] = [
    (400, "InvalidParameterValueException"),
    (400, "InvalidRequestContentException"),
    (400, "ValidationException"),
    (404, "ResourceNotFoundException"),
    (404, "UnknownOperationException"),
    (413, "RequestTooLargeException"),
    (429, "TooManyRequestsException"),
    (500, "ServiceException"),
    (502, "ResourceNotReadyException"),
];

const LOGS_ERRORS: [(u16, &str); 6] = [
    (400, "InvalidParameterException"),
    (400, "LimitExceededException"),
    (400, "ResourceNotFoundException"),
    (400, "SerializationException"),
    (400, "ThrottlingException"),
    (400, "UnknownOperationException"),
];

struct Gateway {
    runtime: Runtime,
    routes: Router,
    invocations: Receiver<Invocation>,
}

thread_local! {
    static GATEWAY: Gateway = Gateway::start();
}

fuzz_target!(|data: &[u8]| {
    if let Some(request) = request::parse(data) {
        GATEWAY.with(|gateway| gateway.check(request));
    }
});

impl Gateway {
    fn start() -> Self {
        let manifests = pilotlight_api::read("f.yaml".as_ref(), MANIFEST).expect("it is valid");
        let function = manifests.into_iter().next().expect("one").function;
        let launch = Launch {
            command: Vec::new(),
            handler: function.spec.handler.clone().expect("it is there"),
            task_root: "/var/task".into(),
            environment: Default::default(),
            heap: Default::default(),
            relocated: Default::default(),
        };
        let deployment = Deployment {
            pool: PoolId::latest(Namespace::local(), function.metadata.name),
            spec: function.spec,
            revision: "r".into(),
            code_sha256: "0".to_owned(),
            code_size: 1,
            modified: Default::default(),
            source: Source::Local(launch),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let (routes, invocations) = {
            let _within = runtime.enter();
            fuzzing::gateway(deployment)
        };
        Gateway {
            runtime,
            routes,
            invocations,
        }
    }

    fn check(&self, request: Request<Pieces>) {
        let (asked, pieces) = request.clone().into_parts();
        let answer = self.routes.clone().oneshot(request);
        let answer = self.runtime.block_on(answer).expect("it cannot fail");
        let invoked = self.invocations.try_iter().collect::<Vec<_>>();
        let (head, body) = answer.into_parts();
        // The response with a followed log never ends.
        let body = body
            .collect()
            .now_or_never()
            .map(|body| body.expect("held whole").to_bytes());
        let answer = Response::from_parts(head, body.unwrap_or_default());
        let is_refused = answer.status().is_client_error() || answer.status().is_server_error();
        if is_refused {
            is_documented(&answer);
            assert!(invoked.is_empty(), "what is refused is not run");
        }
        let is_invoke = asked.method == Method::POST
            && asked.uri.path().starts_with("/2015-03-31/functions/")
            && asked.uri.path().ends_with("/invocations");
        match (is_invoke, is_refused, invoked.as_slice()) {
            (true, false, []) => assert_eq!(answer.status(), StatusCode::NO_CONTENT),
            (true, false, [invocation]) => {
                assert_eq!(answer.status(), StatusCode::OK);
                assert_eq!(answer.headers()["x-amz-executed-version"], "$LATEST");
                assert_eq!(*answer.body(), invocation.payload);
                is_as_asked(&asked.headers, &pieces, invocation);
            }
            (_, _, invoked) => assert!(invoked.is_empty(), "{} {}", asked.method, asked.uri),
        }
        if is_invoke && answer.status() != StatusCode::NOT_FOUND {
            assert_eq!(answer.headers()["x-amzn-requestid"].len(), 36);
        }
    }
}

fn is_documented(answer: &Response<Bytes>) {
    if answer
        .headers()
        .get("content-type")
        .is_some_and(|kind| kind == "application/x-amz-json-1.1")
    {
        return is_documented_of_logs(answer);
    }
    let kind = answer.headers().get("x-amzn-errortype").expect("a type");
    let kind = (answer.status().as_u16(), kind.to_str().expect("a name"));
    assert!(ERRORS.contains(&kind), "{kind:?}");
    assert_eq!(answer.headers()["content-type"], "application/json");
    let body: Value = serde_json::from_slice(answer.body()).expect("JSON");
    let message = body.get("message").or(body.get("Message"));
    let message = message.and_then(Value::as_str).expect("a message");
    assert!(!message.is_empty());
}

/// The same for CloudWatch Logs (contract §10), whose errors have their type in the body.
fn is_documented_of_logs(answer: &Response<Bytes>) {
    let body: Value = serde_json::from_slice(answer.body()).expect("JSON");
    let text = |field: &str| body[field].as_str().expect("a text");
    let kind = (answer.status().as_u16(), text("__type"));
    assert!(LOGS_ERRORS.contains(&kind), "{kind:?}");
    assert!(!text("message").is_empty());
}

fn is_as_asked(headers: &HeaderMap, pieces: &Pieces, invocation: &Invocation) {
    let payload = pieces.whole().expect("a body that broke off is not run");
    match payload.is_empty() {
        true => assert_eq!(invocation.payload, "{}"),
        false => assert_eq!(invocation.payload, payload),
    }
    assert!(payload.len() <= PAYLOAD_LIMIT);
    serde_json::from_slice::<serde::de::IgnoredAny>(&invocation.payload).expect("JSON");
    let arn = invocation.function_arn.to_str().expect("ASCII");
    let qualifier = arn.strip_prefix(ARN).expect("it is hello");
    assert!(["", ":$LATEST"].contains(&qualifier), "{arn}");
    let tail = headers
        .get("x-amz-log-type")
        .is_some_and(|kind| kind == "Tail");
    assert_eq!(invocation.log_tail, tail);
    // Runtimes have limits of a few KiB for all headers, and some read ASCII alone.
    let trace = invocation.trace.to_str().expect("ASCII");
    assert!(
        trace.starts_with("Root=1-") && trace.len() <= 1200,
        "{trace}"
    );
    assert!(
        trace.contains(";Parent=") && trace.contains(";Sampled="),
        "{trace}"
    );
    let sent = headers.get("x-amz-client-context");
    assert_eq!(sent.is_some(), invocation.client_context.is_some());
    if let (Some(sent), Some(given)) = (sent, &invocation.client_context) {
        assert!(sent.len() <= CLIENT_CONTEXT_LIMIT);
        let sent = BASE64_STANDARD.decode(sent).expect("base64");
        let sent: Value = serde_json::from_slice(&sent).expect("JSON");
        let given = given.to_str().expect("ASCII");
        assert_eq!(serde_json::from_str::<Value>(given).expect("JSON"), sent);
    }
}

/// Lets the routes take any kind of body.
const _: fn(Pieces) -> Body = Body::new;
