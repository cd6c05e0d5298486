//! `POST /lease`: an event goes in, the answer comes out; 409 with a refusal if it never started.
//!
//! The gateway's `instance` writes requests and reads responses, the supervisor's `control_api` does the
//! opposite. Nothing here decides whether a lease is granted: that is `core::instance`. An answer is whole,
//! with its outcome in the head, or a stream, with its outcome in the trailers (`stream`). Supervisors of an
//! earlier release are still running after an upgrade, so names and values stay as they are; the tests
//! have them as texts.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, response};
use pilotlight_core::instance::phases::Phases;
use pilotlight_core::instance::{Refusal, RequestId, Status};

use crate::answer::LeaseAnswer;
use crate::headers::{LOG_TAIL, TRACE_STATE, accept_stream, accepts_stream};
use crate::stream::StreamHead;
use crate::{phases, report, status};

pub const LEASE_PATH: &str = "/lease";

/// On a request: the invocation's request id.
const REQUEST_ID: HeaderName = HeaderName::from_static("pilotlight-request-id");
/// On a refusal: why the lease never started.
pub(crate) const REFUSAL: HeaderName = HeaderName::from_static("pilotlight-refusal");

/// Headers that the runtime's `next` gets as the lease has them (contract §1).
pub const CLIENT_CONTEXT: HeaderName = HeaderName::from_static("lambda-runtime-client-context");
pub const FUNCTION_ARN: HeaderName = HeaderName::from_static("lambda-runtime-invoked-function-arn");
pub const TRACE_ID: HeaderName = HeaderName::from_static("lambda-runtime-trace-id");

/// One invocation as a gateway hands it to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    pub request_id: RequestId,
    pub event: Bytes,
    pub function_arn: HeaderValue,
    pub trace_id: Option<HeaderValue>,
    /// The caller's `tracestate`, for the calls that the function makes.
    pub trace_state: Option<HeaderValue>,
    /// JSON.
    pub client_context: Option<HeaderValue>,
    /// The answer must carry the end of the log.
    pub wants_log_tail: bool,
    /// The answer must carry a report for the trace.
    pub wants_report: bool,
    /// The answer may be a stream.
    pub accepts_stream: bool,
    /// Set on an instance's first lease: how long the cold start took before the instance was up.
    pub phases: Option<Phases>,
}

/// The headers lack a request id or a function ARN, or their request id is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a lease needs a request id and a function ARN")]
pub struct InvalidLease;

impl LeaseRequest {
    /// # Panics
    /// If the request id is no header value.
    pub fn into_request(self) -> Request<Bytes> {
        let mut request = Request::new(self.event);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(LEASE_PATH);
        let headers = request.headers_mut();
        let request_id = HeaderValue::from_str(&self.request_id);
        headers.insert(REQUEST_ID, request_id.expect("a request id is ASCII"));
        headers.insert(FUNCTION_ARN, self.function_arn);
        if let Some(context) = self.client_context {
            headers.insert(CLIENT_CONTEXT, context);
        }
        if let Some(trace_id) = self.trace_id {
            headers.insert(TRACE_ID, trace_id);
        }
        if let Some(state) = self.trace_state {
            headers.insert(TRACE_STATE, state);
        }
        if let Some(phases) = &self.phases {
            headers.insert(phases::PHASES, phases::write(phases));
        }
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
    /// If the headers lack what a lease needs.
    pub fn read(headers: &HeaderMap, event: Bytes) -> Result<Self, InvalidLease> {
        let request_id = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
        let request_id = request_id.filter(|id| is_request_id(id));
        Ok(LeaseRequest {
            request_id: request_id.ok_or(InvalidLease)?.into(),
            event,
            function_arn: headers.get(FUNCTION_ARN).ok_or(InvalidLease)?.clone(),
            trace_id: headers.get(TRACE_ID).cloned(),
            trace_state: headers.get(TRACE_STATE).cloned(),
            client_context: headers.get(CLIENT_CONTEXT).cloned(),
            wants_log_tail: headers.contains_key(LOG_TAIL),
            wants_report: report::is_wanted(headers),
            accepts_stream: accepts_stream(headers),
            phases: headers
                .contains_key(phases::PHASES)
                .then(|| phases::read(headers)),
        })
    }
}

/// Whether a text can be a segment of the Runtime API's paths, and a word of a log's records.
pub fn is_request_id(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=64).contains(&text.len()) && text != "-" && text.bytes().all(is_allowed)
}

