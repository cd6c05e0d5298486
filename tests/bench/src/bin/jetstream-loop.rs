//! The least that a queue in JetStream can do: publishes messages and pulls them, and measures both.
//!
//! One stream and one consumer like those of the event queue, without anything else of Pilotlight. Prints a line of JSON: how many
//! messages the server acknowledged in a second, and the milliseconds from the acknowledgement to the receipt, by quantile.
//! `tests/bench/events.py` runs it beside Pilotlight, with the same server.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, stream::Stream};
use bytes::Bytes;
use clap::Parser;
use futures_util::StreamExt;
use pilotlight_load::arrivals::{self, Load};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const SUBJECT: &str = "bench";
/// As for the gateways' own stream.
const BYTES: i64 = 64 * 1024 * 1024;
/// The last messages have this time after the load.
const LAST: Duration = Duration::from_secs(15);

/// Publishes messages to a JetStream server and pulls them.
#[derive(Debug, Parser)]
struct Args {
    /// nats://HOST:PORT
    url: String,
    /// steady:RATE, or closed:N for N messages at once
    load: Load,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Size of a message
    #[arg(long, default_value_t = 700)]
    bytes: usize,
    #[arg(long, requires = "password")]
    user: Option<String>,
    #[arg(long, env = "NATS_PASSWORD", hide_env_values = true)]
    password: Option<String>,
}

/// What happened to a message.
enum Seen {
    Acknowledged(u64, Instant),
    Received(u64, Instant),
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let options = match (args.user.clone(), args.password.clone()) {
        (Some(user), Some(password)) => {
            async_nats::ConnectOptions::new().user_and_password(user, password)
        }
        _ => async_nats::ConnectOptions::new(),
    };
    let connected = options.connect(&args.url).await;
    let context = jetstream::new(connected.with_context(|| args.url.clone())?);
    // What an earlier run has left.
    let _ = context.delete_stream(SUBJECT).await;
    let stream = context
        .create_stream(Config {
            name: SUBJECT.to_owned(),
            subjects: vec![SUBJECT.to_owned()],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            discard: DiscardPolicy::New,
            max_bytes: BYTES,
            ..Config::default()
        })
        .await?;
    let measured = run(&args, context.clone(), &stream).await;
    context.delete_stream(SUBJECT).await?;
    anstream::println!("{}", measured?);
    Ok(())
}

async fn run(args: &Args, context: jetstream::Context, stream: &Stream) -> Result<String> {
    let (seen, happened) = mpsc::unbounded_channel();
    let pulling = tokio::spawn(pull_all(consumer(stream).await?, seen.clone()));
    let stop = CancellationToken::new();
    let (number, filler) = (
        Arc::new(AtomicU64::new(0)),
        Bytes::from(vec![b'x'; args.bytes]),
    );
    let timer = stop.clone();
    let seconds = Duration::from_secs(args.seconds);
    tokio::spawn(async move {
        tokio::time::sleep(seconds).await;
        timer.cancel();
    });
    let published = arrivals::drive(args.load, 1, stop, move |_| {
        let (context, seen, number) = (context.clone(), seen.clone(), number.clone());
        let filler = filler.clone();
        async move {
            let number = number.fetch_add(1, Ordering::Relaxed);
            let mut payload = number.to_be_bytes().to_vec();
            payload.extend_from_slice(&filler);
            context.publish(SUBJECT, payload.into()).await?.await?;
            // The receiver ends with this run.
            let _ = seen.send(Seen::Acknowledged(number, Instant::now()));
            Ok(())
        }
    });
    published.await?;
    let measured = tokio::time::timeout(LAST, all_received(happened)).await;
    pulling.abort();
    let mut waits = measured.context("not all messages were received")??;
    waits.sort_unstable();
    ensure!(!waits.is_empty(), "no message was published");
    let milliseconds = |share: f64| {
        let place = (waits.len() as f64 * share) as usize;
        waits[place.min(waits.len() - 1)].as_secs_f64() * 1e3
    };
    let figures = json!({
        "accepted": waits.len(),
        "rate": waits.len() as f64 / args.seconds as f64,
        "p50": milliseconds(0.5),
        "p90": milliseconds(0.9),
        "p99": milliseconds(0.99),
    });
    Ok(figures.to_string())
}

async fn consumer(stream: &Stream) -> Result<jetstream::consumer::Consumer<pull::Config>> {
    let config = pull::Config {
        durable_name: Some(SUBJECT.to_owned()),
        ack_policy: AckPolicy::Explicit,
        ..pull::Config::default()
    };
    Ok(stream.create_consumer(config).await?)
}

async fn pull_all(
    consumer: jetstream::consumer::Consumer<pull::Config>,
    seen: mpsc::UnboundedSender<Seen>,
) -> Result<()> {
    let mut messages = consumer.messages().await?;
    while let Some(message) = messages.next().await {
        let (message, at) = (message?, Instant::now());
        let number = message
            .payload
            .first_chunk()
            .copied()
            .map(u64::from_be_bytes);
        message
            .ack()
            .await
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        let _ = seen.send(Seen::Received(number.context("a number")?, at));
    }
    Ok(())
}

/// From the acknowledgement of each message to its receipt, when nothing is published any more. A message may be received before
/// its publisher knows: that is 0.
async fn all_received(mut happened: mpsc::UnboundedReceiver<Seen>) -> Result<Vec<Duration>> {
    let (mut acknowledged, mut received) = (HashMap::new(), HashMap::new());
    while let Some(one) = happened.recv().await {
        match one {
            Seen::Acknowledged(number, at) => drop(acknowledged.insert(number, at)),
            Seen::Received(number, at) => drop(received.entry(number).or_insert(at)),
        }
        if happened.is_empty() && acknowledged.len() == received.len() {
            break;
        }
    }
    let waits = acknowledged.iter().map(|(number, at)| {
        let received = received.get(number).context("a message was not received")?;
        Ok(received.saturating_duration_since(*at))
    });
    waits.collect()
}
