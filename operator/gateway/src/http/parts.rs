//! What other gateways ask this one: to run an invocation of a function that it owns.
//!
//! Reads a `wire::invoke` request and hands it to the invoker. The gateway that sent it has checked the event
//! and the function's name as its caller gave it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use pilotlight_core::instance::failure::PAYLOAD_LIMIT;
use pilotlight_net::body::{self, Whole};
use pilotlight_wire::invoke::{InvokeRequest, Outcome};
use tracing::Instrument;
use tracing::field::display;

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
    let request = match read(&headers, body).await {
        Ok(request) => request,
        Err(reason) => return respond(Outcome::Invalid(reason.into())),
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
        waited_before: request.waited,
    });
    respond(outcome.instrument(span).await)
}

/// # Errors
/// Why the message cannot be read.
async fn read(headers: &HeaderMap, body: Body) -> Result<InvokeRequest, String> {
    let payload = match body::read(body, PAYLOAD_LIMIT, PAYLOAD_LIMIT).await {
        Whole::Complete(payload) => payload,
        Whole::TooLarge => return Err(format!("its payload exceeds {PAYLOAD_LIMIT} bytes")),
        Whole::Broken(error) => return Err(format!("its payload is incomplete: {error}")),
    };
    InvokeRequest::read(headers, payload).map_err(|error| error.to_string())
}

fn respond(outcome: Outcome) -> Response {
    outcome.into_response().map(Body::from)
}
