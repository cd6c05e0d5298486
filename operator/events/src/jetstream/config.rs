//! What a queue in JetStream needs to know: where the servers are, what they may keep, and how long they may take.

use std::time::Duration;

use pilotlight_core::events::retry::EventTime;

use super::credentials::NatsCredentials;
use super::names::NamePrefix;

/// For how long the server takes an event for taken after the last sign of whoever has it.
pub const ACK_WAIT: Duration = Duration::from_secs(30);
/// How long a request to the server may take.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Clone, Debug)]
pub struct JetStreamConfig {
    /// `nats://HOST:PORT` or `tls://HOST:PORT`: servers of one cluster.
    pub servers: Vec<String>,
    pub credentials: Option<NatsCredentials>,
    pub prefix: NamePrefix,
    /// On how many servers each event is kept.
    pub replicas: usize,
    /// What the events of one namespace may take.
    pub bytes: u64,
    pub timing: JetStreamTiming,
    pub clock: fn() -> EventTime,
}

#[derive(Clone, Copy, Debug)]
pub struct JetStreamTiming {
    /// See [`ACK_WAIT`].
    pub ack_wait: Duration,
    /// See [`REQUEST_LIMIT`].
    pub request: Duration,
}

impl Default for JetStreamTiming {
    fn default() -> Self {
        JetStreamTiming {
            ack_wait: ACK_WAIT,
            request: REQUEST_LIMIT,
        }
    }
}
