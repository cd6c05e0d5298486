//! Reads request bodies within the payload limit.
//!
//! Used by `runtime_api` for what the runtime posts, and by `control_api` for events and marks. Reports
//! how the reading ended; the caller decides what that means. `response` writes the other direction.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::Body;
use pilotlight_core::instance::failure::PAYLOAD_LIMIT;

/// How the reading of a body ended.
pub(crate) enum Payload {
    Complete(Bytes),
    /// The body is larger than [`PAYLOAD_LIMIT`]. It was read to its end and discarded, because a client that is
    /// answered while it still writes may never read the answer.
    TooLarge,
    /// The connection broke before the end of the body.
    Truncated,
}

pub(crate) async fn read(body: impl Body<Data = Bytes> + Unpin) -> Payload {
    read_with_trailers(body).await.0
}

/// Reads a body and its trailers.
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
