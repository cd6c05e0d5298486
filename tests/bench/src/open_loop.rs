//! A load that does not wait for its answers: calls arrive as those of many clients do, at random.
//!
//! The times between arrivals are exponential (a Poisson process). A call's time runs from the
//! moment when it was due, so that a server that falls behind is not spared. For
//! tests/bench/pool.py, which reads what is printed.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::load::{Call, Connection, no_times};

/// For the last answers.
const REST: Duration = Duration::from_secs(15);
/// Which calls come when is the same in each run.
const SEED: u64 = 7;
/// A lease names its invocation by this header, each by another value.
const REQUEST_ID: HeaderName = HeaderName::from_static("pilotlight-request-id");

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    address: SocketAddr,
    path: Uri,
    /// Calls a second.
    #[arg(long)]
    rate: f64,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    #[arg(long, default_value_t = 100)]
    bytes: usize,
    /// Calls an instance's supervisor itself, as an invocation of the function with this ARN.
    #[arg(long, value_name = "ARN")]
    lease: Option<HeaderValue>,
}

/// Connections that nobody uses at the moment; the last used first.
type Idle = Arc<Mutex<VecDeque<Connection>>>;

pub(crate) async fn run(args: Args) -> Result<()> {
    ensure!(args.rate > 0.0, "--rate must be above 0, got {}", args.rate);
    let payload = crate::stage::payload(args.bytes);
    let call = Arc::new(Call {
        address: args.address,
        path: args.path,
        answer: payload.clone(),
        payload,
    });
    let idle = Idle::default();
    let (mut times, mut failed, mut made) = (no_times()?, 0_u64, 0_u64);
    let begin = Instant::now();
    let warm_up = begin + Duration::from_secs(1);
    let end = warm_up + Duration::from_secs(args.seconds);
    let mut arrivals = arrivals(begin, end, args.rate);
    let mut calls = JoinSet::new();
    while let Some(due) = arrivals.recv().await {
        made += 1;
        let headers = headers(args.lease.as_ref(), made)?;
        calls.spawn(one(due, call.clone(), idle.clone(), headers));
    }
    let joined = async {
        while let Some(ended) = calls.join_next().await {
            match ended? {
                Ok((due, took)) if due >= warm_up => {
                    times.saturating_record(u64::try_from(took.as_nanos())?);
                }
                Ok(_) => {}
                Err(_) => failed += 1,
            }
        }
        anyhow::Ok(())
    };
    let joined = tokio::time::timeout(REST, joined).await;
    joined.with_context(|| format!("{} does not answer", args.address))??;
    let milliseconds = |share| times.value_at_quantile(share) as f64 / 1e6;
    let told = serde_json::json!({
        "calls": times.len(),
        "failed": failed,
        "p50": milliseconds(0.5),
        "p99": milliseconds(0.99),
        "p99.9": milliseconds(0.999),
    });
    anstream::println!("{told}");
    Ok(())
}

/// The moments when calls are due, each told at that moment. By a thread of its own: the timers of the
/// runtime count milliseconds.
fn arrivals(begin: Instant, end: Instant, rate: f64) -> mpsc::UnboundedReceiver<Instant> {
    let (tell, told) = mpsc::unbounded_channel();
    let mut random = fastrand::Rng::with_seed(SEED);
    std::thread::spawn(move || {
        let mut due = begin;
        loop {
            due += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if due >= end || tell.send(due).is_err() {
                break;
            }
        }
    });
    told
}

fn headers(lease: Option<&HeaderValue>, number: u64) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    if let Some(arn) = lease {
        headers.insert("lambda-runtime-invoked-function-arn", arn.clone());
        let id = format!("00000000-0000-4000-8000-{number:012x}");
        headers.insert(REQUEST_ID, HeaderValue::try_from(id)?);
    }
    Ok(headers)
}

/// A call on whatever connection is free, and when it was due.
async fn one(
    due: Instant,
    call: Arc<Call>,
    idle: Idle,
    headers: HeaderMap,
) -> Result<(Instant, Duration)> {
    let free = idle.lock().await.pop_back();
    let mut connection = match free {
        Some(connection) => connection,
        None => Connection::open(call.address).await?,
    };
    connection.call(&call, &headers).await?;
    idle.lock().await.push_back(connection);
    Ok((due, due.elapsed()))
}
