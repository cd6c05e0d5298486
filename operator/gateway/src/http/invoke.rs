//! `POST /2015-03-31/functions/{FunctionName}/invocations` (contract §4).
//!
//! Reads and checks a call, hands it to the invoker, and words the outcome. What it refuses never reaches an
//! instance. `errors` holds the bodies, `function_ref` the names.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pilotlight_core::ids::Qualifier;
use pilotlight_core::instance::RequestId;
use pilotlight_core::instance::failure::PAYLOAD_LIMIT;
use pilotlight_core::invoke::trace;
use pilotlight_net::body::{self, Whole};
use serde::Deserialize;
use tracing::Instrument;

use super::errors::{self, ApiError, Readable};
use super::function_ref::FunctionRef;
use crate::app::App;
use crate::clock;
use crate::message::{Answer, Invocation, Outcome};
use crate::span;

const INVOCATION_TYPE: HeaderName = HeaderName::from_static("x-amz-invocation-type");
const LOG_TYPE: HeaderName = HeaderName::from_static("x-amz-log-type");
const CLIENT_CONTEXT: HeaderName = HeaderName::from_static("x-amz-client-context");
/// The trace of an invocation, on a call and on its answer (`pilotlight_core::invoke::trace`).
const TRACE: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");
const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");
/// What a cold start took, in milliseconds: <https://www.w3.org/TR/server-timing/>.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const LOG_RESULT: HeaderName = HeaderName::from_static("x-amz-log-result");

/// The client context's limit, base64, in bytes.
const CLIENT_CONTEXT_LIMIT: usize = 3583;
/// What is read of a body that is too large, so that the client gets to read the refusal.
const READ_LIMIT: usize = 8 * PAYLOAD_LIMIT;

