//! Requests to JetStream's API, and the streams and consumers that a queue needs.
//!
//! Both are made when they are first needed. A stream that is there already must be of the right kind, and gets the bounds of
//! this release; settings that only an administrator knows (where it is placed) stay as they are. No stream is ever deleted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use async_nats::jetstream::context::{RequestError, RequestErrorKind};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Republish, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{self, ErrorCode, consumer};
use pilotlight_core::ids::{FunctionKey, Namespace};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::config::JetStreamConfig;
use super::errors::{is_full, words};
use super::link::{Link, MESSAGE_BYTES, locked};
use super::names::NamePrefix;
use crate::queue::{DEAD_LETTER_AGE, DEAD_LETTER_PART, DUPLICATE_WINDOW, QueueError};

/// After this time without a question a function's consumer is removed; the next event makes a new one.
const CONSUMER_IDLE: Duration = Duration::from_secs(3600);
/// How long a stored progress is kept. No event is tried when it is older than a quarter of it.
const PROGRESS_AGE: Duration = Duration::from_secs(86400);
/// What the stored progress of the events of a namespace may take: 200 bytes each.
const PROGRESS_BYTES: i64 = 64 * 1024 * 1024;
/// How many functions of a namespace may have events within [`CONSUMER_IDLE`]. Without a number of its own a stream has 1,000
/// consumers at most.
const CONSUMERS_MAX: i32 = 100_000;
/// How many consumers are remembered as made.
const CONSUMERS_KNOWN: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) link: Link,
    pub(super) prefix: NamePrefix,
    bytes: u64,
    replicas: usize,
    ack_wait: Duration,
    /// Namespaces whose streams are there.
    streams: tokio::sync::Mutex<HashSet<Namespace>>,
    consumers: Mutex<HashSet<FunctionKey>>,
}

/// A request has got no answer, or a refusal.
#[derive(Debug)]
pub(super) enum ApiError {
    Away(QueueError),
    Refused(jetstream::Error),
    Unanswered(RequestError),
}

#[derive(Deserialize)]
struct StreamInfo {
    config: Config,
    state: StreamState,
    /// How many subjects there are on all pages.
    #[serde(default)]
    total: usize,
}

#[derive(Deserialize)]
struct StreamState {
    #[serde(default)]
    subjects: Option<HashMap<String, u64>>,
}

#[derive(Deserialize)]
struct StreamNames {
    #[serde(default)]
    total: usize,
    streams: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct PurgeAnswer {
    #[serde(default)]
    purged: u64,
}

impl Server {
    pub(super) fn new(link: Link, config: &JetStreamConfig) -> Self {
        Server {
            link,
            prefix: config.prefix.clone(),
            bytes: config.bytes,
            replicas: config.replicas,
            ack_wait: config.timing.ack_wait,
            streams: tokio::sync::Mutex::default(),
            consumers: Mutex::default(),
        }
    }

    /// Makes the streams of a namespace, unless they are there.
    pub(super) async fn need_streams(&self, namespace: &Namespace) -> Result<(), QueueError> {
        let mut known = self.streams.lock().await;
        if known.contains(namespace) {
            return Ok(());
        }
        let prefix = &self.prefix;
        let events = Config {
            name: prefix.events_stream(namespace),
            description: Some("Events of asynchronous calls that have not ended".to_owned()),
            subjects: vec![prefix.events_of(namespace)],
            retention: RetentionPolicy::WorkQueue,
            max_bytes: i64::try_from(self.bytes).unwrap_or(i64::MAX),
            duplicate_window: DUPLICATE_WINDOW,
            republish: Some(Republish {
                source: prefix.events_of(namespace),
                destination: prefix.rings_of(namespace),
                headers_only: true,
            }),
            ..self.stream()
        };
        let progress = Config {
            name: prefix.progress_stream(namespace),
            description: Some("How often events of asynchronous calls were tried".to_owned()),
            subjects: vec![prefix.progress_of_namespace(namespace)],
            retention: RetentionPolicy::Limits,
            max_bytes: PROGRESS_BYTES,
            max_messages_per_subject: 1,
            max_age: PROGRESS_AGE,
            ..self.stream()
        };
        let dead = Config {
            name: prefix.dead_stream(namespace),
            description: Some("Events of asynchronous calls that have failed".to_owned()),
            subjects: vec![prefix.dead_of_namespace(namespace)],
            retention: RetentionPolicy::Limits,
            // The newest ones are kept.
            discard: DiscardPolicy::Old,
            max_bytes: i64::try_from(self.bytes / DEAD_LETTER_PART).unwrap_or(i64::MAX),
            max_messages_per_subject: 1,
            max_age: DEAD_LETTER_AGE,
            ..self.stream()
        };
        for wanted in [events, progress, dead] {
            self.need_stream(wanted).await?;
        }
        known.insert(namespace.clone());
        Ok(())
    }

