//! `GET /pilotlight/v1/functions/{name}/logs`: a function's log as NDJSON, one record per line.
//!
//! `pilotlight-logs::parameters` has the parameters, which select records or whole invocations. With `follow=true` the answer
//! continues with new records; without it, it has every record of calls that have been answered. With `limit` it is one
//! page, and its header [`NEXT`] says where the next one begins. Reads through `logs`; `pilotlight logs` prints the records.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderName, HeaderValue, header};
use pilotlight_core::access::{Resource, Verb};
use pilotlight_core::ids::PoolId;
use pilotlight_core::reason::Audience;
use pilotlight_logs::entry::Entry;
use pilotlight_logs::invocations;
use pilotlight_logs::parameters::Reading;
use pilotlight_logs::report::Report;
use pilotlight_logs::store::{Page, StoreError};

use super::access::allow;
use super::errors::{ApiError, Readable};
use super::function_ref::FunctionRef;
use crate::access::Caller;
use crate::app::App;
use crate::logs::{Followed, Hub, Tail};

/// The parameter `after` of the next page. An answer without it is the last page.
const NEXT: HeaderName = HeaderName::from_static("pilotlight-next");
/// How many records are read at once for an answer with all of them.
const CHUNK: usize = 1000;
/// How often the store is asked for one page, if few records of what it has read are selected.
const ROUNDS: usize = 16;

/// What is left of a log to send: the pages from a query on, then what follows.
struct Source {
    logs: Hub,
    reading: Reading,
    page: Option<Page>,
    is_last: bool,
    tail: Option<Tail>,
}

pub(crate) async fn logs(
    State(app): State<Arc<App>>,
    caller: Caller,
    Readable(Path(name)): Readable<Path<String>>,
    Readable(Query(parameters)): Readable<Query<Vec<(String, String)>>>,
) -> Response {
    let read = read(&app, &caller, &name, &parameters).await;
    read.unwrap_or_else(IntoResponse::into_response)
}

async fn read(
    app: &App,
    caller: &Caller,
    name: &str,
    parameters: &[(String, String)],
) -> Result<Response, ApiError> {
    let function = FunctionRef::parse(name, None)?;
    let target = function.target(&app.scope);
    let named = target.as_ref().map(PoolId::name);
    allow(app, caller, Verb::Get, Resource::Logs, named).await?;
    let entry = function.find(app).ok_or_else(|| function.missing(app))?;
    let Some(logs) = &app.logs else {
        return Err(ApiError::invalid_parameter(format!(
            "the logs are with the pods: kubectl logs --selector=pilotlight.dev/function={name} \
             --prefix"
        )));
    };
    let function = entry.deployment.pool.function.clone();
    let pairs = parameters.iter();
    let pairs = pairs.map(|(name, value)| (name.as_str(), value.as_str()));
    let mut reading = Reading::of(function.clone(), pairs)
        .map_err(|error| ApiError::invalid_parameter(error.to_string()))?;
    let tail = reading.follow.then(|| {
        // Before the pages are read, so that no record is missed in between.
        let selection = match reading.invocations.admits_all() {
            true => reading.query.selection.clone(),
            false => reading.invocations.reports(&reading.query).selection,
        };
        logs.follow(&function, selection)
    });
    if tail.is_none() {
        logs.catch_up(&function).await;
    }
    let failed = |error| unavailable(app, error);
    if reading.is_one_page {
        let page = one_page(logs, reading).await.map_err(failed)?;
        return Ok(answer_page(&page));
    }
    reading.query.limit = CHUNK;
    // The first page is read here, so that a store that is away is an error of the answer.
    let page = next_page(logs, &reading).await.map_err(failed)?;
    let source = Source {
        logs: logs.clone(),
        reading,
        page: Some(page),
        is_last: false,
        tail,
    };
    Ok(ndjson(Body::from_stream(stream::try_unfold(
        source, next_chunk,
    ))))
}

