//! `POST /pilotlight/v1/invoke`: a gateway passes an invocation to the gateway that owns the function.
//!
//! The sender's `invoker` writes requests and reads outcomes, the receiver's `http::parts` does the opposite.
//! The request id is the caller's and stays the same over all hops. Nothing here decides who owns a
//! function. The head is in headers, so that a payload passes as it is. A reader ignores what it does not
//! know: the other gateway may be newer. An answer is whole, with its outcome in the head, or a stream, with its
//! outcome in the trailers (`stream`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, response};
use pilotlight_core::ids::PoolId;
use pilotlight_core::instance::RequestId;
use pilotlight_core::instance::phases::Phases;
use pilotlight_core::reason::{Notice, Reason};
use pilotlight_core::traces::spans::CallReport;

use crate::headers::{LOG_TAIL, OUTCOME, TRACE_STATE, accept_stream, accepts_stream};
use crate::{phases, report};

pub const INVOKE_PATH: &str = "/pilotlight/v1/invoke";

/// `namespace/name:qualifier`.
const TARGET: HeaderName = HeaderName::from_static("pilotlight-target");
const REQUEST_ID: HeaderName = HeaderName::from_static("pilotlight-request-id");
const FUNCTION_ARN: HeaderName = HeaderName::from_static("pilotlight-function-arn");
const CLIENT_CONTEXT: HeaderName = HeaderName::from_static("pilotlight-client-context");
const TRACE_ID: HeaderName = HeaderName::from_static("pilotlight-trace-id");
/// How many gateways have passed the invocation on, this request included.
const HOPS: HeaderName = HeaderName::from_static("pilotlight-hops");
/// Milliseconds. A request without it has not waited.
const WAITED: HeaderName = HeaderName::from_static("pilotlight-waited");
/// With the outcome `throttled`: which limit is the reason. With `not-ready`: which notice the caller gets.
const REASON: HeaderName = HeaderName::from_static("pilotlight-reason");

const SUCCESS: &str = "success";
const FUNCTION_ERROR: &str = "function-error";
const THROTTLED: &str = "throttled";
const NOT_READY: &str = "not-ready";
const NOT_FOUND: &str = "not-found";
const NOT_PLACED: &str = "not-placed";
const STOPPING: &str = "stopping";
const INVALID: &str = "invalid";
const LOST: &str = "lost";

/// The notices of the outcome `not-ready`. Without one it is that no instance can be started.
const CANNOT_START: &str = "cannot-start";
const NOT_IN_TIME: &str = "not-in-time";
const UNREADABLE: &str = "unreadable";

/// One invocation on its way to another gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvokeRequest {
    pub target: PoolId,
    pub request_id: RequestId,
    pub payload: Bytes,
    /// The ARN as the caller named the function, with a qualifier only if the caller gave one.
    pub function_arn: HeaderValue,
    /// JSON.
    pub client_context: Option<HeaderValue>,
    /// The header of X-Ray, whose parent is the span that the invocation belongs to.
    pub trace_id: HeaderValue,
    /// The caller's `tracestate`.
    pub trace_state: Option<HeaderValue>,
    pub wants_log_tail: bool,
    /// The answer must carry a report for the trace.
    pub wants_report: bool,
    /// The answer may be a stream (`stream`). A gateway of an earlier release reads whole ones alone.
    pub accepts_stream: bool,
    /// How many gateways have passed it on, this request included.
    pub hops: u16,
    /// How long it has been without an owner at the gateways that passed it on, in whole milliseconds. So all of
    /// them together bound that time.
    pub waited: Duration,
}

