//! StartLiveTail: the events of some groups as they come, as an event stream.
//!
//! Follows the logs of the groups' functions. Each second a frame has what came since the last one, or a sample of it if
//! it is too much. A caller that reads too slowly misses the oldest events.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http::header;
use jiff::Timestamp;
use pilotlight_core::access::Verb;
use pilotlight_logs::entry::Entry;
use pilotlight_logs::pattern::Pattern;
use pilotlight_logs::query::Selection;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::super::event_stream::{CONTENT_TYPE, frame};
use super::call::Call;
use super::error::LogsError;
use super::events::{self, Chosen, Text};
use super::request;
use super::{log, names};
use crate::logs::{Followed, Tail};

const UPDATE_INTERVAL: Duration = Duration::from_secs(1);
const SESSION_LIMIT: Duration = Duration::from_secs(3 * 3600);
/// The most events of an update.
const UPDATE_MAX: usize = 500;
/// The most sessions of a gateway.
const SESSIONS_MAX: usize = 64;
/// Of how many instances a session remembers when they logged for the first time.
const STARTED_MAX: usize = 10_000;

static SESSIONS: Semaphore = Semaphore::const_new(SESSIONS_MAX);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    log_group_identifiers: Vec<String>,
    log_stream_names: Option<Vec<String>>,
    log_stream_name_prefixes: Option<Vec<String>>,
    log_event_filter_pattern: Option<String>,
}

impl Parameters {
    fn chosen(&self) -> Result<Chosen, LogsError> {
        let chosen = match (&self.log_stream_names, &self.log_stream_name_prefixes) {
            (None, None) => return Ok(Chosen::All),
            (Some(names), None) => Chosen::named("logStreamNames", names),
            (None, Some(prefixes)) => Chosen::prefixed("logStreamNamePrefixes", prefixes),
            (Some(_), Some(_)) => Err(LogsError::invalid(
                "Only one of logStreamNames and logStreamNamePrefixes can be there.",
            )),
        };
        if self.log_group_identifiers.len() > 1 {
            return Err(LogsError::invalid(
                "logStreamNames and logStreamNamePrefixes need exactly one log group.",
            ));
        }
        chosen
    }
}

pub(super) async fn start(call: &Call<'_>) -> Result<Response, LogsError> {
    let wanted: Parameters = call.parameters()?;
    let identifiers = &wanted.log_group_identifiers;
    if !(1..=10).contains(&identifiers.len()) {
        return Err(LogsError::invalid(
            "logGroupIdentifiers must have 1 to 10 log groups.",
        ));
    }
    let chosen = wanted.chosen()?;
    let pattern = events::pattern(wanted.log_event_filter_pattern.as_deref())?;
    let mut tails = Vec::new();
    let mut started = HashMap::new();
    for identifier in identifiers {
        let name = request::identifier("logGroupIdentifiers", identifier)?;
        let log = log::find(call, name, Verb::Get).await?;
        let contained = pattern.iter().flat_map(|pattern| pattern.contained());
        let selection = Selection {
            contains: contained.map(str::to_owned).collect(),
            ..Selection::default()
        };
        let group = names::group_arn(&call.app.scope, &log.function.name);
        tails.push((group, log.hub.follow(&log.function, selection)));
        let instances = log.instances(&log.reader().await).await?.into_iter();
        started.extend(instances.map(|log| (log.instance, log.first)));
    }
    let place = SESSIONS.try_acquire();
    let place = place.map_err(|_| LogsError::too_many_sessions(SESSIONS_MAX))?;
    let mut ticks = tokio::time::interval_at(Instant::now() + UPDATE_INTERVAL, UPDATE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut start = json!({
        "requestId": call.request_id,
        "sessionId": uuid::Uuid::new_v4().to_string(),
        "logGroupIdentifiers": Vec::from_iter(tails.iter().map(|(group, _)| group)),
        "logEventFilterPattern": wanted.log_event_filter_pattern.unwrap_or_default(),
    });
    for (field, names) in [
        ("logStreamNames", wanted.log_stream_names),
        ("logStreamNamePrefixes", wanted.log_stream_name_prefixes),
    ] {
        if let Some(names) = names {
            start[field] = names.into();
        }
    }
    let session = Session {
        step: Step::Start(start),
        tails,
        chosen,
        pattern,
        started,
        ticks,
        end: Instant::now() + SESSION_LIMIT,
        _place: place,
    };
    let body = Body::from_stream(stream::unfold(session, Session::next));
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response())
}

