//! `POST /2015-03-31/functions/{FunctionName}/invocations` (contract §4).
//!
//! Reads and checks a call, passes it to the invoker, and turns the outcome into a response. A call that fails a
//! check never reaches an instance. `errors` has the error bodies; `function_ref` parses the names of functions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pilotlight_api::RecursiveLoop;
use pilotlight_core::access::{Resource, Verb};
use pilotlight_core::events::retry::Progress;
use pilotlight_core::ids::{PoolId, Qualifier};
use pilotlight_core::instance::RequestId;
use pilotlight_core::instance::failure::PAYLOAD_LIMIT;
use pilotlight_core::intake::bytes::Share;
use pilotlight_core::reason::Notice;
use pilotlight_events::event::{EventHead, EventOverrides, QueuedEvent};
use pilotlight_events::queue::QueueError;
use pilotlight_wire::invoke::ThrottleReason;
use serde::Deserialize;
use tracing::Instrument;

use super::access::{Showing, allow};
use super::errors::{self, ApiError, Readable};
use super::function_ref::FunctionRef;
use super::trace::CallTrace;
use crate::app::App;
use crate::clock;
use crate::events::EVENT_LIMIT;
use crate::intake::Unread;
use crate::message::{Answer, Invocation, Invoked, Outcome};
use crate::span;

const INVOCATION_TYPE: HeaderName = HeaderName::from_static("x-amz-invocation-type");
const LOG_TYPE: HeaderName = HeaderName::from_static("x-amz-log-type");
const CLIENT_CONTEXT: HeaderName = HeaderName::from_static("x-amz-client-context");
const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");
const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");
/// The phases of a cold start, in milliseconds: <https://www.w3.org/TR/server-timing/>.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const LOG_RESULT: HeaderName = HeaderName::from_static("x-amz-log-result");

/// The longest client context, in bytes of base64.
const CLIENT_CONTEXT_LIMIT: usize = 3583;
/// How much is read of a body that is too large. Many clients read a response only after they have sent the body.
pub(crate) const READ_LIMIT: usize = 8 * PAYLOAD_LIMIT;

