//! `GET /pilotlight/v1/functions/{name}/logs`: a function's log as NDJSON, one `LogEntry` per line.
//!
//! `since` (RFC 3339) and `filter` (a text that the entry contains) select entries. With `follow=true` the answer
//! continues with new entries; without it, it has every entry of calls that have been answered. Reads `log_store`;
//! `pilotlight logs` prints the entries. In a cluster the logs are with the pods.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};
use jiff::Timestamp;
use pilotlight_core::access::{Resource, Verb};
use pilotlight_core::function::FunctionName;
use pilotlight_core::ids::PoolId;
use serde::Deserialize;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::access::allow;
use super::errors::{ApiError, Readable};
use super::function_ref::FunctionRef;
use crate::access::Caller;
use crate::app::App;
use crate::log_store::LogEntry;

#[derive(Debug, Deserialize)]
pub(crate) struct Choice {
    since: Option<String>,
    filter: Option<String>,
    #[serde(default)]
    follow: bool,
}

struct Filter {
    function: FunctionName,
    since: Option<Timestamp>,
    text: Option<String>,
}

impl Filter {
    fn admits(&self, entry: &LogEntry) -> bool {
        let holds = |text: &str| {
            entry.text.contains(text) || entry.request_id.as_deref().is_some_and(|id| id == text)
        };
        entry.function == self.function
            && self.since.is_none_or(|since| entry.time >= since)
            && self.text.as_deref().is_none_or(holds)
    }
}

pub(crate) async fn logs(
    State(app): State<Arc<App>>,
    caller: Caller,
    Readable(Path(name)): Readable<Path<String>>,
    Readable(Query(choice)): Readable<Query<Choice>>,
) -> Response {
    let read = read(&app, &caller, &name, choice).await;
    read.unwrap_or_else(IntoResponse::into_response)
}

async fn read(
    app: &App,
    caller: &Caller,
    name: &str,
    choice: Choice,
) -> Result<Response, ApiError> {
    let function = FunctionRef::parse(name, None)?;
    let target = function.target(&app.scope);
    let named = target.as_ref().map(PoolId::name);
    allow(app, caller, Verb::Get, Resource::Logs, named).await?;
    let entry = function.find(app).ok_or_else(|| function.missing(app))?;
    let since = choice
        .since
        .map(|since| since.parse::<Timestamp>())
        .transpose()
        .map_err(|e| {
            ApiError::invalid_parameter(format!(
                "since must be a time in the format of RFC 3339: {e}"
            ))
        })?;
    let function = entry.deployment.name().clone();
    let filter = Filter {
        function,
        since,
        text: choice.filter,
    };
    let Some(logs) = &app.logs else {
        return Err(ApiError::invalid_parameter(format!(
            "the logs are with the pods: kubectl logs --selector=pilotlight.dev/function={name} \
             --prefix"
        )));
    };
    let (kept, news) = match choice.follow {
        true => {
            let (kept, news) = logs.follow(&filter.function);
            (kept, Some(news))
        }
        false => {
            logs.catch_up(&filter.function).await;
            (logs.read(&filter.function), None)
        }
    };
    let body = Body::from_stream(stream::unfold((kept, news, filter), next_chunk));
    let ndjson = HeaderValue::from_static("application/x-ndjson");
    Ok(([(header::CONTENT_TYPE, ndjson)], body).into_response())
}

type Source = (
    Vec<Arc<LogEntry>>,
    Option<broadcast::Receiver<Arc<LogEntry>>>,
    Filter,
);

/// Returns all stored entries first, then each new one.
async fn next_chunk(
    (mut kept, mut news, filter): Source,
) -> Option<(Result<Bytes, Infallible>, Source)> {
    let mut chunk = Vec::new();
    for entry in kept.drain(..).filter(|entry| filter.admits(entry)) {
        write_line(&mut chunk, &entry);
    }
    while chunk.is_empty() {
        match news.as_mut()?.recv().await {
            Ok(entry) if filter.admits(&entry) => write_line(&mut chunk, &entry),
            Ok(_) => {}
            Err(RecvError::Lagged(lines)) => {
                write_line(&mut chunk, &LogEntry::missed(&filter.function, lines));
            }
            Err(RecvError::Closed) => return None,
        }
    }
    Some((Ok(Bytes::from(chunk)), (kept, news, filter)))
}

fn write_line(chunk: &mut Vec<u8>, entry: &LogEntry) {
    serde_json::to_writer(&mut *chunk, entry).expect("an entry is plain data");
    chunk.push(b'\n');
}
