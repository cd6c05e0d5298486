//! The Invoke API as a client sees it: the path of a function, events, and the outcome of an answer.

use anyhow::{Context, Result};
use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode, Uri};
use serde_json::Value;

use crate::record::CallOutcome;

const INVOCATION_TYPE: HeaderName = HeaderName::from_static("x-amz-invocation-type");

pub fn path(function: &str) -> Result<Uri> {
    let path = format!("/2015-03-31/functions/{function}/invocations");
    path.parse()
        .with_context(|| format!("{function:?} cannot be a part of a path"))
}

/// A JSON event of so many bytes, which the functions of the benchmarks understand.
pub fn payload(bytes: usize) -> Bytes {
    let (head, tail) = ("{\"name\":\"Ada\",\"data\":\"", "\"}");
    let data = "x".repeat(bytes.saturating_sub(head.len() + tail.len()));
    Bytes::from(format!("{head}{data}{tail}"))
}

/// The headers of an asynchronous call.
pub fn asynchronous() -> HeaderMap {
    let event = HeaderValue::from_static("Event");
    HeaderMap::from_iter([(INVOCATION_TYPE, event)])
}

/// The request id of an event that was accepted.
pub fn accepted(answer: &Response<Bytes>) -> Option<String> {
    let id = answer.headers().get("x-amzn-requestid");
    let id = id.and_then(|id| id.to_str().ok()).unwrap_or_default();
    (answer.status() == StatusCode::ACCEPTED).then(|| id.to_owned())
}

pub fn outcome(answer: &Response<Bytes>) -> CallOutcome {
    let header = |name| {
        let value = answer.headers().get(name);
        value.and_then(|value| value.to_str().ok())
    };
    let json: Value = serde_json::from_slice(answer.body()).unwrap_or(Value::Null);
    let field = |name: &str| {
        let text = json.get(name).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    if answer.status() != StatusCode::OK {
        return CallOutcome::Error {
            kind: header("x-amzn-errortype").unwrap_or("untyped").to_owned(),
            // The field's case depends on the kind of error.
            message: field("message") + &field("Message"),
        };
    }
    if header("x-amz-function-error").is_some() {
        return CallOutcome::FunctionError {
            kind: field("errorType"),
            message: field("errorMessage"),
        };
    }
    let text = json.as_str().map(str::to_owned);
    CallOutcome::Success {
        answer: text.unwrap_or_else(|| String::from_utf8_lossy(answer.body()).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_json_of_its_size() {
        for bytes in [100, 65536] {
            let payload = payload(bytes);
            assert_eq!(payload.len(), bytes);
            let event: Value = serde_json::from_slice(&payload).expect("JSON");
            assert_eq!(event["name"], "Ada");
        }
    }

    #[test]
    fn an_answer_is_read_by_its_status_and_headers() {
        let answer = |status: u16, header: (&str, &str), body: &'static str| {
            let answer = Response::builder()
                .status(status)
                .header(header.0, header.1);
            outcome(&answer.body(Bytes::from(body)).expect("a response"))
        };
        let json = ("content-type", "application/json");
        assert_eq!(
            answer(200, json, "\"a-7\""),
            CallOutcome::Success {
                answer: "a-7".to_owned()
            }
        );
        let body = r#"{"errorType":"KeyError","errorMessage":"no id"}"#;
        assert_eq!(
            answer(200, ("x-amz-function-error", "Unhandled"), body),
            CallOutcome::FunctionError {
                kind: "KeyError".to_owned(),
                message: "no id".to_owned()
            }
        );
        let throttled = ("x-amzn-errortype", "TooManyRequestsException");
        assert_eq!(
            answer(429, throttled, r#"{"message":"busy"}"#),
            CallOutcome::Error {
                kind: "TooManyRequestsException".to_owned(),
                message: "busy".to_owned()
            }
        );
        assert_eq!(answer(502, json, "").kind(), "untyped");
    }

    #[test]
    fn an_accepted_event_has_a_request_id() {
        let answer = |status: u16| {
            let answer = Response::builder()
                .status(status)
                .header("x-amzn-requestid", "r-1");
            accepted(&answer.body(Bytes::new()).expect("a response"))
        };
        assert_eq!(answer(202).as_deref(), Some("r-1"));
        assert_eq!(answer(500), None);
    }
}
