//! The errors of the CloudWatch Logs API: AWS JSON 1.1, with the type in the body.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use pilotlight_logs::pattern::PatternError;
use pilotlight_logs::store::StoreError;
use serde_json::json;

use super::super::errors::ApiError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogsError {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl LogsError {
    fn new(kind: &'static str, message: impl Into<String>) -> Self {
        LogsError {
            status: StatusCode::BAD_REQUEST,
            kind,
            message: message.into(),
        }
    }

    /// A parameter is wrong; the message names it.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterException", message)
    }

    pub(super) fn serialization(error: serde_json::Error) -> Self {
        let message = format!("The request is not the JSON of this operation: {error}");
        Self::new("SerializationException", message)
    }

    pub(super) fn no_group() -> Self {
        let message = "The specified log group does not exist.";
        Self::new("ResourceNotFoundException", message)
    }

    pub(super) fn no_stream() -> Self {
        let message = "The specified log stream does not exist.";
        Self::new("ResourceNotFoundException", message)
    }

    pub(super) fn unknown_operation(target: &str) -> Self {
        let message = format!(
            "The operation `{target}` is not one of this gateway. It serves DescribeLogGroups, DescribeLogStreams, \
             GetLogEvents, FilterLogEvents, StartLiveTail, PutRetentionPolicy, DeleteRetentionPolicy and DeleteLogGroup of \
             CloudWatch Logs."
        );
        Self::new("UnknownOperationException", message)
    }

    pub(super) fn throttled() -> Self {
        Self::new("ThrottlingException", "Rate exceeded")
    }

    pub(super) fn too_many_sessions(limit: usize) -> Self {
        let message =
            format!("This gateway has {limit} live tail sessions, and no more are possible.");
        Self::new("LimitExceededException", message)
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        LogsError {
            status: StatusCode::SERVICE_UNAVAILABLE,
            ..Self::new("ServiceUnavailableException", message)
        }
    }
}

impl From<ApiError> for LogsError {
    fn from(error: ApiError) -> Self {
        let message = error.message();
        match error.kind() {
            "ServiceException" => Self::unavailable(message),
            "TooManyRequestsException" => Self::throttled(),
            kind => Self::new(kind, message),
        }
    }
}

impl From<StoreError> for LogsError {
    /// The reason names hosts, so it goes to the gateway's log.
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "a log cannot be read or changed");
        Self::unavailable("The log store cannot answer; the gateway's log says why. Try again.")
    }
}

impl From<PatternError> for LogsError {
    fn from(error: PatternError) -> Self {
        Self::invalid(format!("The filter pattern cannot be used. {error}"))
    }
}

impl IntoResponse for LogsError {
    fn into_response(self) -> Response {
        let body = json!({ "__type": self.kind, "message": self.message });
        (self.status, body.to_string()).into_response()
    }
}
