//! HTTP responses of the supervisor's servers, and the documented error bodies (contract §1).
//!
//! Used by `runtime_api`, `control_api`, `claim` and `door`, which choose status and text. Never decides
//! whether a request is allowed.

use std::convert::Infallible;
use std::pin::Pin;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::header::CONTENT_TYPE;
use hyper::{Response, StatusCode};
use serde::Serialize;

pub(crate) const JSON: &str = "application/json";

/// A response to a gateway. It is not `Send`, as all tasks share one thread.
pub(crate) type ControlResponse = Response<Pin<Box<dyn Body<Data = Bytes, Error = Infallible>>>>;

/// An error of the Runtime API. Its fields have the documented order, which is not that of
/// [`FunctionError`].
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiError<'a> {
    error_message: &'a str,
    error_type: &'a str,
}

/// The body that answers a failed invocation.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FunctionError<'a> {
    pub(crate) error_type: &'a str,
    pub(crate) error_message: &'a str,
}

impl FunctionError<'_> {
    pub(crate) fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self)
            .expect("two strings are always JSON")
            .into()
    }
}

pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, JSON)
        .body(Full::new(body.into()))
        .expect("a status and a constant header make a response")
}

pub(crate) fn error(status: StatusCode, error_type: &str, message: &str) -> Response<Full<Bytes>> {
    let error = ApiError {
        error_message: message,
        error_type,
    };
    json(
        status,
        serde_json::to_vec(&error).expect("two strings are always JSON"),
    )
}

/// A response to a gateway with a text that explains a refusal, or with none.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> ControlResponse {
    let mut response: ControlResponse = Response::new(Box::pin(Full::new(text.into())));
    *response.status_mut() = status;
    response
}

/// A response that `pilotlight_wire` has written.
pub(crate) fn control(response: Response<Bytes>) -> ControlResponse {
    response.map(|body| Box::pin(Full::new(body)) as Pin<Box<_>>)
}
