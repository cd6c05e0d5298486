//! Invocations that peers forward to this gateway as the owner of the function.
//!
//! Reads a `wire::invoke` request and passes it to the invoker. The peer has already checked the event and the name
//! that its caller used for the function.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use pilotlight_core::identity::{Caller, Role};
use pilotlight_core::instance::failure::PAYLOAD_LIMIT;
use pilotlight_core::intake::bytes::Share;
use pilotlight_wire::invoke::{InvokeRequest, Outcome, ThrottleReason};
use tracing::Instrument;
use tracing::field::display;

use crate::app::App;
use crate::clock;
use crate::intake::Unread;
use crate::message::{Invocation, Invoked};
use crate::span;

pub(crate) async fn invoke(
    State(app): State<Arc<App>>,
    caller: Option<Extension<Caller>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let arrived = clock::now();
    if let Err(refusal) = allow(caller, Role::Gateway) {
        return refusal;
    }
    // The share lives as long as the request.
    let (request, _share) = match read(&app, &headers, body).await {
        Ok(read) => read,
        Err(outcome) => return respond(outcome),
    };
    let accepts_stream = request.accepts_stream;
    let span = span::open(&request.request_id);
    span.record("function", display(request.target.name()));
    let invoked = app.invoker.call(Invocation {
        target: request.target,
        request_id: request.request_id,
        payload: request.payload,
        function_arn: request.function_arn,
        client_context: request.client_context,
        trace: request.trace_id,
        trace_state: request.trace_state,
        log_tail: request.wants_log_tail,
        wants_report: request.wants_report,
        arrived,
        hops: request.hops,
        waited_before: request.waited,
    });
    match invoked.instrument(span).await {
        Invoked::Ended(outcome) => respond(outcome),
        Invoked::Began(stream) if accepts_stream => stream.into_response(),
        Invoked::Began(stream) => respond(stream.collect(&app.intake).await),
    }
}

/// Lets parts with this role through. A listener whose identity is off or permissive has callers that prove nothing. A
/// request without a caller came through no listener for parts.
///
/// # Errors
/// The answer to another part.
#[expect(
    clippy::result_large_err,
    reason = "it is made once, for a part that is refused"
)]
pub(crate) fn allow(caller: Option<Extension<Caller>>, role: Role) -> Result<(), Response> {
    match caller.is_some_and(|Extension(caller)| caller.may_act_as(role)) {
        true => Ok(()),
        false => Err((
            StatusCode::FORBIDDEN,
            "this path is for other parts of Pilotlight\n",
        )
            .into_response()),
    }
}

/// # Errors
/// Why the message cannot be read, or that there is no room for it.
async fn read(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<(InvokeRequest, Option<Share>), Outcome> {
    let invalid = |reason: String| Outcome::Invalid(reason.into());
    let read = app.intake.read_event(body, PAYLOAD_LIMIT).await;
    let (payload, share) = read.map_err(|unread| match unread {
        Unread::NoRoom => Outcome::Throttled(ThrottleReason::QueueBytes),
        Unread::TooLarge => invalid(format!("its payload exceeds {PAYLOAD_LIMIT} bytes")),
        unread @ (Unread::TooSlow | Unread::Broken(_)) => {
            invalid(format!("its payload is incomplete: {unread}"))
        }
    })?;
    let request = InvokeRequest::read(headers, payload);
    Ok((request.map_err(|error| invalid(error.to_string()))?, share))
}

fn respond(outcome: Outcome) -> Response {
    outcome.into_response().map(Body::from)
}
