//! The Invoke API's errors: status, `x-amzn-ErrorType` and body as contract §4 lists them.
//!
//! The casing of `Message` and `message` differs between the errors, and SDKs read it: each
//! constructor is one row of that table. Never decides which error it is.

use std::fmt::Display;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode, header};
use pilotlight_core::access::Refusal;
use pilotlight_core::instance::failure::PAYLOAD_LIMIT;
use pilotlight_core::traces::lineage::LOOPS;
use pilotlight_wire::invoke::ThrottleReason;
use serde_json::{Value, json};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// An error answer of the API.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    body: Value,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, body: Value) -> Self {
        ApiError { status, kind, body }
    }

    fn user(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self::new(
            status,
            kind,
            json!({ "Type": "User", "message": message.into() }),
        )
    }

    pub(crate) fn function_not_found(arn: &str) -> Self {
        let message = format!("Function not found: {arn}");
        Self::new(
            StatusCode::NOT_FOUND,
            "ResourceNotFoundException",
            json!({ "Message": message, "Type": "User" }),
        )
    }

    /// A path that this API does not have.
    pub(crate) fn unknown_operation(method: &http::Method, path: &str) -> Self {
        let message = format!("Unknown operation: {method} {path}");
        Self::new(
            StatusCode::NOT_FOUND,
            "UnknownOperationException",
            json!({ "Message": message, "Type": "User" }),
        )
    }

    pub(crate) fn throttled(reason: ThrottleReason) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "TooManyRequestsException",
            json!({ "Reason": reason_text(reason), "Type": "User", "message": "Rate Exceeded." }),
        )
    }

    pub(crate) fn content_not_json(cause: &str) -> Self {
        let message = format!(
            "Could not parse request body into json: Could not parse payload into json: {cause}"
        );
        Self::user(
            StatusCode::BAD_REQUEST,
            "InvalidRequestContentException",
            message,
        )
    }

    pub(crate) fn invalid_parameter(message: impl Into<String>) -> Self {
        Self::user(
            StatusCode::BAD_REQUEST,
            "InvalidParameterValueException",
            message,
        )
    }

    pub(crate) fn validation(message: impl Into<String>) -> Self {
        let body = json!({ "message": message.into() });
        Self::new(StatusCode::BAD_REQUEST, "ValidationException", body)
    }

    pub(crate) fn request_too_large() -> Self {
        let message = format!(
            "Request must be smaller than {PAYLOAD_LIMIT} bytes for the InvokeFunction operation"
        );
        Self::user(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestTooLargeException",
            message,
        )
    }

    pub(crate) fn event_too_large(bytes: usize, limit: usize) -> Self {
        let message = format!(
            "{bytes} byte payload is too large for the Event invocation type (limit {limit} bytes)"
        );
        Self::user(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestTooLargeException",
            message,
        )
    }

    /// The function was called too often in the chain of calls that led to this one.
    pub(crate) fn recursive(function: &str) -> Self {
        let message = format!(
            "{function} was called {LOOPS} times in the chain of calls that led to this one, so this call was not executed. If that is intended, set spec.recursiveLoop: Allow."
        );
        Self::new(
            StatusCode::BAD_REQUEST,
            "RecursiveInvocationException",
            json!({ "Type": "User", "Message": message }),
        )
    }

    /// No room for an event.
    pub(crate) fn events_full() -> Self {
        let message = "The event queue is full. Nothing was executed: try again later.";
        let reason = reason_text(ThrottleReason::QueueBytes);
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "TooManyRequestsException",
            json!({ "Reason": reason, "Type": "User", "message": message }),
        )
    }

    /// The event came too slowly.
    pub(crate) fn request_timeout() -> Self {
        Self::user(
            StatusCode::REQUEST_TIMEOUT,
            "RequestTimeoutException",
            "The request body came too slowly; nothing was executed. Try again.",
        )
    }

    /// The caller may not call this gateway.
    pub(crate) fn access_denied(message: impl Into<String>) -> Self {
        let body = json!({ "Message": message.into() });
        Self::new(StatusCode::FORBIDDEN, "AccessDeniedException", body)
    }

    /// Who calls is not known, or may not do this.
    pub(crate) fn refused(refusal: &Refusal) -> Self {
        let kind = match refusal {
            Refusal::Missing => "MissingAuthenticationTokenException",
            Refusal::Incomplete(_) => "IncompleteSignatureException",
            Refusal::Unrecognized(_) => "UnrecognizedClientException",
            Refusal::Signature(_) => "InvalidSignatureException",
            Refusal::Expired => "ExpiredTokenException",
            Refusal::Denied(message) => return Self::access_denied(message.as_str()),
            Refusal::Unavailable => return Self::service(refusal.to_string()),
            Refusal::TooMany => return Self::throttled(ThrottleReason::QueueBytes),
        };
        let body = json!({ "message": refusal.to_string() });
        Self::new(StatusCode::FORBIDDEN, kind, body)
    }

    /// No instance can be started. `message`: of `core::reason`, which knows what a caller may read.
    pub(crate) fn not_ready(message: String) -> Self {
        Self::user(
            StatusCode::BAD_GATEWAY,
            "ResourceNotReadyException",
            message,
        )
    }

    /// The platform failed the call.
    pub(crate) fn service(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "ServiceException",
            json!({ "Message": message.into(), "Type": "Service" }),
        )
    }

    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    pub(crate) fn message(&self) -> &str {
        let message = self.body.get("message").or(self.body.get("Message"));
        message.and_then(Value::as_str).unwrap_or_default()
    }
}