/// The headers are not those of an [`InvokeRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an invocation from another gateway has no valid header {0}")]
pub struct InvalidInvoke(&'static str);

impl InvokeRequest {
    /// # Panics
    /// If the request id is not a header value.
    pub fn into_request(self) -> Request<Bytes> {
        let mut request = Request::new(self.payload);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(INVOKE_PATH);
        let headers = request.headers_mut();
        let target = HeaderValue::try_from(self.target.to_string());
        headers.insert(TARGET, target.expect("the name of a pool is ASCII"));
        let request_id = HeaderValue::from_str(&self.request_id);
        headers.insert(REQUEST_ID, request_id.expect("a request id is ASCII"));
        headers.insert(FUNCTION_ARN, self.function_arn);
        if let Some(context) = self.client_context {
            headers.insert(CLIENT_CONTEXT, context);
        }
        headers.insert(TRACE_ID, self.trace_id);
        if let Some(state) = self.trace_state {
            headers.insert(TRACE_STATE, state);
        }
        headers.insert(HOPS, HeaderValue::from(self.hops));
        let waited = u64::try_from(self.waited.as_millis()).unwrap_or(u64::MAX);
        headers.insert(WAITED, HeaderValue::from(waited));
        if self.wants_log_tail {
            headers.insert(LOG_TAIL, HeaderValue::from_static("1"));
        }
        if self.wants_report {
            report::want(headers);
        }
        if self.accepts_stream {
            accept_stream(headers);
        }
        request
    }

    /// # Errors
    /// If a header is missing or malformed.
    pub fn read(headers: &HeaderMap, payload: Bytes) -> Result<Self, InvalidInvoke> {
        let text = |name: &HeaderName, label| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.ok_or(InvalidInvoke(label))
        };
        let value = |name: &HeaderName, label| {
            let value = headers.get(name).cloned();
            value.ok_or(InvalidInvoke(label))
        };
        let target = text(&TARGET, "pilotlight-target")?.parse();
        let hops = text(&HOPS, "pilotlight-hops")?.parse();
        let waited = match headers.contains_key(WAITED) {
            true => text(&WAITED, "pilotlight-waited")?.parse(),
            false => Ok(0),
        };
        Ok(InvokeRequest {
            target: target.map_err(|_| InvalidInvoke("pilotlight-target"))?,
            request_id: text(&REQUEST_ID, "pilotlight-request-id")?.into(),
            payload,
            function_arn: value(&FUNCTION_ARN, "pilotlight-function-arn")?,
            client_context: headers.get(CLIENT_CONTEXT).cloned(),
            trace_id: value(&TRACE_ID, "pilotlight-trace-id")?,
            trace_state: headers.get(TRACE_STATE).cloned(),
            wants_log_tail: headers.contains_key(LOG_TAIL),
            wants_report: report::is_wanted(headers),
            accepts_stream: accepts_stream(headers),
            hops: hops.map_err(|_| InvalidInvoke("pilotlight-hops"))?,
            waited: waited
                .map(Duration::from_millis)
                .map_err(|_| InvalidInvoke("pilotlight-waited"))?,
        })
    }
}

/// How an invocation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answered(Answer),
    /// It never started: a limit was reached.
    Throttled(ThrottleReason),
    /// It never started: no instance can be started, for this reason. Its detail passes between gateways, and
    /// none puts it into an answer.
    NotReady(Reason),
    /// It never started: the function does not exist.
    NotFound,
    /// It never started: no gateway took it. It may be tried at another one.
    NotPlaced,
    /// It never started: the gateway is shutting down. The function still exists.
    Stopping,
    /// It never started: the gateway cannot read the message, for this reason. Other gateways of its release
    /// cannot read it either.
    Invalid(Arc<str>),
    /// Its instance or its gateway was lost. Whether it took effect is not known.
    Lost,
}

/// The function's own response, as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub is_error: bool,
    pub content_type: Option<HeaderValue>,
    pub body: Bytes,
    /// The last 4 KB of the log, in base64.
    pub log_tail: Option<HeaderValue>,
    /// How long each phase took, if this was a cold start.
    pub phases: Option<Phases>,
    /// For the trace, if the request wants it.
    pub report: Option<Box<CallReport>>,
}

/// Which limit an invocation met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThrottleReason {
    /// The limit for functions without reserved concurrency.
    Concurrency,
    /// The function's reserved concurrency.
    ReservedConcurrency,
    /// Too many bytes wait for the function.
    QueueBytes,
}

impl ThrottleReason {
    const ALL: [ThrottleReason; 3] = [
        ThrottleReason::Concurrency,
        ThrottleReason::ReservedConcurrency,
        ThrottleReason::QueueBytes,
    ];

    fn as_str(self) -> &'static str {
        match self {
            ThrottleReason::Concurrency => "concurrency",
            ThrottleReason::ReservedConcurrency => "reserved-concurrency",
            ThrottleReason::QueueBytes => "queue-bytes",
        }
    }
}

impl Outcome {
    pub fn into_response(self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        let outcome = match self {
            Outcome::Answered(answer) => answer.write(&mut response),
            Outcome::Throttled(reason) => {
                let reason = HeaderValue::from_static(reason.as_str());
                response.headers_mut().insert(REASON, reason);
                THROTTLED
            }
            // In the body: a reason may have characters that no header can hold.
            Outcome::NotReady(reason) => {
                *response.body_mut() = Bytes::copy_from_slice(reason.detail().as_bytes());
                let notice = HeaderValue::from_static(match reason.notice() {
                    Notice::NotInTime => NOT_IN_TIME,
                    Notice::Unreadable(_) => UNREADABLE,
                    _ => CANNOT_START,
                });
                response.headers_mut().insert(REASON, notice);
                NOT_READY
            }
            Outcome::Invalid(reason) => {
                *response.status_mut() = StatusCode::BAD_REQUEST;
                *response.body_mut() = Bytes::copy_from_slice(reason.as_bytes());
                INVALID
            }
            Outcome::NotFound => NOT_FOUND,
            Outcome::NotPlaced => NOT_PLACED,
            Outcome::Stopping => STOPPING,
            Outcome::Lost => LOST,
        };
        let outcome = HeaderValue::from_static(outcome);
        response.headers_mut().insert(OUTCOME, outcome);
        response
    }