/// The answer to a lease that provably never started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRefusal {
    /// `None` if a newer supervisor has a reason that this version does not know.
    pub reason: Option<Refusal>,
    /// `None` if the supervisor does not report it.
    pub status: Option<Status>,
}

/// The reasons that are sent; the others answer calls of the Runtime API only.
const REASONS: [Refusal; 3] = [Refusal::Busy, Refusal::Starting, Refusal::Draining];

impl LeaseRefusal {
    pub fn new(reason: Refusal, status: Status) -> Self {
        LeaseRefusal {
            reason: Some(reason),
            status: Some(status),
        }
    }

    pub fn into_response(self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::CONFLICT;
        let headers = response.headers_mut();
        let reason = self.reason.map_or_else(
            || HeaderValue::from_static("not started"),
            |reason| HeaderValue::try_from(reason.to_string()).expect("refusals are ASCII"),
        );
        headers.insert(REFUSAL, reason);
        if let Some(status) = self.status {
            headers.insert(status::STATUS, status::to_value(status));
        }
        response
    }
}

/// What the head of a response to a lease says. The body of an answer follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseHead {
    Answered(LeaseAnswer),
    /// The body follows as it comes, and then its outcome in trailers.
    Streamed(StreamHead),
    Refused(LeaseRefusal),
    /// A supervisor of any release sends no such response: whether the event has run is unknown.
    Unreadable,
}

impl LeaseHead {
    /// The answer's body is empty until the caller has read it.
    pub fn read(head: &response::Parts) -> Self {
        let headers = &head.headers;
        let status = status::of_headers(headers);
        // First, whatever the status code is: nothing may run twice for it, and it may run elsewhere.
        if let Some(refusal) = headers.get(REFUSAL) {
            let mut reasons = REASONS.into_iter();
            return LeaseHead::Refused(LeaseRefusal {
                reason: reasons.find(|reason| *refusal == *reason.to_string()),
                status,
            });
        }
        if let Some(stream) = StreamHead::read(head) {
            return LeaseHead::Streamed(stream);
        }
        match LeaseAnswer::read(head) {
            Some(answer) => LeaseHead::Answered(answer),
            None => LeaseHead::Unreadable,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pilotlight_core::instance::Condition;
    use pilotlight_core::instance::failure::FailureKind;
    use pilotlight_core::instance::phases::Phase;

    use super::*;
    use crate::headers::OUTCOME;

    /// Every header as a line, in the order of names.
    fn lines(headers: &HeaderMap) -> Vec<String> {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().expect("ASCII"))
        };
        let mut lines: Vec<_> = headers.iter().map(line).collect();
        lines.sort_unstable();
        lines
    }

