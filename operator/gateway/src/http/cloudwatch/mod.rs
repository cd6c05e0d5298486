//! `/` with `X-Amz-Target`: the calls of the CloudWatch Logs API that read logs and manage them (contract §10).
//!
//! ```text
//! request ─► operation and caller ─► groups | streams | events | settings | live_tail ─► logs, their store
//! ```
//!
//! A group is the log of a function, a stream that of an instance (`names`). Reads parameters (`request`) and answers in
//! the service's form (`error`). The conditions of a filter pattern are `pilotlight_logs::pattern`'s.

mod call;
mod error;
mod events;
mod groups;
mod live_tail;
mod log;
mod names;
mod request;
mod settings;
mod streams;
mod token;

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::{extract::Request, http::header};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use pilotlight_access::shown::Service;
use serde_json::Value;

use self::call::Call;
use self::error::LogsError;
use super::access::Showing;
use super::errors;
use super::event_stream;
use super::invoke::READ_LIMIT;
use crate::app::App;
use crate::intake::Unread;

/// The largest body, in bytes: a hundred names of streams and a pattern have room.
const BODY_MAX: usize = 128 * 1024;
const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
const PREFIX: &str = "Logs_20140328.";
const JSON: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");

/// Whether the request is one of a service with a JSON protocol.
pub(super) fn is_one(headers: &HeaderMap) -> bool {
    headers.contains_key(TARGET)
}

pub(super) async fn cloudwatch(app: Arc<App>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let request_id = uuid::Uuid::new_v4().to_string();
    let answered = answer(&app, &head, body, &request_id).await;
    let mut response = answered.unwrap_or_else(LogsError::into_response);
    let headers = response.headers_mut();
    if headers.get(header::CONTENT_TYPE) != Some(&event_stream::CONTENT_TYPE) {
        headers.insert(header::CONTENT_TYPE, JSON);
    }
    let request_id = HeaderValue::from_str(&request_id).expect("a UUID is a header value");
    headers.insert(errors::REQUEST_ID, request_id);
    response
}

async fn answer(
    app: &Arc<App>,
    head: &Parts,
    body: Body,
    request_id: &str,
) -> Result<Response, LogsError> {
    let target = head
        .headers
        .get(TARGET)
        .and_then(|target| target.to_str().ok());
    let operation = target.and_then(|target| target.strip_prefix(PREFIX));
    let named = || format!("logs {}", operation.unwrap_or("-"));
    let showing = match Showing::of(app, head, Service::Logs, named).await {
        Ok(showing) => showing,
        Err(error) => {
            app.intake.discard(body, READ_LIMIT).await;
            return Err(error.into());
        }
    };
    let (body, _share) = app.intake.read(body, BODY_MAX, READ_LIMIT).await?;
    let (caller, body) = showing.prove(app, body)?;
    let call = Call {
        app,
        caller,
        body: &body,
        request_id,
    };
    match operation {
        Some("DescribeLogGroups") => groups::describe(&call).await.map(json),
        Some("DescribeLogStreams") => streams::describe(&call).await.map(json),
        Some("GetLogEvents") => events::get(&call).await.map(json),
        Some("FilterLogEvents") => events::filter(&call).await.map(json),
        Some("StartLiveTail") => live_tail::start(&call).await,
        Some("PutRetentionPolicy") => settings::put_retention(&call).await.map(empty),
        Some("DeleteRetentionPolicy") => settings::delete_retention(&call).await.map(empty),
        Some("DeleteLogGroup") => settings::delete_group(&call).await.map(empty),
        _ => Err(LogsError::unknown_operation(target.unwrap_or_default())),
    }
}

fn json(body: Value) -> Response {
    body.to_string().into_response()
}

/// As the service answers where there is nothing to say.
fn empty((): ()) -> Response {
    Body::empty().into_response()
}

impl From<Unread> for LogsError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::NoRoom => LogsError::throttled(),
            Unread::TooLarge => {
                LogsError::invalid(format!("The request must have {BODY_MAX} bytes at most."))
            }
            Unread::TooSlow => LogsError::invalid("The request came too slowly. Try again."),
            Unread::Broken(error) => {
                LogsError::invalid(format!("The request cannot be read: {error}"))
            }
        }
    }
}
