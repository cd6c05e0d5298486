//! The tracing span of an invocation, and the line of the access log.
//!
//! `http::invoke` opens the span and writes the line; a gateway that an invocation is passed on to opens a span of
//! its own with the same request id. `invoker`, `cluster::peers` and `driver` add what they learn. Both are
//! switched by the filter of the subscriber alone, by the targets below: while that rejects them, a call costs
//! two comparisons and no allocation.

use std::time::Duration;

use http::StatusCode;
use tracing::Span;
use tracing::field::{Empty, display};

/// The target of spans, at the level DEBUG.
pub const SPAN_TARGET: &str = "invocation";
/// The target of the access log, at the level INFO.
pub const ACCESS_TARGET: &str = "access";

/// A span whose other fields are recorded as they become known.
pub(crate) fn open(request_id: &str) -> Span {
    tracing::debug_span!(
        target: SPAN_TARGET,
        "invocation",
        function = Empty,
        %request_id,
        owner = Empty,
        instance = Empty,
    )
}

/// Records a field of the span that the caller runs in.
pub(crate) fn record(field: &'static str, value: impl std::fmt::Display) {
    Span::current().record(field, display(value));
}

/// One line for a call, within its span.
pub(crate) fn log_access(status: StatusCode, took: Duration) {
    tracing::info!(
        target: ACCESS_TARGET,
        status = status.as_u16(),
        duration_ms = took.as_secs_f64() * 1000.0,
        "call"
    );
}