    /// Reads a response. A gateway answers 404 and 503 without an outcome only before it has looked at an
    /// invocation; any other response that cannot be read leaves open whether the event has run.
    pub fn read(head: &response::Parts, body: Bytes) -> Self {
        let headers = &head.headers;
        let outcome = headers.get(OUTCOME).and_then(|value| value.to_str().ok());
        match (outcome, head.status) {
            (Some(SUCCESS), _) => Outcome::Answered(Answer::read(false, headers, body)),
            (Some(FUNCTION_ERROR), _) => Outcome::Answered(Answer::read(true, headers, body)),
            (Some(THROTTLED), _) => {
                let reason = headers.get(REASON);
                let mut all = ThrottleReason::ALL.into_iter();
                let reason = all.find(|known| reason.is_some_and(|text| text == known.as_str()));
                Outcome::Throttled(reason.unwrap_or(ThrottleReason::Concurrency))
            }
            (Some(NOT_READY), _) => {
                let detail = String::from_utf8_lossy(&body);
                let notice = headers.get(REASON).and_then(|value| value.to_str().ok());
                Outcome::NotReady(match notice {
                    Some(UNREADABLE) => Reason::unreadable(detail.into()),
                    Some(NOT_IN_TIME) => Reason::new(Notice::NotInTime, detail),
                    _ => Reason::new(Notice::CannotStart, detail),
                })
            }
            (Some(NOT_FOUND), _) => Outcome::NotFound,
            (Some(NOT_PLACED), _) => Outcome::NotPlaced,
            (Some(STOPPING), _) => Outcome::Stopping,
            (Some(INVALID), _) => Outcome::Invalid(String::from_utf8_lossy(&body).into()),
            (None, StatusCode::NOT_FOUND | StatusCode::SERVICE_UNAVAILABLE) => Outcome::NotPlaced,
            _ => Outcome::Lost,
        }
    }
}

