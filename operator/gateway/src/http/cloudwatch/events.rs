//! GetLogEvents and FilterLogEvents: pages of events of one stream, or of those of a group that a pattern selects.
//!
//! A page has a bound of events and of bytes, and looks through a bounded part of the log; then it has a token with which
//! the caller goes on. So a page may be empty and still not be the last one, as with the real service.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use pilotlight_core::access::Verb;
use pilotlight_logs::entry::{Entry, Position};
use pilotlight_logs::pattern::Pattern;
use pilotlight_logs::query::{Order, Query, Selection};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use super::call::Call;
use super::error::LogsError;
use super::log::Streams;
use super::request::{self, EVENTS_MAX, Group};
use super::token::{Cut, Token};
use super::{log, names};
use crate::logs::Reader;

/// The most bytes of one page: of the texts, and of each event besides them.
const PAGE_BYTES: usize = 1024 * 1024;
const EVENT_BYTES: usize = 26;
/// How much of a log one page looks through, in bytes.
const SEARCH_BYTES: usize = 8 * 1024 * 1024;
/// How many records are read from the store at a time.
const CHUNK: usize = 500;

/// How many patterns are matched at a time, each on a thread of its own: a hostile one takes microseconds for each byte.
static SEARCHES: Semaphore = Semaphore::const_new(2);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GetParameters {
    #[serde(flatten)]
    group: Group,
    log_stream_name: String,
    #[serde(default)]
    start_from_head: bool,
    start_time: Option<i64>,
    end_time: Option<i64>,
    next_token: Option<String>,
    limit: Option<i64>,
}

