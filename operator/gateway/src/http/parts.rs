//! What other gateways ask this one: to run an invocation of a function that it owns.
//!
//! Reads a `wire::invoke` request and hands it to the invoker. The gateway that sent it has checked the event
//! and the function's name as its caller gave it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http_body_util::{BodyExt, Limited};
use pilotlight_core::instance::failure::PAYLOAD_LIMIT;
use pilotlight_wire::invoke::InvokeRequest;
use tracing::Instrument;
use tracing::field::display;

use super::errors::ApiError;
use crate::app::App;
use crate::clock;
use crate::message::Invocation;
use crate::span;

pub(crate) async fn invoke(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let arrived = clock::now();
    let payload = match Limited::new(body, PAYLOAD_LIMIT).collect().await {
        Ok(payload) => payload.to_bytes(),
        Err(error) => return ApiError::content_not_json(&error.to_string()).into_response(),
    };
    let request = match InvokeRequest::read(&headers, payload) {
        Ok(request) => request,
        Err(error) => return ApiError::invalid_parameter(error.to_string()).into_response(),
    };
    let span = span::open(&request.request_id);
    span.record("function", display(request.target.name()));
    let outcome = app.invoker.call(Invocation {
        target: request.target,
        request_id: request.request_id,
        payload: request.payload,
        function_arn: request.function_arn,
        client_context: request.client_context,
        trace: request.trace_id,
        log_tail: request.wants_log_tail,
        arrived,
        hops: request.hops,
    });
    let outcome = outcome.instrument(span).await;
    outcome.into_response().map(Body::from)
}
