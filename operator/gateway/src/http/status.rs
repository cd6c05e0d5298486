//! Probes and metrics: `/healthz`, `/readyz`, `/metrics`.
//!
//! Reads `metrics`, which the driver and the handlers fill; changes nothing.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use super::errors::ApiError;
use crate::app::App;

/// Answers that the process serves requests.
pub(crate) async fn alive() -> &'static str {
    "ok\n"
}

/// Answers that the gateway is ready unless its driver has ended.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.invoker.has_ended() {
        false => "ok\n".into_response(),
        true => (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response(),
    }
}

/// The metrics of this gateway, in the OpenMetrics text format.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    app.metrics.intake.used(app.intake.used());
    match app.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(error) => ApiError::service(error.to_string()).into_response(),
    }
}