pub(super) async fn get(call: &Call<'_>) -> Result<Value, LogsError> {
    let wanted: GetParameters = call.parameters()?;
    let limit = request::limit(wanted.limit, EVENTS_MAX)?;
    let (since, until) = range(wanted.start_time, wanted.end_time)?;
    let stream = request::stream_name("logStreamName", &wanted.log_stream_name)?;
    let token = wanted.next_token.as_deref().map(Token::read).transpose()?;
    let log = log::find(call, wanted.group.name()?, Verb::Get).await?;
    let instance = names::instance_of(stream).ok_or_else(LogsError::no_stream)?;
    if token.is_none() {
        log.hub.catch_up(&log.function).await;
    }
    let order = match (&token, wanted.start_from_head) {
        (Some(token), _) => token.order,
        (None, true) => Order::OldestFirst,
        (None, false) => Order::NewestFirst,
    };
    let mut query = Query::all(log.function.clone());
    query.order = order;
    query.after = token.as_ref().map(|token| token.cut.start(order));
    query.selection = Selection {
        instance: Some(instance.to_owned()),
        since,
        until,
        ..Selection::default()
    };
    let reader = log.reader().await;
    let mut found = search(&reader, query, limit, None).await?;
    if found.records.is_empty() && token.is_none() {
        let instances = log.instances(&reader).await?;
        if !instances.iter().any(|log| log.instance == instance) {
            return Err(LogsError::no_stream());
        }
    }
    if order == Order::NewestFirst {
        found.records.reverse();
    }
    // The same place again if there was nothing, by which the caller sees that this is the end.
    let here = token.map_or_else(
        || Cut::at(since.unwrap_or(Timestamp::UNIX_EPOCH)),
        |token| token.cut,
    );
    let first = found
        .records
        .first()
        .map(|record| Cut::before(record.position()));
    let last = found
        .records
        .last()
        .map(|record| Cut::after(record.position()));
    let seen = found.seen.map(|seen| cut(order, seen));
    let (backward, forward) = match order {
        Order::OldestFirst => (first, seen.or(last)),
        Order::NewestFirst => (seen.or(first), last),
    };
    let event = |record: &Entry| {
        let millis = record.time.as_millisecond();
        json!({ "timestamp": millis, "message": message(record), "ingestionTime": millis })
    };
    Ok(json!({
        "events": Vec::from_iter(found.records.iter().map(event)),
        "nextForwardToken": Token::forward(forward.unwrap_or_else(|| here.clone())).write(),
        "nextBackwardToken": Token::backward(backward.unwrap_or(here)).write(),
    }))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FilterParameters {
    #[serde(flatten)]
    group: Group,
    log_stream_names: Option<Vec<String>>,
    log_stream_name_prefix: Option<String>,
    filter_pattern: Option<String>,
    start_from_head: Option<bool>,
    start_time: Option<i64>,
    end_time: Option<i64>,
    next_token: Option<String>,
    limit: Option<i64>,
}

pub(super) async fn filter(call: &Call<'_>) -> Result<Value, LogsError> {
    let wanted: FilterParameters = call.parameters()?;
    let limit = request::limit(wanted.limit, EVENTS_MAX)?;
    let (since, _) = range(wanted.start_time, wanted.end_time)?;
    let streams = Chosen::read(
        wanted.log_stream_names.as_ref(),
        wanted.log_stream_name_prefix.as_deref(),
    )?;
    let pattern = pattern(wanted.filter_pattern.as_deref())?;
    let token = wanted.next_token.as_deref().map(Token::read).transpose()?;
    let log = log::find(call, wanted.group.name()?, Verb::Get).await?;
    if token.is_none() {
        log.hub.catch_up(&log.function).await;
    }
    let order = match (&token, wanted.start_from_head) {
        (Some(token), _) => token.order,
        (None, Some(false)) => Order::NewestFirst,
        (None, _) => Order::OldestFirst,
    };
    let contained = pattern.iter().flat_map(|pattern| pattern.contained());
    let mut query = Query::all(log.function.clone());
    query.order = order;
    query.after = token.as_ref().map(|token| token.cut.start(order));
    query.selection = Selection {
        instance: streams.only(),
        since,
        // Events of this very millisecond are wanted too.
        until: wanted.end_time.and_then(after),
        contains: contained.map(str::to_owned).collect(),
        ..Selection::default()
    };
    let reader = log.reader().await;
    let known = log.streams(&reader).await?;
    let filter = Filter {
        known,
        streams,
        pattern,
    };
    let found = search(&reader, query, limit, Some(&filter)).await?;
    let event = |record: &Entry| {
        let millis = record.time.as_millisecond();
        json!({
            "logStreamName": filter.known.name(record),
            "timestamp": millis,
            "message": message(record),
            "ingestionTime": millis,
            "eventId": event_id(record),
        })
    };
    let events = Vec::from_iter(found.records.iter().map(event));
    let mut body = Map::new();
    body.insert("events".to_owned(), events.into());
    body.insert("searchedLogStreams".to_owned(), json!([]));
    if let Some(seen) = found.seen.filter(|_| !found.is_end) {
        let cut = cut(order, seen);
        body.insert("nextToken".to_owned(), Token { order, cut }.write().into());
    }
    Ok(body.into())
}

/// `None` for one that selects everything.
pub(super) fn pattern(text: Option<&str>) -> Result<Option<Arc<Pattern>>, LogsError> {
    match text {
        None | Some("") => Ok(None),
        Some(text) => Ok(Some(Arc::new(Pattern::read(text)?))),
    }
}

/// The text of an event. The service has none without a character.
pub(super) fn message(record: &Entry) -> &str {
    match record.text.as_str() {
        "" => "\n",
        text => text,
    }
}

fn event_id(record: &Entry) -> String {
    let micros = record.time.as_microsecond();
    format!("{micros:020}-{:010}-{}", record.sequence, record.instance)
}

/// The time after the last one of this millisecond.
fn after(millis: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(millis.checked_add(1)?).ok()
}

fn range(
    start: Option<i64>,
    end: Option<i64>,
) -> Result<(Option<Timestamp>, Option<Timestamp>), LogsError> {
    let read = (
        request::time("startTime", start)?,
        request::time("endTime", end)?,
    );
    match read {
        (Some(since), Some(until)) if since > until => Err(LogsError::invalid(
            "startTime must not be later than endTime.",
        )),
        read => Ok(read),
    }
}

/// Which streams the caller wants.
#[derive(Clone, Debug)]
pub(super) enum Chosen {
    All,
    /// Those of these instances.
    Instances(HashSet<String>),
    /// Those whose names begin with one of these.
    Prefixes(Vec<String>),
}

impl Chosen {
    fn read(names: Option<&Vec<String>>, prefix: Option<&str>) -> Result<Self, LogsError> {
        match (names, prefix) {
            (None, None) => Ok(Chosen::All),
            (Some(names), None) => Self::named("logStreamNames", names),
            (None, Some(prefix)) => {
                let prefix = request::stream_name("logStreamNamePrefix", prefix)?;
                Ok(Chosen::Prefixes(vec![prefix.to_owned()]))
            }
            (Some(_), Some(_)) => Err(LogsError::invalid(
                "Only one of logStreamNames and logStreamNamePrefix can be there.",
            )),
        }
    }

    pub(super) fn named(field: &str, streams: &[String]) -> Result<Self, LogsError> {
        request::stream_names(field, streams)?;
        let instances = streams.iter().filter_map(|name| names::instance_of(name));
        Ok(Chosen::Instances(instances.map(str::to_owned).collect()))
    }

    pub(super) fn prefixed(field: &str, prefixes: &[String]) -> Result<Self, LogsError> {
        request::stream_names(field, prefixes)?;
        Ok(Chosen::Prefixes(prefixes.to_vec()))
    }

    /// The instance, if there is just one.
    fn only(&self) -> Option<String> {
        match self {
            Chosen::Instances(instances) if instances.len() == 1 => {
                instances.iter().next().cloned()
            }
            _ => None,
        }
    }

    pub(super) fn has(&self, record: &Entry, stream: impl FnOnce() -> String) -> bool {
        match self {
            Chosen::All => true,
            Chosen::Instances(instances) => instances.contains(&record.instance),
            Chosen::Prefixes(prefixes) => {
                let stream = stream();
                prefixes.iter().any(|prefix| stream.starts_with(prefix))
            }
        }
    }
}

struct Filter {
    known: Streams,
    streams: Chosen,
    pattern: Option<Arc<Pattern>>,
}

/// What a search has found.
struct Found {
    /// In the order of the query.
    records: Vec<Entry>,
    /// The last record that was looked at; `None` if there was none.
    seen: Option<Position>,
    /// There is no more.
    is_end: bool,
}

/// The place after the last record that was seen, in this order.
fn cut(order: Order, seen: Position) -> Cut {
    match order {
        Order::OldestFirst => Cut::after(seen),
        Order::NewestFirst => Cut::before(seen),
    }
}

async fn search(
    reader: &Reader<'_>,
    mut query: Query,
    limit: usize,
    filter: Option<&Filter>,
) -> Result<Found, LogsError> {
    let mut found = Found {
        records: Vec::new(),
        seen: None,
        is_end: false,
    };
    let (mut bytes, mut searched) = (0, 0);
    query.limit = match filter {
        Some(_) => CHUNK,
        None => CHUNK.min(limit),
    };
    while searched < SEARCH_BYTES {
        let mut page = reader.read(&query).await?;
        searched += page.records.iter().map(Entry::size).sum::<usize>();
        let next = page.next.take();
        for (record, is_wanted) in judged(page.records, filter).await {
            if is_wanted {
                bytes += record.text.len() + EVENT_BYTES;
                let is_full = found.records.len() == limit || bytes > PAGE_BYTES;
                if is_full && !found.records.is_empty() {
                    return Ok(found);
                }
                found.seen = Some(record.position());
                found.records.push(record);
            } else {
                found.seen = Some(record.position());
            }
        }
        found.is_end = next.is_none();
        if found.is_end {
            break;
        }
        found.seen = next.clone();
        query.after = next;
        if found.records.len() == limit {
            break;
        }
    }
    Ok(found)
}

/// Each record, and whether it is wanted.
async fn judged(records: Vec<Entry>, filter: Option<&Filter>) -> Vec<(Entry, bool)> {
    let Some(filter) = filter else {
        return records.into_iter().map(|record| (record, true)).collect();
    };
    let is_chosen = |record: &Entry| filter.streams.has(record, || filter.known.name(record));
    let chosen = records.into_iter().map(|record| {
        let is_chosen = is_chosen(&record);
        (record, is_chosen)
    });
    let chosen: Vec<_> = chosen.collect();
    match &filter.pattern {
        Some(pattern) => matched(pattern.clone(), chosen).await,
        None => chosen,
    }
}

/// What a pattern judges.
pub(super) trait Text {
    fn text(&self) -> &str;
}

impl Text for Entry {
    fn text(&self) -> &str {
        &self.text
    }
}

/// Which of the records the pattern admits, of those that are wanted otherwise.
pub(super) async fn matched<R: Text + Send + 'static>(
    pattern: Arc<Pattern>,
    mut records: Vec<(R, bool)>,
) -> Vec<(R, bool)> {
    let _place = SEARCHES.acquire().await;
    let matching = tokio::task::spawn_blocking(move || {
        for (record, is_wanted) in &mut records {
            *is_wanted = *is_wanted && pattern.admits(record.text());
        }
        records
    });
    matching.await.expect("matching does not panic")
}