    /// What is the same for most. A full stream refuses, and forgets nothing.
    fn stream(&self) -> Config {
        Config {
            storage: StorageType::File,
            discard: DiscardPolicy::New,
            max_messages: -1,
            max_messages_per_subject: -1,
            max_consumers: CONSUMERS_MAX,
            max_message_size: MESSAGE_BYTES as i32,
            num_replicas: self.replicas,
            ..Config::default()
        }
    }

    async fn need_stream(&self, wanted: Config) -> Result<(), QueueError> {
        let name = &wanted.name;
        let failed = |error: ApiError| self.no_stream(name, wanted.max_bytes, error);
        // Asked first: the server counts the room of a stream that is there against a request to make it.
        let found = match self.stream_config(name).await.map_err(failed)? {
            Some(found) => found,
            None => {
                let made = self.api::<StreamInfo>(format!("STREAM.CREATE.{name}"), &wanted);
                let Err(error) = made.await else {
                    return Ok(());
                };
                // Another gateway may have made it meanwhile.
                match self.stream_config(name).await {
                    Ok(Some(found)) => found,
                    _ => return Err(failed(error)),
                }
            }
        };
        let kind = |config: &Config| (config.retention, config.storage, config.discard);
        if kind(&found) != kind(&wanted) {
            return Err(QueueError::Unavailable(format!(
                "the stream {name} was not made for events: give it another name, or take another prefix"
            )));
        }
        let changed = Config {
            subjects: wanted.subjects.clone(),
            max_bytes: wanted.max_bytes,
            max_messages_per_subject: wanted.max_messages_per_subject,
            max_message_size: wanted.max_message_size,
            max_age: wanted.max_age,
            num_replicas: wanted.num_replicas,
            duplicate_window: found.duplicate_window.max(wanted.duplicate_window),
            republish: wanted.republish.clone(),
            ..found.clone()
        };
        if changed != found {
            let updated = self.api::<StreamInfo>(format!("STREAM.UPDATE.{name}"), &changed);
            updated.await.map_err(failed)?;
        }
        Ok(())
    }