#[derive(Debug, Deserialize)]
pub(crate) struct Parameters {
    #[serde(rename = "Qualifier")]
    qualifier: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InvocationType {
    RequestResponse,
    Event,
    DryRun,
}

/// The options of a call, from its headers.
struct CallOptions {
    kind: InvocationType,
    log_tail: bool,
    client_context: Option<HeaderValue>,
}

/// `POST /2014-11-13/functions/{FunctionName}/invoke-async`: an event, as earlier clients send it.
pub(crate) async fn invoke_async(
    state: State<Arc<App>>,
    name: Result<Readable<Path<String>>, ApiError>,
    parameters: Result<Readable<Query<Parameters>>, ApiError>,
    showing: Result<Showing, ApiError>,
    mut headers: HeaderMap,
    body: Body,
) -> Response {
    headers.insert(INVOCATION_TYPE, HeaderValue::from_static("Event"));
    invoke(state, name, parameters, showing, headers, body).await
}

pub(crate) async fn invoke(
    State(app): State<Arc<App>>,
    name: Result<Readable<Path<String>>, ApiError>,
    parameters: Result<Readable<Query<Parameters>>, ApiError>,
    showing: Result<Showing, ApiError>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let arrived = clock::now();
    let request_id: RequestId = Arc::from(uuid::Uuid::new_v4().to_string());
    let span = span::open(&request_id);
    let parts = Parts {
        name,
        parameters,
        showing,
        headers,
        body,
    };
    let answered = async {
        let result = read_and_answer(&app, parts, &request_id, arrived);
        let mut response = result.await.unwrap_or_else(|error| {
            tracing::debug!(error = error.kind(), "refused");
            error.into_response()
        });
        let request_id = HeaderValue::from_str(&request_id).expect("a UUID is a header value");
        let headers = response.headers_mut();
        headers.insert(errors::REQUEST_ID, request_id);
        span::log_access(response.status(), clock::since(arrived));
        response
    };
    answered.instrument(span).await
}

/// The parts of an HTTP request. A name or a query that cannot be read is an error to return.
struct Parts {
    name: Result<Readable<Path<String>>, ApiError>,
    parameters: Result<Readable<Query<Parameters>>, ApiError>,
    showing: Result<Showing, ApiError>,
    headers: HeaderMap,
    body: Body,
}

async fn read_and_answer(
    app: &App,
    parts: Parts,
    request_id: &RequestId,
    arrived: Instant,
) -> Result<Response, ApiError> {
    let Parts {
        name,
        parameters,
        showing,
        headers,
        body,
    } = parts;
    let read = || {
        // A stranger learns nothing else.
        let showing = showing?;
        let (Readable(Path(name)), Readable(Query(parameters))) = (name?, parameters?);
        let function = FunctionRef::parse(&name, parameters.qualifier.as_deref())?;
        Ok((showing, function, read_options(&headers)?))
    };
    match read() {
        Ok((showing, function, options)) => {
            span::record("function", &function.name);
            let named = function.target(&app.scope);
            let key = named.as_ref().map(|target| &target.function);
            let request = Request {
                trace: CallTrace::of(&headers, key, (request_id, arrived), app.traces.as_ref()),
                function,
                named,
                options,
                id: request_id.clone(),
                arrived,
            };
            request.answer(app, showing, body).await
        }
        Err(error) => {
            app.intake.discard(body, READ_LIMIT).await;
            Err(error)
        }
    }
}

/// A call whose name and headers are valid.
struct Request {
    function: FunctionRef,
    /// The function, whether it exists or not. `None`: there cannot be one of this name.
    named: Option<PoolId>,
    options: CallOptions,
    trace: CallTrace,
    id: RequestId,
    arrived: Instant,
}

impl Request {
    async fn answer(
        mut self,
        app: &App,
        showing: Showing,
        body: Body,
    ) -> Result<Response, ApiError> {
        let named = self.named.take();
        let target = named.clone().filter(|target| app.functions.has(target));
        let name = named.as_ref().map(PoolId::name);
        // The right comes before all that tells whether the function exists.
        let (payload, _share) = match showing.proven() {
            Some(caller) => {
                let allowed = allow(app, caller, Verb::Invoke, Resource::Function, name).await;
                let refusal = match (allowed, &target) {
                    (Err(refusal), _) => Some(refusal),
                    (Ok(()), None) => Some(self.function.missing(app)),
                    (Ok(()), Some(_)) => None,
                };
                if let Some(refusal) = refusal {
                    // Nothing of the body is used.
                    app.intake.discard(body, READ_LIMIT).await;
                    return Err(refusal);
                }
                self.read_body(app, body, target.as_ref()).await?
            }
            // The signature covers the body.
            None => {
                let (body, share) = self.read_body(app, body, target.as_ref()).await?;
                let (caller, payload) = showing.prove(app, body)?;
                allow(app, &caller, Verb::Invoke, Resource::Function, name).await?;
                (payload, share)
            }
        };
        let Some(target) = target else {
            return Err(self.function.missing(app));
        };
        let payload = event(payload).inspect_err(|_| self.count_refused(app, Some(&target)))?;
        let qualifier = target.qualifier;
        if self.options.kind == InvocationType::DryRun {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        if self.trace.is_loop && !may_loop(app, &target) {
            let (function, request_id) = (&self.function.name, &self.id);
            tracing::warn!(%function, %request_id, "a call that goes round in a circle is refused");
            self.count_refused(app, Some(&target));
            return Err(ApiError::recursive(function));
        }
        let arn = match &self.function.qualifier {
            Some(qualifier) => app
                .scope
                .arn(&format!("{}:{qualifier}", self.function.name)),
            None => app.scope.arn(&self.function.name),
        };
        if self.options.kind == InvocationType::Event {
            return self.accept(app, target, arn, payload).await;
        }
        self.trace.calls(&target);
        let invoked = app.invoker.call(Invocation {
            target,
            request_id: self.id.clone(),
            payload,
            function_arn: HeaderValue::from_maybe_shared(Bytes::from(arn))
                .expect("a parsed name is a header value"),
            client_context: self.options.client_context.clone(),
            trace: self.trace.xray.clone(),
            trace_state: self.trace.state.clone(),
            log_tail: self.options.log_tail,
            wants_report: self.trace.is_recorded(),
            arrived: self.arrived,
            hops: 0,
            waited_before: Duration::ZERO,
        });
        let mut outcome = match invoked.await {
            Invoked::Ended(outcome) => outcome,
            // The response of `Invoke` is not streamed.
            Invoked::Began(stream) => stream.collect(&app.intake).await,
        };
        self.trace.end(&mut outcome);
        match outcome {
            Outcome::Answered(answer) => Ok(answered(answer, qualifier, self.trace)),
            Outcome::Throttled(reason) => Err(ApiError::throttled(reason)),
            Outcome::NotReady(reason) => {
                let (function, request_id) = (&self.function.name, &self.id);
                // The answer has the request id, and this line the reason.
                tracing::warn!(%function, %request_id, reason = reason.detail(), "no instance can be started");
                Err(ApiError::not_ready(reason.answer(&self.id, app.audience)))
            }
            Outcome::NotFound => Err(self.function.missing(app)),
            Outcome::NotPlaced => Err(self.failed(Notice::NotPlaced)),
            Outcome::Stopping => Err(self.failed(Notice::Stopping)),
            // `invoker` has logged the reason.
            Outcome::Invalid(_) => Err(self.failed(Notice::Incompatible)),
            Outcome::Lost => Err(self.failed(Notice::Lost)),
        }
    }

    /// Stores the event. The answer says that it is not lost any more.
    async fn accept(
        mut self,
        app: &App,
        target: PoolId,
        function_arn: String,
        payload: Bytes,
    ) -> Result<Response, ApiError> {
        let Some(events) = &app.events else {
            return Err(ApiError::invalid_parameter(
                "X-Amz-Invocation-Type: this installation has no queue for events, so Event is refused: use \
                 RequestResponse, or ask whoever installs Pilotlight to set the chart value events.queue",
            ));
        };
        if payload.len() > EVENT_LIMIT {
            self.count_refused(app, Some(&target));
            return Err(ApiError::event_too_large(payload.len(), EVENT_LIMIT));
        }
        self.trace.brings_event(&target);
        // Headers that this gateway has made, or read as text.
        let text = |value: &HeaderValue| value.to_str().map(str::to_owned).unwrap_or_default();
        let head = EventHead {
            request_id: self.id.to_string(),
            target: target.clone(),
            function_arn,
            client_context: self.options.client_context.as_ref().map(text),
            trace: text(&self.trace.xray),
            trace_state: self.trace.state.as_ref().map(text),
            progress: Progress::new(events.now()),
            outcome: None,
            overrides: EventOverrides::default(),
        };
        let stored = events.accept(QueuedEvent { head, payload }).await;
        self.trace.end_with_event(stored.is_ok());
        if let Err(error) = stored {
            tracing::warn!(function = %self.function.name, request_id = %self.id, %error, "an event is refused");
            self.count_refused(app, Some(&target));
            return Err(match error {
                QueueError::Full(_) => ApiError::events_full(),
                QueueError::Unavailable(_) => ApiError::service(
                    "The event queue cannot store the event, which was not accepted: try again. The gateway's log says why.",
                ),
            });
        }
        let mut response = StatusCode::ACCEPTED.into_response();
        self.trace.answer(response.headers_mut());
        Ok(response)
    }

    /// The body, and its share of the budget, which lives as long as the request.
    async fn read_body(
        &self,
        app: &App,
        body: Body,
        target: Option<&PoolId>,
    ) -> Result<(Bytes, Option<Share>), ApiError> {
        let read = app.intake.read_event(body, READ_LIMIT).await;
        read.map_err(|unread| {
            self.count_refused(app, target);
            match unread {
                Unread::NoRoom => ApiError::throttled(ThrottleReason::QueueBytes),
                Unread::TooLarge => ApiError::request_too_large(),
                Unread::TooSlow => ApiError::request_timeout(),
                Unread::Broken(error) => ApiError::content_not_json(&error.to_string()),
            }
        })
    }

    fn count_refused(&self, app: &App, target: Option<&PoolId>) {
        if let Some(entry) = target.and_then(|target| app.functions.get(target)) {
            entry.metrics.refused();
        }
    }

    fn failed(&self, notice: Notice) -> ApiError {
        ApiError::service(notice.sentence(&self.id))
    }
}

/// Whether the function may be called by what it has called.
fn may_loop(app: &App, target: &PoolId) -> bool {
    let entry = app.functions.get(target);
    entry.is_some_and(|entry| entry.deployment.spec.recursive_loop == RecursiveLoop::Allow)
}

fn answered(answer: Answer, qualifier: Qualifier, trace: CallTrace) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, answer.content_type.unwrap_or(json));
    headers.insert(
        EXECUTED_VERSION,
        HeaderValue::from_static(qualifier.as_str()),
    );
    trace.answer(headers);
    if answer.is_error {
        headers.insert(FUNCTION_ERROR, HeaderValue::from_static("Unhandled"));
    }
    if let Some(tail) = answer.log_tail {
        headers.insert(LOG_RESULT, tail);
    }
    if let Some(phases) = answer.phases {
        let timing = HeaderValue::try_from(phases.to_string()).expect("names and numbers");
        headers.insert(SERVER_TIMING, timing);
    }
    response
}

