//! The connection to the servers: who this is, whether they can be used, and whether they are there.
//!
//! One connection for everything. One that is lost is replaced, for as long as it takes, and each new server is checked. What
//! waited to be sent on a lost one is dropped with it: whoever was told that something failed should not find it done later.
//! Nobody waits for servers that have been away for longer than a request may take. The files of credentials and authorities
//! are read for each connection, so a changed one needs no new process.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::{AuthError, Client, ConnectOptions, Event, ServerAddr, jetstream};
use pilotlight_core::shown_url::ShownUrl;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::config::JetStreamConfig;
use super::errors::words;
use crate::queue::QueueError;

/// The oldest server that can be used: earlier ones have lost what they had acknowledged in more ways than one.
const MIN_VERSION: (u64, u64) = (2, 12);
/// What the server must accept as one message: an event of 1 MiB and its head.
pub(super) const MESSAGE_BYTES: usize = 1024 * 1024 + 64 * 1024;
/// How often an idle connection is tried. After two of these without an answer it is opened again.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// The pause between two attempts to connect: the first and the longest. The longest is also the pause before a server is
/// checked again.
const RECONNECT_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How much may wait to be sent: that many messages, each of which may be as large as an event.
const UNSENT: usize = 128;
/// How many messages of one subscription may wait to be read.
const UNREAD: usize = 4096;

/// A configuration with which no server can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenJetStreamError {
    #[error("there is no address of a server")]
    NoServer,
    #[error(
        "`{0}` is no address of a NATS server: it has to have the form nats://HOST[:PORT] or tls://HOST[:PORT]; user and \
         password belong into files"
    )]
    Address(String),
    #[error("{0}")]
    Client(String),
}

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Link {
    servers: Arc<str>,
    standing: watch::Receiver<Standing>,
    /// Grows whenever something may have been missed: after a time without connection, or with too much to read.
    pub(super) missed: watch::Receiver<u64>,
    patience: Duration,
}

/// A connection to a server that can be used.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) jetstream: jetstream::Context,
}

/// What is known of the servers.
#[derive(Clone, Debug)]
enum Standing {
    Away {
        why: String,
        since: Instant,
    },
    Usable(Session),
    /// One is there, and cannot be used.
    Refused(String),
}

impl Link {
    /// Returns at once, whether a server is there or not. The task keeps the connection until it is aborted.
    pub(super) fn open(config: JetStreamConfig) -> Result<(Self, AbortHandle), OpenJetStreamError> {
        let addresses = addresses(&config.servers)?;
        let shown = config.servers.iter();
        let shown: Vec<String> = shown.map(|url| ShownUrl(url).to_string()).collect();
        let away = Standing::Away {
            why: "not connected yet".to_owned(),
            since: Instant::now(),
        };
        let (standing, known) = watch::channel(away);
        let (missed, misses) = watch::channel(0);
        let link = Link {
            servers: shown.join(",").into(),
            standing: known,
            missed: misses,
            patience: config.timing.request,
        };
        let follower = Follower {
            config,
            standing,
            missed,
        };
        let task = tokio::spawn(follower.keep_connected(addresses));
        Ok((link, task.abort_handle()))
    }

    /// The connection, or why there is none: at once, or after the time that a request may take if it was lost just now.
    pub(super) async fn session(&self) -> Result<Session, QueueError> {
        let mut standing = self.standing.clone();
        loop {
            let known = standing.borrow_and_update().clone();
            let (why, wait) = match known {
                Standing::Usable(session) if session.is_connected() => return Ok(session),
                Standing::Usable(_) => ("the connection was lost".to_owned(), self.patience),
                Standing::Refused(why) => (why, Duration::ZERO),
                Standing::Away { why, since } => {
                    (why, self.patience.saturating_sub(since.elapsed()))
                }
            };
            let changed = tokio::time::timeout(wait, standing.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return Err(QueueError::Unavailable(format!("{}: {why}", self.servers)));
            }
        }
    }

    /// The connection, if there is one.
    pub(super) fn current(&self) -> Option<Session> {
        match &*self.standing.borrow() {
            Standing::Usable(session) if session.is_connected() => Some(session.clone()),
            _ => None,
        }
    }

    /// The next connection, however long it takes. `None`: there will be none any more.
    pub(super) async fn next_session(&self) -> Option<Session> {
        let mut standing = self.standing.clone();
        let usable = standing.wait_for(
            |standing| matches!(standing, Standing::Usable(session) if session.is_connected()),
        );
        match &*usable.await.ok()? {
            Standing::Usable(session) => Some(session.clone()),
            _ => None,
        }
    }

    pub(super) fn unavailable(&self, what: &str, error: &dyn std::error::Error) -> QueueError {
        QueueError::Unavailable(format!("{}: {what}: {}", self.servers, words(error)))
    }
}

impl Session {
    fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }
}

/// Keeps the connection.
struct Follower {
    config: JetStreamConfig,
    standing: watch::Sender<Standing>,
    missed: watch::Sender<u64>,
}

