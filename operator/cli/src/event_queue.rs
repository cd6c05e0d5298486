//! The options of a gateway about the queue of events.
//!
//! Owns the arguments. A gateway starts and serves calls whether the servers are there or not; asynchronous calls are refused
//! while they are away. The queue itself is `pilotlight_events::jetstream`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use pilotlight_events::jetstream::{
    JetStreamConfig, JetStreamQueue, JetStreamTiming, NamePrefix, NatsCredentials,
};
use pilotlight_gateway::{Config, EventsConfig, time_of_day};

use crate::memory;

#[derive(Debug, clap::Args)]
pub(crate) struct EventQueueOptions {
    /// The NATS servers with JetStream that keep the events of asynchronous calls: nats://HOST:PORT or tls://HOST:PORT, those of
    /// one cluster [default: there are none, and asynchronous calls are refused].
    #[arg(
        long = "event-queue",
        env = "PILOTLIGHT_EVENT_QUEUE",
        value_name = "URL",
        value_delimiter = ','
    )]
    servers: Vec<String>,
    /// A directory with what they want to be shown, as files of a Secret: `username` and `password`, `token`, or `user.creds`;
    /// and `ca.crt` with the authorities of their certificates. It is read for each connection.
    #[arg(
        long = "event-queue-credentials",
        env = "PILOTLIGHT_EVENT_QUEUE_CREDENTIALS",
        value_name = "DIRECTORY"
    )]
    credentials: Option<PathBuf>,
    /// What the names of streams and subjects begin with. Releases that share servers need different ones.
    #[arg(
        long = "event-queue-prefix",
        env = "PILOTLIGHT_EVENT_QUEUE_PREFIX",
        default_value = "pilotlight",
        value_name = "NAME"
    )]
    prefix: NamePrefix,
    /// On how many servers each event is kept.
    #[arg(
        long = "event-queue-replicas",
        env = "PILOTLIGHT_EVENT_QUEUE_REPLICAS",
        default_value_t = 1,
        value_parser = clap::value_parser!(u8).range(1..=5),
        value_name = "NUMBER"
    )]
    replicas: u8,
    /// What the events that wait may take, in bytes or with the suffix Ki, Mi, Gi or Ti. Further ones are refused.
    #[arg(
        long = "event-queue-size",
        env = "PILOTLIGHT_EVENT_QUEUE_SIZE",
        default_value = "1Gi",
        value_parser = memory::bytes,
        value_name = "BYTES"
    )]
    size: u64,
}

impl EventQueueOptions {
    /// It must be called in a tokio runtime.
    pub(crate) fn open_into(self, config: &mut Config) -> Result<()> {
        if self.servers.is_empty() {
            tracing::warn!(
                "there is no event queue (--event-queue): asynchronous calls are refused, and schedules send nothing"
            );
            return Ok(());
        }
        let queue = JetStreamQueue::open(JetStreamConfig {
            servers: self.servers,
            credentials: self.credentials.map(NatsCredentials),
            prefix: self.prefix,
            replicas: self.replicas.into(),
            bytes: self.size,
            timing: JetStreamTiming::default(),
            clock: time_of_day,
        });
        let queue = Arc::new(queue.context("--event-queue")?);
        config.schedules = Some(queue.clone());
        config.events = Some(EventsConfig {
            queue,
            clock: time_of_day,
        });
        Ok(())
    }
}