    fn lease() -> LeaseRequest {
        let queued = (Phase::Queue, Duration::from_micros(210));
        LeaseRequest {
            request_id: "8f3c4a1e-0000-4000-8000-000000000000".into(),
            event: Bytes::from_static(b"{}"),
            function_arn: HeaderValue::from_static("arn:aws:lambda:us-east-1:0:function:hello"),
            trace_id: Some(HeaderValue::from_static("Root=1-5e0f-1;Sampled=0")),
            trace_state: Some(HeaderValue::from_static("vendor=1")),
            client_context: Some(HeaderValue::from_static(r#"{"custom":{}}"#)),
            wants_log_tail: true,
            wants_report: true,
            accepts_stream: true,
            phases: Some(Phases::of([queued])),
        }
    }

    fn answer() -> LeaseAnswer {
        LeaseAnswer {
            is_error: true,
            body: Bytes::from_static(b"[]"),
            content_type: Some(HeaderValue::from_static("application/json")),
            log_tail: Some(HeaderValue::from_static("TE9H")),
            report: None,
            phases: Phases::of([(Phase::Init, Duration::from_micros(8400))]),
            status: Status {
                epoch: 3,
                condition: Condition::Ready,
            },
            failure: Some(FailureKind::OutOfMemory),
        }
    }

    #[test]
    fn a_lease_is_written_as_every_release_writes_it_and_reads_back() {
        let request = lease().into_request();
        assert_eq!(
            (request.method(), request.uri().path()),
            (&Method::POST, "/lease")
        );
        let golden = [
            r#"lambda-runtime-client-context: {"custom":{}}"#,
            "lambda-runtime-invoked-function-arn: arn:aws:lambda:us-east-1:0:function:hello",
            "lambda-runtime-trace-id: Root=1-5e0f-1;Sampled=0",
            "pilotlight-log-tail: 1",
            "pilotlight-phases: queue;dur=0.21",
            "pilotlight-request-id: 8f3c4a1e-0000-4000-8000-000000000000",
            "pilotlight-trace-state: vendor=1",
            "pilotlight-traced: 1",
            "te: trailers",
        ];
        assert_eq!(lines(request.headers()), golden);
        let read = LeaseRequest::read(request.headers(), request.body().clone());
        assert_eq!(read, Ok(lease()));
    }

    #[test]
    fn a_lease_without_its_request_id_or_its_function_is_invalid() {
        for missing in [REQUEST_ID, FUNCTION_ARN] {
            let mut request = lease().into_request();
            request.headers_mut().remove(missing);
            let read = LeaseRequest::read(request.headers(), Bytes::new());
            assert_eq!(read, Err(InvalidLease));
        }
    }

    #[test]
    fn a_request_id_is_a_word_for_paths_and_records() {
        for id in ["8f3c4a1e-0000-4000-8000-000000000000", "a"] {
            assert!(is_request_id(id), "{id}");
        }
        for id in ["", "-", "a b", "a/b", "a\tb", &"a".repeat(65)] {
            assert!(!is_request_id(id), "{id:?}");
        }
    }

    #[test]
    fn an_answer_is_written_as_every_release_writes_it_and_reads_back() {
        let (head, body) = answer().into_response().into_parts();
        assert_eq!((head.status, body), (StatusCode::OK, answer().body));
        let golden = [
            "content-type: application/json",
            "pilotlight-failure: out_of_memory",
            "pilotlight-log-tail: TE9H",
            "pilotlight-outcome: function-error",
            "pilotlight-phases: init;dur=8.40",
            "pilotlight-status: 3 ready",
        ];
        assert_eq!(lines(&head.headers), golden);
        let expected = LeaseAnswer {
            body: Bytes::new(),
            ..answer()
        };
        assert_eq!(LeaseHead::read(&head), LeaseHead::Answered(expected));
        let success = LeaseAnswer {
            is_error: false,
            ..answer()
        };
        let success = success.into_response();
        assert_eq!(success.headers()[OUTCOME], "success");
    }

    #[test]
    fn a_refusal_is_written_as_every_release_writes_it_and_reads_back() {
        let refusal = LeaseRefusal::new(Refusal::Busy, answer().status);
        let (head, _) = refusal.clone().into_response().into_parts();
        assert_eq!(head.status, StatusCode::CONFLICT);
        let golden = [
            "pilotlight-refusal: busy, not started: the instance runs another invocation",
            "pilotlight-status: 3 ready",
        ];
        assert_eq!(lines(&head.headers), golden);
        assert_eq!(LeaseHead::read(&head), LeaseHead::Refused(refusal));
    }

    #[test]
    fn a_refusal_for_a_new_reason_is_a_refusal() {
        let mut response = Response::new(());
        let reason = HeaderValue::from_static("frozen, not started");
        response.headers_mut().insert(REFUSAL, reason);
        let refusal = LeaseRefusal {
            reason: None,
            status: None,
        };
        let head = response.into_parts().0;
        assert_eq!(LeaseHead::read(&head), LeaseHead::Refused(refusal));
    }

    #[test]
    fn what_is_neither_answer_nor_refusal_is_unreadable() {
        let (mut head, _) = answer().into_response().into_parts();
        head.status = StatusCode::INTERNAL_SERVER_ERROR;
        assert_eq!(LeaseHead::read(&head), LeaseHead::Unreadable);
        head.status = StatusCode::OK;
        head.headers.remove(status::STATUS);
        assert_eq!(LeaseHead::read(&head), LeaseHead::Unreadable);
    }
}