#[derive(Debug, Deserialize)]
pub(crate) struct Parameters {
    #[serde(rename = "Qualifier")]
    qualifier: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InvocationType {
    RequestResponse,
    DryRun,
}

/// What the headers of a call ask for.
struct Wishes {
    kind: InvocationType,
    log_tail: bool,
    client_context: Option<HeaderValue>,
}

pub(crate) async fn invoke(
    State(app): State<Arc<App>>,
    name: Result<Readable<Path<String>>, ApiError>,
    parameters: Result<Readable<Query<Parameters>>, ApiError>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let arrived = clock::now();
    let request_id: RequestId = Arc::from(uuid::Uuid::new_v4().to_string());
    let span = span::open(&request_id);
    let parts = Parts {
        name,
        parameters,
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

/// What comes with a call, as far as it can be read.
struct Parts {
    name: Result<Readable<Path<String>>, ApiError>,
    parameters: Result<Readable<Query<Parameters>>, ApiError>,
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
        headers,
        body,
    } = parts;
    let read = || {
        let (Readable(Path(name)), Readable(Query(parameters))) = (name?, parameters?);
        let function = FunctionRef::parse(&name, parameters.qualifier.as_deref())?;
        Ok((function, read_wishes(&headers)?))
    };
    match read() {
        Ok((function, wishes)) => {
            span::record("function", &function.name);
            let request = Request {
                function,
                wishes,
                trace: trace_of(&headers, request_id),
                id: request_id.clone(),
                arrived,
            };
            request.answer(app, body).await
        }
        Err(error) => {
            drain(body).await;
            Err(error)
        }
    }
}

/// A call as it was made.
struct Request {
    function: FunctionRef,
    wishes: Wishes,
    trace: HeaderValue,
    id: RequestId,
    arrived: Instant,
}

impl Request {
    async fn answer(self, app: &App, body: Body) -> Result<Response, ApiError> {
        let target = self.function.target(&app.scope);
        let Some(target) = target.filter(|target| app.functions.has(target)) else {
            drain(body).await;
            return Err(self.function.not_found(&app.scope));
        };
        let payload = read_payload(body).await.inspect_err(|_| {
            if let Some(entry) = app.functions.get(&target) {
                entry.metrics.refused();
            }
        })?;
        let qualifier = target.qualifier;
        if self.wishes.kind == InvocationType::DryRun {
            let version = HeaderValue::from_static(qualifier.as_str());
            let version = [(EXECUTED_VERSION, version)];
            return Ok((StatusCode::NO_CONTENT, version).into_response());
        }
        let arn = match &self.function.qualifier {
            Some(qualifier) => app
                .scope
                .arn(&format!("{}:{qualifier}", self.function.name)),
            None => app.scope.arn(&self.function.name),
        };
        let outcome = app.invoker.call(Invocation {
            target,
            request_id: self.id.clone(),
            payload,
            function_arn: HeaderValue::from_maybe_shared(Bytes::from(arn))
                .expect("a parsed name is a header value"),
            client_context: self.wishes.client_context,
            trace: self.trace.clone(),
            log_tail: self.wishes.log_tail,
            arrived: self.arrived,
            hops: 0,
            waited_before: Duration::ZERO,
        });
        match outcome.await {
            Outcome::Answered(answer) => Ok(answered(answer, qualifier, self.trace)),
            Outcome::Throttled(reason) => Err(ApiError::throttled(reason)),
            Outcome::NotReady(reason) => Err(ApiError::not_ready(&reason)),
            Outcome::NotFound => Err(self.function.not_found(&app.scope)),
            Outcome::NotPlaced => Err(ApiError::service(
                "No gateway is responsible for the function at the moment; nothing was \
                 executed. Try again.",
            )),
            Outcome::Stopping => Err(ApiError::service(
                "The gateway is shutting down; nothing was executed.",
            )),
            Outcome::Invalid(reason) => Err(ApiError::service(format!(
                "The gateway that is responsible for the function could not read the call of \
                 this gateway: {reason}. Nothing was executed."
            ))),
            Outcome::Lost => Err(lost(&self.id)),
        }
    }
}

fn lost(request_id: &RequestId) -> ApiError {
    ApiError::service(format!(
        "The instance that ran request {request_id} was lost before it answered. The event may \
         have taken effect; it was not sent again."
    ))
}

fn answered(answer: Answer, qualifier: Qualifier, trace: HeaderValue) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, answer.content_type.unwrap_or(json));
    headers.insert(
        EXECUTED_VERSION,
        HeaderValue::from_static(qualifier.as_str()),
    );
    headers.insert(TRACE, trace);
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

fn read_wishes(headers: &HeaderMap) -> Result<Wishes, ApiError> {
    let kind = match headers.get(INVOCATION_TYPE).map(HeaderValue::as_bytes) {
        None | Some(b"RequestResponse") => InvocationType::RequestResponse,
        Some(b"DryRun") => InvocationType::DryRun,
        Some(b"Event") => {
            return Err(ApiError::invalid_parameter(
                "X-Amz-Invocation-Type: asynchronous invocation (Event) is not supported yet; \
                 use RequestResponse",
            ));
        }
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
    Ok(Wishes {
        kind,
        log_tail,
        client_context,
    })
}

/// The caller's trace, or a new one if it is absent or malformed: a bad header fails no call. New ids need to
/// be unique but not secret, so they are hashes of the request's id under keys of this process.
fn trace_of(headers: &HeaderMap, request_id: &RequestId) -> HeaderValue {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let caller = headers.get(TRACE).and_then(|text| text.to_str().ok());
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH);
    let fresh = trace::Fresh {
        // Eight hexadecimal digits last until the year 2106.
        seconds: seconds.unwrap_or_default().as_secs() as u32,
        random: [0, 1, 2].map(|place| KEYS.hash_one((request_id, place))),
    };
    let header = HeaderValue::from_maybe_shared(Bytes::from(trace::of_call(caller, fresh)));
    header.expect("`of_call` writes printable ASCII only")
}

/// Base64 JSON from the caller; the runtime gets the JSON.
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
    // Written anew: a header value has no line breaks, and some clients read ASCII alone.
    HeaderValue::from_str(&in_ascii(&value.to_string())).map_err(|error| invalid(&error))
}

/// The same JSON; what is not ASCII, or no header can hold, can only be in its texts.
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

async fn read_payload(body: Body) -> Result<Bytes, ApiError> {
    let payload = match body::read(body, PAYLOAD_LIMIT, READ_LIMIT).await {
        Whole::Complete(payload) => payload,
        Whole::TooLarge => return Err(ApiError::request_too_large()),
        Whole::Broken(error) => return Err(ApiError::content_not_json(&error.to_string())),
    };
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

/// Reads a body that nobody needs, within bounds, so that its sender gets to read the answer.
pub(crate) async fn drain(body: Body) {
    body::discard(body, READ_LIMIT).await;
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