/// In local mode the reason goes to the reader. Elsewhere it goes to the gateway's log, because it names hosts.
fn unavailable(app: &App, error: StoreError) -> ApiError {
    tracing::warn!(%error, "a log cannot be read");
    match app.audience {
        Audience::Developer => ApiError::service(error.to_string()),
        Audience::Callers => {
            ApiError::service("the log store cannot answer; the gateway's log says why")
        }
    }
}

/// Keeps the records that other gateways have for this page alone: a log can have many pages, and its reader can be slow.
async fn next_page(logs: &Hub, reading: &Reading) -> Result<Page, StoreError> {
    let reader = logs.reader(&reading.query.function).await;
    reading.page(&reader).await
}

/// A page that is as full as the reader wants it, if a few questions to the store are enough for that.
async fn one_page(logs: &Hub, mut reading: Reading) -> Result<Page, StoreError> {
    let reader = logs.reader(&reading.query.function).await;
    let limit = reading.query.limit;
    let mut whole = Page::default();
    for _ in 0..ROUNDS {
        reading.query.limit = limit - whole.records.len();
        let page = reading.page(&reader).await?;
        whole.records.extend(page.records);
        whole.next = page.next.clone();
        reading.query.after = page.next;
        if reading.query.after.is_none() || whole.records.len() >= limit {
            break;
        }
    }
    Ok(whole)
}

fn answer_page(page: &Page) -> Response {
    let mut body = Vec::new();
    for record in &page.records {
        write_line(&mut body, record);
    }
    let mut answer = ndjson(Body::from(body));
    let next = page.next.as_ref().map(|next| next.cursor());
    // The name of an instance has no characters that a header could not have.
    if let Some(next) = next.and_then(|next| HeaderValue::try_from(next).ok()) {
        answer.headers_mut().insert(NEXT, next);
    }
    answer
}

fn ndjson(body: Body) -> Response {
    let ndjson = HeaderValue::from_static("application/x-ndjson");
    ([(header::CONTENT_TYPE, ndjson)], body).into_response()
}

/// Returns the pages first, then each new record.
async fn next_chunk(mut source: Source) -> Result<Option<(Bytes, Source)>, StoreError> {
    let mut chunk = Vec::new();
    while chunk.is_empty() {
        if source.is_last {
            match source.news().await? {
                Some(records) => records.iter().for_each(|r| write_line(&mut chunk, r)),
                None => return Ok(None),
            }
            continue;
        }
        let page = match source.page.take() {
            Some(page) => page,
            None => next_page(&source.logs, &source.reading).await?,
        };
        source.is_last = page.next.is_none();
        source.reading.query.after = page.next;
        if let Some(tail) = &mut source.tail {
            tail.skip(&page.records);
        }
        for record in &page.records {
            write_line(&mut chunk, record);
        }
    }
    Ok(Some((Bytes::from(chunk), source)))
}

impl Source {
    /// The next records that come. `None`: none follow.
    async fn news(&mut self) -> Result<Option<Vec<Arc<Entry>>>, StoreError> {
        let Some(tail) = &mut self.tail else {
            return Ok(None);
        };
        let Reading {
            query, invocations, ..
        } = &self.reading;
        loop {
            let record = match tail.next().await {
                None => return Ok(None),
                Some(Followed::Missed(count)) => {
                    let missed = self.logs.missed(&query.function, count);
                    return Ok(Some(vec![Arc::new(missed)]));
                }
                Some(Followed::Record(record)) => record,
            };
            if invocations.admits_all() {
                return Ok(Some(vec![record]));
            }
            // The last record of an invocation: the others are there already.
            let report = Report::of(&record).filter(|report| invocations.admits(report));
            if let Some(report) = report {
                let reader = self.logs.reader(&query.function).await;
                let all = invocations::all_of(&reader, query, &report.request_id).await?;
                return Ok(Some(all.into_iter().map(Arc::new).collect()));
            }
        }
    }
}

pub(super) fn write_line(chunk: &mut Vec<u8>, entry: &Entry) {
    serde_json::to_writer(&mut *chunk, entry).expect("an entry is plain data");
    chunk.push(b'\n');
}
