//! Probes and metrics: `/healthz`, `/readyz`, `/metrics`.
//!
//! Reads `metrics`, which the driver and the handlers fill; changes nothing.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use pilotlight_wire::exposition::Format;

use super::errors::ApiError;
use crate::app::App;

/// Answers that the process serves requests.
pub(crate) async fn alive() -> &'static str {
    "ok\n"
}

/// Answers that the gateway is ready unless its driver has ended, or callers need TLS and there is no certificate yet.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    let why_not = match (app.invoker.has_ended(), app.door.is_ready()) {
        (false, true) => return "ok\n".into_response(),
        (true, _) => "shutting down\n",
        (false, false) => "no certificate for callers yet: the log of this gateway says why\n",
    };
    (StatusCode::SERVICE_UNAVAILABLE, why_not).into_response()
}

/// The metrics of this gateway, in the text format that the scraper accepts.
pub(crate) async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let format = Format::accepted(&headers);
    app.metrics.intake.used(app.intake.used());
    app.metrics.tls.counted(app.door.counts());
    match app.metrics.encode(format) {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(error) => ApiError::service(error.to_string()).into_response(),
    }
}