fn read_options(headers: &HeaderMap) -> Result<CallOptions, ApiError> {
    let kind = match headers.get(INVOCATION_TYPE).map(HeaderValue::as_bytes) {
        None | Some(b"RequestResponse") => InvocationType::RequestResponse,
        Some(b"DryRun") => InvocationType::DryRun,
        Some(b"Event") => InvocationType::Event,
        Some(other) => {
            return Err(ApiError::invalid_parameter(format!(
                "X-Amz-Invocation-Type: {} is not one of RequestResponse, Event, DryRun",
                String::from_utf8_lossy(other)
            )));
        }
    };
    let log_tail = match headers.get(LOG_TYPE).map(HeaderValue::as_bytes) {
        None | Some(b"None") => false,
        Some(b"Tail") => true,
        Some(other) => {
            return Err(ApiError::invalid_parameter(format!(
                "X-Amz-Log-Type: {} is not one of None, Tail",
                String::from_utf8_lossy(other)
            )));
        }
    };
    let client_context = headers
        .get(CLIENT_CONTEXT)
        .map(decode_client_context)
        .transpose()?;
    Ok(CallOptions {
        kind,
        log_tail,
        client_context,
    })
}

/// Decodes the caller's base64 to the JSON that the runtime receives.
fn decode_client_context(encoded: &HeaderValue) -> Result<HeaderValue, ApiError> {
    if encoded.len() > CLIENT_CONTEXT_LIMIT {
        return Err(ApiError::invalid_parameter(format!(
            "X-Amz-Client-Context must be at most {CLIENT_CONTEXT_LIMIT} bytes"
        )));
    }
    let invalid = |cause: &dyn std::fmt::Display| {
        ApiError::invalid_parameter(format!("X-Amz-Client-Context must be base64 JSON: {cause}"))
    };
    let decoded = BASE64_STANDARD
        .decode(encoded.as_bytes())
        .map_err(|error| invalid(&error))?;
    let value: serde_json::Value =
        serde_json::from_slice(&decoded).map_err(|error| invalid(&error))?;
    // The JSON is serialized again, since a header value has no line breaks, and escaped, since some clients read
    // only ASCII.
    HeaderValue::from_str(&in_ascii(&value.to_string())).map_err(|error| invalid(&error))
}

/// Escapes DEL and all characters outside of ASCII. They can occur only inside JSON strings, which allow escapes.
fn in_ascii(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() && character != '\x7f' {
            escaped.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            escaped.push_str(&format!("\\u{unit:04x}"));
        }
    }
    escaped
}

/// The event that a body holds.
fn event(payload: Bytes) -> Result<Bytes, ApiError> {
    if payload.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    check_json(&payload)?;
    Ok(payload)
}

fn check_json(payload: &[u8]) -> Result<(), ApiError> {
    let invalid = |cause: &dyn std::fmt::Display| ApiError::content_not_json(&cause.to_string());
    let text = std::str::from_utf8(payload).map_err(|error| invalid(&error))?;
    let checked: Result<serde::de::IgnoredAny, _> = serde_json::from_str(text);
    checked.map(|_| ()).map_err(|error| invalid(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_in_ascii_is_the_same_json() {
        let text = "{\"grün\":\"a\\n😀\x7f\"}";
        let escaped = in_ascii(text);
        assert_eq!(escaped, r#"{"gr\u00fcn":"a\n\ud83d\ude00\u007f"}"#);
        let read = |text| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(read(&escaped), read(text));
    }
}