    async fn stream_config(&self, name: &str) -> Result<Option<Config>, ApiError> {
        let nothing = json!({});
        let info = self.api::<StreamInfo>(format!("STREAM.INFO.{name}"), &nothing);
        match info.await {
            Ok(info) => Ok(Some(info.config)),
            Err(error) if error.is(ErrorCode::STREAM_NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn no_stream(&self, name: &str, bytes: i64, error: ApiError) -> QueueError {
        match &error {
            ApiError::Refused(refused) if is_full(refused.error_code()) => {
                QueueError::Full(format!(
                    "the NATS server has no room for the stream {name} of {bytes} bytes: give JetStream more storage, or \
                     the stream less: {refused}"
                ))
            }
            _ => self.failed(&format!("the stream {name}"), error),
        }
    }

    /// A stream of the namespace was not there: the next one who needs it makes it anew.
    pub(super) async fn forget_streams(&self, namespace: &Namespace) {
        self.streams.lock().await.remove(namespace);
    }

    /// The stream was not there, although it had been.
    pub(super) async fn lost_streams(&self, namespace: &Namespace) {
        if self.streams.lock().await.remove(namespace) {
            let stream = self.prefix.events_stream(namespace);
            tracing::error!(
                stream,
                "the NATS server does not have the stream any more, nor the events that were in it: it is made anew"
            );
        }
    }

    /// Something has failed with the streams: they are looked at again before they are used.
    #[cfg(feature = "schedule")]
    pub(super) async fn doubt_streams(&self, namespace: &Namespace) {
        self.streams.lock().await.remove(namespace);
    }

    /// Makes the consumer of a function, unless it is there.
    pub(super) async fn need_consumer(&self, function: &FunctionKey) -> Result<(), QueueError> {
        if locked(&self.consumers).contains(function) {
            return Ok(());
        }
        self.need_streams(&function.namespace).await?;
        let (stream, name) = (
            self.prefix.events_stream(&function.namespace),
            &function.name,
        );
        let filter = self.prefix.events(function);
        let config = consumer::Config {
            durable_name: Some(name.to_string()),
            name: Some(name.to_string()),
            deliver_policy: consumer::DeliverPolicy::All,
            ack_policy: consumer::AckPolicy::Explicit,
            ack_wait: self.ack_wait,
            // Pilotlight gives an event up, not the server.
            max_deliver: -1,
            // Events that wait for their time count as well.
            max_ack_pending: -1,
            filter_subject: filter.clone(),
            inactive_threshold: CONSUMER_IDLE,
            ..consumer::Config::default()
        };
        let request = json!({"stream_name": stream, "config": config, "action": ""});
        let subject = format!("CONSUMER.CREATE.{stream}.{name}.{filter}");
        let made = self.api::<serde_json::Value>(subject, &request).await;
        if let Err(error) = made {
            if error.is(ErrorCode::STREAM_NOT_FOUND) {
                self.lost_streams(&function.namespace).await;
            }
            let what = format!("the consumer {name} of {stream}");
            return Err(self.failed(&what, error));
        }
        let mut known = locked(&self.consumers);
        if known.len() >= CONSUMERS_KNOWN {
            known.clear();
        }
        known.insert(function.clone());
        Ok(())
    }

    pub(super) fn forget_consumer(&self, function: &FunctionKey) {
        locked(&self.consumers).remove(function);
    }

    /// How many events each function has, in all namespaces of the prefix.
    pub(super) async fn counts(&self) -> Result<BTreeMap<FunctionKey, u64>, QueueError> {
        let failed = |error| self.failed("the streams", error);
        let mut counts = BTreeMap::new();
        let mut seen = 0;
        loop {
            let request = json!({"subject": self.prefix.all_events(), "offset": seen});
            let page = self.api::<StreamNames>("STREAM.NAMES".to_owned(), &request);
            let page = page.await.map_err(failed)?;
            let names = page.streams.unwrap_or_default();
            seen += names.len();
            let is_last = names.is_empty() || seen >= page.total;
            for name in names {
                let add = |subject: String, count| {
                    if let Some(function) = self.prefix.function_of_events(&subject) {
                        counts.insert(function, count);
                    }
                };
                self.each_subject(&name, &self.prefix.all_events(), add)
                    .await?;
            }
            if is_last {
                return Ok(counts);
            }
        }
    }

    /// How many messages these subjects of a stream have.
    pub(super) async fn count(&self, stream: &str, filter: &str) -> Result<u64, QueueError> {
        let mut all = 0;
        self.each_subject(stream, filter, |_, count| all += count)
            .await?;
        Ok(all)
    }

    /// Passes each of these subjects that the stream has messages of, with their count. A stream that is not there has none.
    async fn each_subject(
        &self,
        stream: &str,
        filter: &str,
        mut pass: impl FnMut(String, u64) + Send,
    ) -> Result<(), QueueError> {
        let mut seen = 0;
        loop {
            let request = json!({"subjects_filter": filter, "offset": seen});
            let page = self.api::<StreamInfo>(format!("STREAM.INFO.{stream}"), &request);
            let page = match page.await {
                Ok(page) => page,
                Err(error) if error.is(ErrorCode::STREAM_NOT_FOUND) => return Ok(()),
                Err(error) => return Err(self.failed(stream, error)),
            };
            let subjects = page.state.subjects.unwrap_or_default();
            seen += subjects.len();
            let is_last = subjects.is_empty() || seen >= page.total;
            for (subject, count) in subjects {
                pass(subject, count);
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Removes the messages of these subjects, and returns how many these were.
    pub(super) async fn purge(&self, stream: &str, filter: &str) -> Result<u64, QueueError> {
        let request = json!({"filter": filter});
        let purged = self.api::<PurgeAnswer>(format!("STREAM.PURGE.{stream}"), &request);
        match purged.await {
            Ok(done) => Ok(done.purged),
            Err(error) if error.is(ErrorCode::STREAM_NOT_FOUND) => Ok(0),
            Err(error) => Err(self.failed(stream, error)),
        }
    }

    /// Removes one message, if it is there.
    pub(super) async fn remove(&self, stream: &str, sequence: u64) -> Result<(), QueueError> {
        let request = json!({"seq": sequence, "no_erase": true});
        let removed = self.api::<PurgeAnswer>(format!("STREAM.MSG.DELETE.{stream}"), &request);
        match removed.await {
            Ok(_) => Ok(()),
            Err(error) if GONE.iter().any(|code| error.is(*code)) => Ok(()),
            Err(error) => Err(self.failed(stream, error)),
        }
    }

    fn failed(&self, what: &str, error: ApiError) -> QueueError {
        match error {
            ApiError::Away(error) => error,
            error => self.link.unavailable(what, &error),
        }
    }

    async fn api<T: DeserializeOwned>(
        &self,
        subject: String,
        request: &impl Serialize,
    ) -> Result<T, ApiError> {
        let session = self.link.session().await.map_err(ApiError::Away)?;
        match session.jetstream.request(subject, request).await {
            Ok(Response::Ok(answer)) => Ok(answer),
            Ok(Response::Err { error }) => Err(ApiError::Refused(error)),
            Err(error) => Err(ApiError::Unanswered(error)),
        }
    }
}

/// What the server says of a message that is gone already.
const GONE: [ErrorCode; 4] = [
    ErrorCode::NO_MESSAGE_FOUND,
    ErrorCode::SEQUENCE_NOT_FOUND,
    ErrorCode::STREAM_MESSAGE_DELETE_FAILED,
    ErrorCode::STREAM_NOT_FOUND,
];

impl ApiError {
    fn is(&self, code: ErrorCode) -> bool {
        matches!(self, ApiError::Refused(error) if error.error_code() == code)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApiError::Away(error) => error.fmt(f),
            ApiError::Refused(error) => error.fmt(f),
            ApiError::Unanswered(error) if error.kind() == RequestErrorKind::TimedOut => {
                f.write_str("no answer in time")
            }
            ApiError::Unanswered(error) => f.write_str(&words(error)),
        }
    }
}

impl std::error::Error for ApiError {}
