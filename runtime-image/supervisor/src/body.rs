//! HTTP bodies and error answers, the same way in both APIs.
//!
//! Owns the payload limit while reading and the documented error shape (contract §1). Fed by
//! `runtime_api` and `control_api`; never decides whether a call is allowed.

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper::header::CONTENT_TYPE;
use hyper::{HeaderMap, Response, StatusCode};
use pilotlight_core::failure::PAYLOAD_LIMIT;
use serde::Serialize;

pub(crate) const JSON: &str = "application/json";

/// The error shape of the Runtime API; the order of a function error is [`Fault`]'s.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiError<'a> {
    error_message: &'a str,
    error_type: &'a str,
}

/// The body of a failed invocation.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Fault<'a> {
    pub(crate) error_type: &'a str,
    pub(crate) error_message: &'a str,
}

impl Fault<'_> {
    pub(crate) fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self)
            .expect("two strings are always JSON")
            .into()
    }
}

/// What became of reading a body.
pub(crate) enum Payload {
    Complete(Bytes),
    /// Larger than [`PAYLOAD_LIMIT`]; read to its end and thrown away, so that the sender gets
    /// to read the answer.
    TooLarge,
    /// The sender went away in the middle.
    Truncated,
}

pub(crate) async fn read(body: impl Body<Data = Bytes> + Unpin) -> Payload {
    read_with_trailers(body).await.0
}

/// The body, and the headers that followed it.
pub(crate) async fn read_with_trailers(
    mut body: impl Body<Data = Bytes> + Unpin,
) -> (Payload, HeaderMap) {
    let mut whole = Bytes::new();
    let mut joined = BytesMut::new();
    let mut trailers = HeaderMap::new();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return (Payload::Truncated, trailers);
        };
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                trailers = frame.into_trailers().unwrap_or_default();
                continue;
            }
        };
        let first = size == 0;
        size += data.len();
        if size > PAYLOAD_LIMIT {
            (whole, joined) = (Bytes::new(), BytesMut::new());
        } else if first {
            whole = data;
        } else {
            if joined.is_empty() {
                let rest = body.size_hint().lower().min(PAYLOAD_LIMIT as u64) as usize;
                joined.reserve(size + rest);
                joined.extend_from_slice(&whole);
            }
            joined.extend_from_slice(&data);
        }
    }
    let payload = match joined.is_empty() {
        _ if size > PAYLOAD_LIMIT => Payload::TooLarge,
        true => Payload::Complete(whole),
        false => Payload::Complete(joined.freeze()),
    };
    (payload, trailers)
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