impl Follower {
    async fn keep_connected(self, addresses: Vec<ServerAddr>) {
        let (first, longest) = RECONNECT_PAUSE;
        let mut pause = first;
        for address in addresses.iter().cycle() {
            let (events, happened) = mpsc::channel(64);
            let options = options(&self.config).event_callback(move |event| {
                // A burst of them says no more than its first ones.
                let _ = events.try_send(event);
                async {}
            });
            match options.connect(address.clone()).await {
                Ok(client) => {
                    pause = first;
                    self.follow(client, happened).await;
                    self.away("the connection was lost".to_owned());
                }
                Err(error) => {
                    let why = words(&error);
                    tracing::debug!(why, "no connection to NATS");
                    self.away(why);
                }
            }
            tokio::time::sleep(pause).await;
            pause = longest.min(2 * pause);
        }
    }

    /// Returns when the connection is lost for good.
    async fn follow(&self, client: Client, mut happened: mpsc::Receiver<Event>) {
        let jetstream = ContextBuilder::new()
            .timeout(self.config.timing.request)
            .build(client.clone());
        let session = Session { client, jetstream };
        let mut look = true;
        loop {
            if std::mem::take(&mut look) {
                let now = self.check(&session).await;
                if let Standing::Refused(why) = &now {
                    tracing::error!(why, "the NATS server cannot keep events");
                }
                self.standing.send_replace(now);
                self.missed.send_modify(|count| *count += 1);
            }
            let is_usable = matches!(&*self.standing.borrow(), Standing::Usable(_));
            let event = match is_usable {
                true => happened.recv().await,
                false => match tokio::time::timeout(RECONNECT_PAUSE.1, happened.recv()).await {
                    Ok(event) => event,
                    // It may be usable by now.
                    Err(_) => {
                        look = true;
                        continue;
                    }
                },
            };
            match event {
                None | Some(Event::Closed) => return,
                Some(Event::Disconnected) => self.away("the connection was lost".to_owned()),
                Some(Event::Connected) => look = true,
                Some(Event::SlowConsumer(_)) => self.missed.send_modify(|count| *count += 1),
                Some(other) => tracing::debug!(event = %other, "the connection to NATS"),
            }
        }
    }

    fn away(&self, why: String) {
        self.standing.send_modify(|standing| {
            let since = match standing {
                Standing::Away { since, .. } => *since,
                _ => Instant::now(),
            };
            *standing = Standing::Away { why, since };
        });
    }

    /// Whether the server can keep events, as far as it says.
    async fn check(&self, session: &Session) -> Standing {
        let info = session.client.server_info();
        let version = &info.version;
        let mut numbers = version.split('.').map_while(|part| part.parse().ok());
        let known = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if known < MIN_VERSION {
            let (major, minor) = MIN_VERSION;
            return Standing::Refused(format!(
                "the server has version {version}, and events need {major}.{minor} or newer"
            ));
        }
        if info.max_payload < MESSAGE_BYTES {
            return Standing::Refused(format!(
                "the server accepts messages of {} bytes, and events need {MESSAGE_BYTES}: raise `max_payload`",
                info.max_payload
            ));
        }
        match session.jetstream.query_account().await {
            Ok(_) => Standing::Usable(session.clone()),
            Err(error) => Standing::Refused(format!("JetStream cannot be used: {}", words(&error))),
        }
    }
}

fn addresses(servers: &[String]) -> Result<Vec<ServerAddr>, OpenJetStreamError> {
    if servers.is_empty() {
        return Err(OpenJetStreamError::NoServer);
    }
    let address = |text: &String| {
        let refused = || OpenJetStreamError::Address(ShownUrl(text).to_string());
        let address: ServerAddr = text.parse().map_err(|_| refused())?;
        let is_known = matches!(address.scheme(), "nats" | "tls") && !address.host().is_empty();
        match is_known && !address.has_user_pass() {
            true => Ok(address),
            false => Err(refused()),
        }
    };
    servers.iter().map(address).collect()
}

fn options(config: &JetStreamConfig) -> ConnectOptions {
    let options = match config.credentials.clone() {
        None => ConnectOptions::new(),
        Some(credentials) => ConnectOptions::with_auth_callback(move |nonce| {
            let credentials = credentials.clone();
            async move { credentials.answer(&nonce).map_err(AuthError::new) }
        }),
    };
    let options = options
        .name("pilotlight")
        .connection_timeout(config.timing.request)
        .request_timeout(Some(config.timing.request))
        .ping_interval(PING_INTERVAL)
        // See the module: after one attempt it gives up, with all that waits.
        .max_reconnects(1)
        .ignore_discovered_servers()
        .reconnect_delay_callback(|_| Duration::ZERO)
        .client_capacity(UNSENT)
        .subscription_capacity(UNREAD);
    match config
        .credentials
        .as_ref()
        .and_then(|credentials| credentials.authorities())
    {
        // Without them, certificates are verified by the authorities of the system.
        Some(file) => options.add_root_certificates(file).require_tls(true),
        None => options,
    }
}

/// Shared state whose owner may have panicked: it is plain data, and usable all the same.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_no_user_and_a_scheme_of_nats() {
        let list = |text: &str| addresses(&[text.to_owned()]);
        for good in [
            "nats://localhost",
            "tls://nats.example:4222",
            "localhost:4222",
        ] {
            assert!(list(good).is_ok(), "{good}");
        }
        for odd in [
            "nats://me:secret@localhost",
            "http://localhost",
            "ws://localhost",
            "nats://",
            "",
        ] {
            let refused = list(odd).expect_err(odd).to_string();
            assert!(!refused.contains("secret"), "{refused}");
        }
        assert_eq!(addresses(&[]), Err(OpenJetStreamError::NoServer));
    }
}
