//! An answer that is a stream: its head, the body as it comes, and the outcome in the trailers.
//!
//! The supervisor's `control_api` writes it if the runtime streams its response and the gateway accepts that;
//! the gateway's `instance` reads it. A gateway that runs an invocation for another one passes the stream on in the
//! same form. A stream without its trailers has broken off, and nobody knows its outcome.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TRAILER};
use http::{Response, StatusCode, response};
use pilotlight_core::instance::Status;
use pilotlight_core::instance::failure::FailureKind;
use pilotlight_core::instance::phases::Phases;
use pilotlight_core::traces::spans::CallReport;

use crate::answer::{FUNCTION_ERROR, SUCCESS};
use crate::headers::{FAILURE, LOG_TAIL, OUTCOME, failure_of};
use crate::invoke::Answer;
use crate::{phases, report, status};

/// The names of the trailers. HTTP/1.1 sends only those that the head lists.
const TRAILERS: HeaderValue = HeaderValue::from_static(
    "pilotlight-outcome, pilotlight-status, pilotlight-log-tail, pilotlight-error, pilotlight-failure, pilotlight-timing, \
     pilotlight-segments, pilotlight-segments-dropped, pilotlight-ran-in",
);
/// In the trailers: the body of an error that replaces the stream, in base64.
const ERROR: HeaderName = HeaderName::from_static("pilotlight-error");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What is known when a streamed answer begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamHead {
    pub content_type: Option<HeaderValue>,
    /// On the first answer after a cold start, how long that took: in the instance, and from a gateway as a whole.
    pub phases: Phases,
}

/// What is known when a streamed answer ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEnd {
    /// The JSON of an error that happened after the stream began. It replaces what was streamed.
    pub error: Option<Bytes>,
    /// The end of the log, in base64, if the request wants it.
    pub log_tail: Option<HeaderValue>,
    /// The instance's status after the invocation. An instance always sends it, a gateway never.
    pub status: Option<Status>,
    /// For the trace, if the request wants it.
    pub report: Option<Box<CallReport>>,
    /// Which failure it was, if the handler itself did not end the stream.
    pub failure: Option<FailureKind>,
}

impl StreamHead {
    /// `body` carries the stream, and [`StreamEnd::into_trailers`] after it.
    pub fn into_response<B>(self, body: B) -> Response<B> {
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        if let Some(content_type) = self.content_type {
            headers.insert(CONTENT_TYPE, content_type);
        }
        headers.insert(TRAILER, TRAILERS);
        if !self.phases.is_empty() {
            headers.insert(phases::PHASES, phases::write(&self.phases));
        }
        response
    }

    /// `None` if the response is not a stream.
    pub fn read(head: &response::Parts) -> Option<Self> {
        let is_stream = head.status == StatusCode::OK && head.headers.contains_key(TRAILER);
        is_stream.then(|| StreamHead {
            content_type: head.headers.get(CONTENT_TYPE).cloned(),
            phases: phases::read(&head.headers),
        })
    }

    /// The same answer as a whole. `body`: all that was streamed.
    pub fn into_answer(self, body: Bytes, end: StreamEnd) -> Answer {
        let is_error = end.error.is_some();
        Answer {
            is_error,
            body: end.error.unwrap_or(body),
            content_type: match is_error {
                true => Some(JSON),
                false => self.content_type,
            },
            log_tail: end.log_tail,
            phases: (!self.phases.is_empty()).then_some(self.phases),
            report: end.report,
        }
    }
}

impl StreamEnd {
    pub fn into_trailers(self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        let outcome = match &self.error {
            None => SUCCESS,
            Some(_) => FUNCTION_ERROR,
        };
        trailers.insert(OUTCOME, outcome);
        if let Some(status) = self.status {
            trailers.insert(status::STATUS, status::to_value(status));
        }
        if let Some(tail) = self.log_tail {
            trailers.insert(LOG_TAIL, tail);
        }
        if let Some(failure) = self.failure {
            trailers.insert(FAILURE, HeaderValue::from_static(failure.as_str()));
        }
        if let Some(error) = self.error {
            let error = HeaderValue::try_from(BASE64_STANDARD.encode(error));
            trailers.insert(ERROR, error.expect("base64 is ASCII"));
        }
        if let Some(report) = &self.report {
            report::write(report, &mut trailers);
        }
        trailers
    }

    /// `None` if the trailers do not say how the stream ended.
    pub fn read(trailers: &HeaderMap) -> Option<Self> {
        let is_error = trailers.get(OUTCOME)? != SUCCESS;
        let error = trailers.get(ERROR);
        let error = error.and_then(|error| BASE64_STANDARD.decode(error).ok());
        Some(StreamEnd {
            error: is_error.then(|| error.unwrap_or_default().into()),
            log_tail: trailers.get(LOG_TAIL).cloned(),
            status: status::of_headers(trailers),
            report: report::read(trailers).map(Box::new),
            failure: failure_of(trailers),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pilotlight_core::instance::Condition;
    use pilotlight_core::instance::phases::Phase;

    use super::*;
    use crate::lease::LeaseHead;

    fn head() -> StreamHead {
        StreamHead {
            content_type: Some(HeaderValue::from_static("text/plain")),
            phases: Phases::of([(Phase::Init, Duration::from_micros(8400))]),
        }
    }

    fn end(error: Option<&'static str>) -> StreamEnd {
        StreamEnd {
            error: error.map(Bytes::from),
            log_tail: Some(HeaderValue::from_static("TE9H")),
            status: Some(Status {
                epoch: 3,
                condition: Condition::Ready,
            }),
            report: Some(Box::new(CallReport {
                instance: Some("8f3c".to_owned()),
                ..CallReport::default()
            })),
            failure: error.map(|_| FailureKind::Timeout),
        }
    }

    #[test]
    fn a_stream_reads_back_as_written() {
        let (parts, ()) = head().into_response(()).into_parts();
        assert_eq!(LeaseHead::read(&parts), LeaseHead::Streamed(head()));
        let listed = parts.headers[TRAILER].to_str().expect("ASCII");
        for error in [None, Some(r#"{"errorType":"E"}"#)] {
            let trailers = end(error).into_trailers();
            assert!(trailers.keys().all(|name| listed.contains(name.as_str())));
            assert_eq!(StreamEnd::read(&trailers), Some(end(error)));
        }
    }

    #[test]
    fn a_stream_without_its_outcome_has_not_ended() {
        let mut trailers = end(None).into_trailers();
        trailers.remove(OUTCOME);
        assert_eq!(StreamEnd::read(&trailers), None);
    }

    #[test]
    fn the_end_of_a_stream_that_a_gateway_passes_on_has_no_status() {
        for unreadable in [None, Some("3 asleep")] {
            let mut trailers = end(None).into_trailers();
            trailers.remove(status::STATUS);
            if let Some(text) = unreadable {
                trailers.insert(status::STATUS, HeaderValue::from_static(text));
            }
            let read = StreamEnd::read(&trailers).expect("it has ended");
            assert_eq!(read.status, None);
        }
    }

    #[test]
    fn an_error_replaces_what_was_streamed() {
        let body = Bytes::from_static(b"half");
        let answer = head().into_answer(body.clone(), end(None));
        assert_eq!((answer.is_error, &answer.body), (false, &body));
        assert_eq!(answer.content_type, head().content_type);
        let failed = head().into_answer(body, end(Some("{}")));
        assert_eq!((failed.is_error, &failed.body[..]), (true, &b"{}"[..]));
        assert_eq!(failed.content_type, Some(JSON));
    }
}
