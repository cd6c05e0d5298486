//! `GET /pilotlight/v1/logs` on the listener for parts: what this gateway has of a function's log.
//!
//! Another gateway asks for it (`wire::logs`) when somebody reads or follows the log there. The answer has the records that
//! the other gateway cannot read in the store. `logs` has them; nothing here selects.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, StatusCode, header};
use pilotlight_core::identity::{Caller, Role};
use pilotlight_wire::logs::LogsRequest;

use super::logs::write_line;
use super::parts;
use crate::app::App;
use crate::logs::Followed;

pub(crate) async fn logs(
    State(app): State<Arc<App>>,
    caller: Option<Extension<Caller>>,
    RawQuery(query): RawQuery,
) -> Response {
    if let Err(refusal) = parts::allow(caller, Role::Gateway) {
        return refusal;
    }
    let request = match LogsRequest::read(&query.unwrap_or_default()) {
        Ok(request) => request,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let Some(logs) = &app.logs else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let tail = request.follow.then(|| logs.follow_own(&request.function));
    let known = match tail {
        // Who follows has read before, and what has come meanwhile is waiting.
        Some(_) => Ok(logs.waiting(&request.function)),
        None => {
            logs.catch_up(&request.function).await;
            logs.unshared(&request.function).await
        }
    };
    let known = match known {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!(%error, "another gateway cannot read a log");
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
    };
    let mut first = Vec::new();
    for entry in known {
        write_line(&mut first, &entry);
    }
    let source = (Some(first), tail, logs.clone(), request.function);
    let chunks = stream::unfold(source, async |(first, mut tail, logs, function)| {
        if let Some(first) = first {
            let chunk = Ok::<_, Infallible>(Bytes::from(first));
            return Some((chunk, (None, tail, logs, function)));
        }
        let mut chunk = Vec::new();
        match tail.as_mut()?.next().await? {
            Followed::Record(entry) => write_line(&mut chunk, &entry),
            Followed::Missed(count) => write_line(&mut chunk, &logs.missed(&function, count)),
        }
        Some((Ok(Bytes::from(chunk)), (None, tail, logs, function)))
    });
    let ndjson = HeaderValue::from_static("application/x-ndjson");
    let body = Body::from_stream(chunks);
    ([(header::CONTENT_TYPE, ndjson)], body).into_response()
}
