//! The headers that an answer has on its way from an instance and on its way between gateways.
//!
//! `answer`, `lease`, `stream` and `invoke` write and read them, so a stream passes a gateway in the form in which it
//! came. `phases` and `status` have headers of their own.

use http::header::{HeaderMap, HeaderName, HeaderValue, TE};
use pilotlight_core::instance::failure::FailureKind;

/// On a request: `1` if the answer must carry the end of the log. On the answer: that, in base64.
pub(crate) const LOG_TAIL: HeaderName = HeaderName::from_static("pilotlight-log-tail");
/// How the invocation ended: in the head of a whole answer, in the trailers of a stream.
pub(crate) const OUTCOME: HeaderName = HeaderName::from_static("pilotlight-outcome");
/// On a request: the `tracestate` of the caller, if its trace is one of W3C.
pub(crate) const TRACE_STATE: HeaderName = HeaderName::from_static("pilotlight-trace-state");

/// With an error: which failure it was, if the handler itself did not answer. In the same place as [`OUTCOME`].
pub(crate) const FAILURE: HeaderName = HeaderName::from_static("pilotlight-failure");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Says on a request that its sender reads streams and their trailers. A gateway of an earlier release does not.
pub(crate) fn accept_stream(headers: &mut HeaderMap) {
    headers.insert(TE, TRAILERS);
}

/// Which failure it was. `None` if the handler answered, or for a failure of a newer release.
pub(crate) fn failure_of(headers: &HeaderMap) -> Option<FailureKind> {
    FailureKind::read(headers.get(FAILURE)?.to_str().ok()?)
}

/// Whether the answer to a request may be a stream.
pub(crate) fn accepts_stream(headers: &HeaderMap) -> bool {
    headers.get(TE) == Some(&TRAILERS)
}