enum Step {
    Start(Value),
    Updates,
    End,
}

struct Session {
    step: Step,
    /// The ARN of each group, and what comes of it.
    tails: Vec<(String, Tail)>,
    chosen: Chosen,
    pattern: Option<Arc<Pattern>>,
    /// When instances logged for the first time, for the names of their streams.
    started: HashMap<String, Timestamp>,
    ticks: Interval,
    end: Instant,
    _place: SemaphorePermit<'static>,
}

impl Session {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Session)> {
        let bytes = match std::mem::replace(&mut self.step, Step::Updates) {
            Step::Start(start) => {
                // The answer of the operation itself has no fields, and comes first.
                let initial = event("initial-response", "application/x-amz-json-1.1", &json!({}));
                let start = event("sessionStart", "application/json", &start);
                Bytes::from([initial, start].concat())
            }
            Step::Updates => {
                self.ticks.tick().await;
                if Instant::now() >= self.end {
                    self.step = Step::End;
                    timeout()
                } else {
                    let update = self.update().await?;
                    event("sessionUpdate", "application/json", &update)
                }
            }
            Step::End => return None,
        };
        Some((Ok(bytes), self))
    }

    /// What has come since the last one. `None`: the gateway ends.
    async fn update(&mut self) -> Option<Value> {
        let mut records = Vec::new();
        let mut is_sampled = false;
        for at in 0..self.tails.len() {
            // What comes from now on belongs to the next update, so a loud function cannot keep this one open.
            while let Some(followed) = self.tails[at].1.next().now_or_never() {
                match followed? {
                    Followed::Missed(_) => is_sampled = true,
                    Followed::Record(entry) => records.push((at, entry)),
                }
            }
        }
        let mut judged = Vec::with_capacity(records.len());
        for (at, entry) in records {
            let stream = self.stream(&entry);
            let is_chosen = self.chosen.has(&entry, || stream.clone());
            judged.push((Came { at, stream, entry }, is_chosen));
        }
        if let Some(pattern) = &self.pattern {
            judged = events::matched(pattern.clone(), judged).await;
        }
        judged.retain(|(_, is_wanted)| *is_wanted);
        judged.sort_by_cached_key(|(came, _)| came.entry.position());
        let count = judged.len();
        let shown = count.min(UPDATE_MAX);
        is_sampled |= shown < count;
        // As many from each part.
        let sample = (0..shown).map(|at| &judged[at * count / shown].0);
        let results = sample.map(|came| {
            let millis = came.entry.time.as_millisecond();
            json!({
                "logStreamName": came.stream,
                "logGroupIdentifier": self.tails[came.at].0,
                "message": events::message(&came.entry),
                "timestamp": millis,
                "ingestionTime": millis,
            })
        });
        Some(json!({
            "sessionMetadata": { "sampled": is_sampled },
            "sessionResults": Vec::from_iter(results),
        }))
    }

    fn stream(&mut self, entry: &Entry) -> String {
        if self.started.len() >= STARTED_MAX && !self.started.contains_key(&entry.instance) {
            self.started.clear();
        }
        let started = self.started.entry(entry.instance.clone());
        let started = *started.or_insert(entry.time);
        names::stream(started, entry.qualifier, &entry.instance)
    }
}

/// A record of one of the groups.
struct Came {
    at: usize,
    stream: String,
    entry: Arc<Entry>,
}

impl Text for Came {
    fn text(&self) -> &str {
        &self.entry.text
    }
}

fn event(kind: &str, content_type: &str, payload: &Value) -> Bytes {
    let headers = [
        (":message-type", "event"),
        (":event-type", kind),
        (":content-type", content_type),
    ];
    frame(&headers, payload.to_string().as_bytes())
}

fn timeout() -> Bytes {
    let headers = [
        (":message-type", "exception"),
        (":exception-type", "SessionTimeoutException"),
        (":content-type", "application/json"),
    ];
    let payload = json!({ "message": "The session has been open for three hours." });
    frame(&headers, payload.to_string().as_bytes())
}
