//! An answer to a lease that is whole: the outcome is in the head, and the body has a length.
//!
//! The supervisor's `control_api` writes it, and `lease` recognises it.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode, response};
use pilotlight_core::instance::Status;
use pilotlight_core::instance::failure::FailureKind;
use pilotlight_core::instance::phases::Phases;
use pilotlight_core::traces::spans::CallReport;

use crate::headers::{FAILURE, LOG_TAIL, OUTCOME, failure_of};
use crate::{phases, report, status};

/// The values of [`OUTCOME`].
pub(crate) const SUCCESS: HeaderValue = HeaderValue::from_static("success");
pub(crate) const FUNCTION_ERROR: HeaderValue = HeaderValue::from_static("function-error");

/// The answer to an invocation that ran, or may have run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseAnswer {
    pub is_error: bool,
    pub body: Bytes,
    pub content_type: Option<HeaderValue>,
    /// The end of the log, in base64, if the lease wants it.
    pub log_tail: Option<HeaderValue>,
    /// How long the cold start took in the instance, on the first answer after it.
    pub phases: Phases,
    /// The instance's status after the invocation.
    pub status: Status,
    /// For the trace, if the lease wants it.
    pub report: Option<Box<CallReport>>,
    /// Which failure it was, if the handler itself did not answer. A supervisor of an earlier release never says so.
    pub failure: Option<FailureKind>,
}

impl LeaseAnswer {
    pub fn into_response(self) -> Response<Bytes> {
        let mut response = Response::new(self.body);
        let headers = response.headers_mut();
        if let Some(content_type) = self.content_type {
            headers.insert(CONTENT_TYPE, content_type);
        }
        let outcome = match self.is_error {
            false => SUCCESS,
            true => FUNCTION_ERROR,
        };
        headers.insert(OUTCOME, outcome);
        headers.insert(status::STATUS, status::to_value(self.status));
        if !self.phases.is_empty() {
            headers.insert(phases::PHASES, phases::write(&self.phases));
        }
        if let Some(failure) = self.failure {
            headers.insert(FAILURE, HeaderValue::from_static(failure.as_str()));
        }
        if let Some(tail) = self.log_tail {
            headers.insert(LOG_TAIL, tail);
        }
        if let Some(report) = &self.report {
            report::write(report, headers);
        }
        response
    }

    /// The body is empty until the caller has read it. `None` if the head is not that of an answer.
    pub(crate) fn read(head: &response::Parts) -> Option<Self> {
        let headers = &head.headers;
        (head.status == StatusCode::OK).then_some(())?;
        Some(LeaseAnswer {
            is_error: headers.get(OUTCOME) != Some(&SUCCESS),
            body: Bytes::new(),
            content_type: headers.get(CONTENT_TYPE).cloned(),
            log_tail: headers.get(LOG_TAIL).cloned(),
            phases: phases::read(headers),
            status: status::of_headers(headers)?,
            report: report::read(headers).map(Box::new),
            failure: failure_of(headers),
        })
    }
}