impl Answer {
    fn write(self, response: &mut Response<Bytes>) -> &'static str {
        *response.body_mut() = self.body;
        let headers = response.headers_mut();
        if let Some(content_type) = self.content_type {
            headers.insert(CONTENT_TYPE, content_type);
        }
        if let Some(tail) = self.log_tail {
            headers.insert(LOG_TAIL, tail);
        }
        if let Some(phases) = self.phases {
            headers.insert(phases::PHASES, phases::write(&phases));
        }
        if let Some(report) = &self.report {
            report::write(report, headers);
        }
        match self.is_error {
            false => SUCCESS,
            true => FUNCTION_ERROR,
        }
    }

    fn read(is_error: bool, headers: &HeaderMap, body: Bytes) -> Self {
        let phases = headers.get(phases::PHASES);
        let phases = phases.and_then(|text| text.to_str().ok());
        Answer {
            is_error,
            content_type: headers.get(CONTENT_TYPE).cloned(),
            body,
            log_tail: headers.get(LOG_TAIL).cloned(),
            phases: phases.map(Phases::read),
            report: report::read(headers).map(Box::new),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pilotlight_core::instance::phases::Phase;

    use super::*;

    fn request() -> InvokeRequest {
        InvokeRequest {
            target: "shop/hello:$LATEST".parse().expect("a pool"),
            request_id: "8f3c4a1e-0000-4000-8000-000000000000".into(),
            payload: Bytes::from_static(b"{}"),
            function_arn: HeaderValue::from_static("arn:aws:lambda:us-east-1:0:function:hello"),
            client_context: Some(HeaderValue::from_static(r#"{"custom":{}}"#)),
            trace_id: HeaderValue::from_static("Root=1-5e0f-1;Sampled=0"),
            trace_state: Some(HeaderValue::from_static("vendor=1")),
            wants_log_tail: true,
            wants_report: true,
            accepts_stream: true,
            hops: 2,
            waited: Duration::from_millis(2050),
        }
    }

    #[test]
    fn a_request_reads_back_as_it_was_written() {
        let short = InvokeRequest {
            client_context: None,
            wants_log_tail: false,
            wants_report: false,
            accepts_stream: false,
            waited: Duration::ZERO,
            ..request()
        };
        for request in [request(), short] {
            let mut sent = request.clone().into_request();
            assert_eq!(
                (sent.method(), sent.uri().path()),
                (&Method::POST, INVOKE_PATH)
            );
            let newer = HeaderValue::from_static("x");
            sent.headers_mut().insert("pilotlight-newer", newer);
            let (head, payload) = sent.into_parts();
            assert_eq!(InvokeRequest::read(&head.headers, payload), Ok(request));
        }
    }

    #[test]
    fn a_request_without_a_necessary_header_is_refused_by_its_name() {
        for name in ["target", "request-id", "function-arn", "trace-id", "hops"] {
            let (mut head, payload) = request().into_request().into_parts();
            let name = format!("pilotlight-{name}");
            head.headers.remove(&name);
            let error = InvokeRequest::read(&head.headers, payload).expect_err("incomplete");
            assert!(error.to_string().ends_with(&name), "{error}");
        }
    }

    #[test]
    fn a_request_of_an_older_gateway_has_not_waited_and_an_unreadable_time_is_refused() {
        let (mut head, payload) = request().into_request().into_parts();
        assert_eq!(head.headers["pilotlight-waited"], "2050");
        head.headers.remove(WAITED);
        let read = InvokeRequest::read(&head.headers, payload.clone());
        assert_eq!(read.expect("complete").waited, Duration::ZERO);
        for unreadable in ["", "-1", "2.5", "2 s", "18446744073709551616"] {
            let value = HeaderValue::from_static(unreadable);
            head.headers.insert(WAITED, value);
            let read = InvokeRequest::read(&head.headers, payload.clone());
            assert_eq!(
                read,
                Err(InvalidInvoke("pilotlight-waited")),
                "{unreadable}"
            );
        }
    }

    #[test]
    fn an_outcome_reads_back_as_it_was_written() {
        let answer = Answer {
            is_error: false,
            content_type: Some(HeaderValue::from_static("application/json")),
            body: Bytes::from_static(b"[]"),
            log_tail: Some(HeaderValue::from_static("U1RBUlQ=")),
            phases: Some(Phases::of([(Phase::Init, Duration::from_millis(8))])),
            report: Some(Box::default()),
        };
        let failed = Answer {
            is_error: true,
            content_type: None,
            log_tail: None,
            phases: None,
            report: None,
            ..answer.clone()
        };
        let mut outcomes = vec![
            Outcome::Answered(answer),
            Outcome::Answered(failed),
            Outcome::NotReady("kein Platz für sie".into()),
            Outcome::NotReady(Reason::not_in_time()),
            Outcome::NotReady(Reason::unreadable("spec.grün".into())),
            Outcome::NotFound,
            Outcome::NotPlaced,
            Outcome::Stopping,
            Outcome::Invalid("no valid header".into()),
            Outcome::Lost,
        ];
        outcomes.extend(ThrottleReason::ALL.map(Outcome::Throttled));
        for outcome in outcomes {
            let (head, body) = outcome.clone().into_response().into_parts();
            assert_eq!(Outcome::read(&head, body), outcome);
        }
        // A gateway of an earlier release sends the detail alone.
        let earlier = Outcome::NotReady("Secret shop-login".into()).into_response();
        let (mut head, body) = earlier.into_parts();
        head.headers.remove(REASON);
        let Outcome::NotReady(reason) = Outcome::read(&head, body) else {
            panic!("it is not ready");
        };
        assert_eq!(
            (reason.notice(), reason.detail()),
            (&Notice::CannotStart, "Secret shop-login")
        );
    }

    #[test]
    fn a_response_without_a_known_outcome_is_lost_unless_the_gateway_has_no_such_path_or_is_not_ready()
     {
        let read = |status: u16, outcome: Option<&'static str>| {
            let mut response = Response::builder().status(status);
            if let Some(outcome) = outcome {
                response = response.header(OUTCOME, outcome);
            }
            let (head, body) = response
                .body(Bytes::new())
                .expect("a response")
                .into_parts();
            Outcome::read(&head, body)
        };
        assert_eq!(read(404, None), Outcome::NotPlaced);
        assert_eq!(read(503, None), Outcome::NotPlaced);
        assert_eq!(read(200, None), Outcome::Lost);
        assert_eq!(read(500, None), Outcome::Lost);
        assert_eq!(read(400, None), Outcome::Lost);
        assert_eq!(read(200, Some("newer")), Outcome::Lost);
        assert_eq!(read(503, Some("newer")), Outcome::Lost);
    }
}