/// The `Reason` of a 429.
fn reason_text(reason: ThrottleReason) -> &'static str {
    match reason {
        ThrottleReason::Concurrency => "ConcurrentInvocationLimitExceeded",
        ThrottleReason::ReservedConcurrency => "ReservedFunctionConcurrentInvocationLimitExceeded",
        ThrottleReason::QueueBytes => "CallerRateLimitExceeded",
    }
}

/// A part of a request, refused as all else is if it cannot be read.
#[derive(Debug)]
pub(crate) struct Readable<T>(pub(crate) T);

impl<S: Send + Sync, T> FromRequestParts<S> for Readable<T>
where
    T: FromRequestParts<S, Rejection: Display>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let read = T::from_request_parts(parts, state).await;
        read.map(Readable)
            .map_err(|error| ApiError::invalid_parameter(error.to_string()))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(ERROR_TYPE, HeaderValue::from_static(self.kind));
        response
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn each_error_has_the_documented_status_type_and_spelling() {
        let user = |message: &str| json!({"Type": "User", "message": message});
        let throttled =
            |reason: &str| json!({"Reason": reason, "Type": "User", "message": "Rate Exceeded."});
        let larger = "Request must be smaller than 6291556 bytes for the InvokeFunction operation";
        let not_json = "Could not parse request body into json: Could not parse payload into \
                        json: EOF";
        for (error, status, kind, body) in [
            (
                ApiError::function_not_found("arn"),
                404,
                "ResourceNotFoundException",
                json!({"Message": "Function not found: arn", "Type": "User"}),
            ),
            (
                ApiError::throttled(ThrottleReason::Concurrency),
                429,
                "TooManyRequestsException",
                throttled("ConcurrentInvocationLimitExceeded"),
            ),
            (
                ApiError::throttled(ThrottleReason::ReservedConcurrency),
                429,
                "TooManyRequestsException",
                throttled("ReservedFunctionConcurrentInvocationLimitExceeded"),
            ),
            (
                ApiError::throttled(ThrottleReason::QueueBytes),
                429,
                "TooManyRequestsException",
                throttled("CallerRateLimitExceeded"),
            ),
            (
                ApiError::content_not_json("EOF"),
                400,
                "InvalidRequestContentException",
                user(not_json),
            ),
            (
                ApiError::invalid_parameter("x"),
                400,
                "InvalidParameterValueException",
                user("x"),
            ),
            (
                ApiError::validation("x"),
                400,
                "ValidationException",
                json!({"message": "x"}),
            ),
            (
                ApiError::request_too_large(),
                413,
                "RequestTooLargeException",
                user(larger),
            ),
            (
                ApiError::access_denied("x"),
                403,
                "AccessDeniedException",
                json!({"Message": "x"}),
            ),
            (
                ApiError::request_timeout(),
                408,
                "RequestTimeoutException",
                user("The request body came too slowly; nothing was executed. Try again."),
            ),
            (
                ApiError::not_ready("no room".to_owned()),
                502,
                "ResourceNotReadyException",
                user("no room"),
            ),
            (
                ApiError::service("x"),
                500,
                "ServiceException",
                json!({"Message": "x", "Type": "Service"}),
            ),
        ] {
            let response = error.into_response();
            assert_eq!(response.status().as_u16(), status, "{kind}");
            assert_eq!(response.headers()[ERROR_TYPE], kind);
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), body);
        }
    }
}
