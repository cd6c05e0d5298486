//! An invocation: the gateway's lease, then the runtime's requests, one after the other.
//!
//! The input is a byte that says whether errors are sanitised, then requests as texts, separated by 0x1d. In those
//! of the runtime `ID` stands for the invocation's id. Each request is answered in the documented form. The runtime
//! receives what the gateway sent, and the gateway receives what the runtime posted.

#![no_main]

use std::cell::RefCell;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use libfuzzer_sys::fuzz_target;
use pilotlight_fuzz::request::{self, Pieces};
use pilotlight_supervisor::fuzzing::{InvocationResponses, Thread};
use pilotlight_wire::config::InstanceConfig;
use pilotlight_wire::lease;
use serde_json::{Value, json};

const REQUEST: u8 = 0x1d;
const ID: &str = "8f3c4a1e-0000-4000-8000-000000000000";
const INVOCATION: &str = "/2018-06-01/runtime/invocation/";
const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
const PAYLOAD_LIMIT: usize = 6 * 1024 * 1024 + 100;
const ERRORS: [(u16, &str); 7] = [
    (400, "InvalidFunctionResponseMode"),
    (400, "InvalidRequestID"),
    (400, "TruncatedHTTPRequest"),
    (403, "InvalidStateTransition"),
    (404, "ResourceNotFound"),
    (413, "RequestEntityTooLarge"),
    (500, "InternalServerError"),
];

thread_local! {
    static THREAD: RefCell<Thread> = RefCell::new(Thread::new());
}

fuzz_target!(|data: &[u8]| {
    let Some((first, data)) = data.split_first() else {
        return;
    };
    let mut texts = data.split(|byte| *byte == REQUEST);
    let Some(lease) = texts.next().and_then(request::parse) else {
        return;
    };
    let sanitize = first % 2 == 1;
    let id = lease.headers().get("pilotlight-request-id");
    let id = id.and_then(|id| id.to_str().ok()).unwrap_or(ID).to_owned();
    let requests: Vec<_> = texts
        .filter_map(|text| request::parse(&with_id(text, &id)))
        .collect();
    let responses = THREAD
        .with_borrow(|thread| thread.invoke(config(sanitize), lease.clone(), requests.clone()));
    check(&lease, &id, &requests, &responses, sanitize);
});

fn with_id(text: &[u8], id: &str) -> Vec<u8> {
    match text.windows(4).position(|word| word == b"/ID/") {
        Some(at) => [&text[..at + 1], id.as_bytes(), &text[at + 3..]].concat(),
        None => text.to_vec(),
    }
}

fn config(sanitize: bool) -> InstanceConfig {
    let config = json!({
        "listen": "127.0.0.1:0", "endsWithParent": false, "function": "hello", "memory": 10240,
        "timeout": 900, "sanitizeErrors": sanitize, "logFormat": "Text", "logs": true,
        "logGroup": "/aws/lambda/hello", "logStream": "2026/01/31/[$LATEST]0",
        "runtime": "custom", "command": ["/bin/false"], "taskRoot": "/", "environment": {},
    });
    serde_json::from_value(config).expect("a configuration")
}

fn check(
    lease: &Request<Pieces>,
    id: &str,
    requests: &[Request<Pieces>],
    responses: &InvocationResponses,
    sanitize: bool,
) {
    let mut posted = None;
    for (request, answer) in requests.iter().zip(&responses.runtime) {
        let path = request.uri().path();
        let is_next = request.method() == Method::GET && path == format!("{INVOCATION}next");
        let Some(answer) = answer else {
            assert!(is_next, "only `next` waits: {path}");
            continue;
        };
        match answer.status() {
            StatusCode::OK if is_next => is_delivered(lease, id, answer),
            StatusCode::OK => assert_eq!(path, "/2018-06-01/ping"),
            StatusCode::ACCEPTED => {
                assert_eq!(answer.body(), r#"{"status":"OK"}"#);
                let is_answer = path.starts_with(INVOCATION);
                posted = posted.or(is_answer.then_some(request));
            }
            _ => is_documented(answer),
        }
    }
    let Some(leased) = &responses.lease else {
        return;
    };
    match (leased.status(), posted) {
        (StatusCode::OK, Some(posted)) => is_answered(posted, leased, sanitize),
        // A response over the limit, or a failed init: the error is the platform's or the runtime's.
        (StatusCode::OK, None) => is_failed(leased),
        (status, _) => assert!([400, 409, 413].contains(&status.as_u16()), "{status}"),
    }
}

fn is_delivered(lease: &Request<Pieces>, id: &str, answer: &Response<Bytes>) {
    let given = answer.headers();
    assert_eq!(lease.body().whole().as_deref(), Some(&answer.body()[..]));
    assert_eq!(given["lambda-runtime-aws-request-id"], id);
    assert_eq!(given["content-type"], "application/json");
    let deadline = given["lambda-runtime-deadline-ms"].to_str().expect("ASCII");
    assert!(deadline.parse::<u64>().is_ok(), "{deadline}");
    for name in [lease::FUNCTION_ARN, lease::TRACE_ID, lease::CLIENT_CONTEXT] {
        assert_eq!(given.get(&name), lease.headers().get(&name), "{name}");
    }
}

fn is_documented(answer: &Response<Bytes>) {
    assert_eq!(answer.headers()["content-type"], "application/json");
    let body: Value = serde_json::from_slice(answer.body()).expect("JSON");
    let text = |field: &str| body.get(field).and_then(Value::as_str).expect("a text");
    let kind = (answer.status().as_u16(), text("errorType"));
    assert!(ERRORS.contains(&kind), "{kind:?}");
    assert!(!text("errorMessage").is_empty());
}

fn is_answered(posted: &Request<Pieces>, answer: &Response<Bytes>, sanitize: bool) {
    let ends_in_error = posted.body().trailers().contains_key(ERROR_TYPE);
    let is_error = ends_in_error || posted.uri().path().ends_with("/error");
    let outcome = if is_error {
        "function-error"
    } else {
        "success"
    };
    assert_eq!(outcome_of(answer.headers()), outcome);
    let body = posted
        .body()
        .whole()
        .expect("a body that broke off is no answer");
    match is_error && sanitize {
        // Its body is in the trailers, if anywhere.
        false if ends_in_error => is_failed(answer),
        false => assert_eq!(answer.body(), &body[..]),
        true => is_failed(answer),
    }
    assert!(
        answer.body().len() <= PAYLOAD_LIMIT,
        "{}",
        answer.body().len()
    );
}

fn is_failed(answer: &Response<Bytes>) {
    assert_eq!(outcome_of(answer.headers()), "function-error");
    assert!(answer.body().len() <= PAYLOAD_LIMIT);
}

fn outcome_of(headers: &HeaderMap) -> &str {
    headers["pilotlight-outcome"].to_str().expect("ASCII")
}
