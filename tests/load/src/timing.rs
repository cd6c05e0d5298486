//! Timed calls: a load against one path, and how long each call took.
//!
//! A call's time runs from the moment when it was due until the whole answer has arrived, so it includes the
//! delay of a server that falls behind an open loop. Each answer is compared with the expected one. The
//! benchmarks of tests/bench use the functions in Rust, and the command `time` in Python.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{StatusCode, Uri};
use tokio_util::sync::CancellationToken;

use crate::arrivals::{self, Load};
use crate::connection::ConnectionPool;
use crate::invocation;

/// The longest time that a histogram can hold, in nanoseconds.
const SLOWEST: u64 = 60_000_000_000;
/// The timeout of a single call, and of the last answers after a load.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
const RETRY_LIMIT: Duration = Duration::from_secs(2);
/// A fixed seed, so that the calls of an open loop come at the same moments in each run.
const SEED: u64 = 7;
/// A supervisor accepts each request id only once.
const REQUEST_ID: HeaderName = HeaderName::from_static("pilotlight-request-id");

/// Nanoseconds per call, to three digits.
pub type Times = Histogram<u64>;

pub fn no_times() -> Result<Times> {
    Histogram::new_with_bounds(1, SLOWEST, 3).context("a histogram")
}

/// A request, its address, and the expected answer.
#[derive(Clone, Debug)]
pub struct Call {
    pub address: SocketAddr,
    pub path: Uri,
    pub payload: Bytes,
    pub answer: Bytes,
    /// The function's ARN if the address is that of an instance, which takes leases.
    pub lease: Option<HeaderValue>,
    /// Further headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body is compared only if this is 200.
    pub status: StatusCode,
}

/// The results of the calls that were due within the measured time.
#[derive(Debug)]
pub struct Measured {
    /// The times of the calls with the expected answer.
    pub times: Times,
    pub failed: u64,
    pub first_failure: Option<String>,
}

impl Measured {
    /// The times of a load in which every call must succeed.
    pub fn all_answered(self) -> Result<Times> {
        match self.first_failure {
            None => Ok(self.times),
            Some(failure) => anyhow::bail!("{} calls failed, the first: {failure}", self.failed),
        }
    }
}

/// Makes one call. Its time does not include the connect.
pub async fn one(call: &Call) -> Result<Duration> {
    let client = Client::connect(call, 1).await?;
    let called = tokio::time::timeout(ANSWER_LIMIT, client.call(Instant::now(), 0)).await;
    called.with_context(|| format!("{} does not answer", call.address))?
}

/// Runs a load during the warm-up, whose calls are not counted, and during the measured time.
pub async fn measure(
    call: &Call,
    load: Load,
    warm_up: Duration,
    measured: Duration,
) -> Result<Measured> {
    let connections = match load {
        Load::Closed { connections } => connections,
        // An open loop connects when it needs a connection.
        _ => 0,
    };
    let client = Arc::new(Client::connect(call, connections).await?);
    let begin = Instant::now() + warm_up;
    let found = Arc::new(Mutex::new(Found {
        due: begin..begin + measured,
        made: 0,
        measured: Measured {
            times: no_times()?,
            failed: 0,
            first_failure: None,
        },
    }));
    let stop = CancellationToken::new();
    let calls = arrivals::drive(load, SEED, stop.clone(), {
        let found = found.clone();
        move |due| {
            let (client, found) = (client.clone(), found.clone());
            async move {
                let number = lock(&found).number();
                let took = client.call(due, number).await;
                lock(&found).add(due, took);
                Ok(())
            }
        }
    });
    let timed = async {
        tokio::time::sleep(warm_up + measured).await;
        stop.cancel();
        // The last answers have this further time.
        tokio::time::sleep(ANSWER_LIMIT).await;
    };
    tokio::select! {
        ended = calls => ended?,
        () = timed => anyhow::bail!("{} does not answer", call.address),
    }
    let found = Arc::into_inner(found).context("a call is still running")?;
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let Measured {
        times,
        first_failure,
        ..
    } = &found.measured;
    ensure!(
        !times.is_empty(),
        "{} answered no call within {measured:?}: {}",
        call.address,
        first_failure.as_deref().unwrap_or("none was due")
    );
    Ok(found.measured)
}

/// The state that the calls of a load share. Its lock is never held across an await.
struct Found {
    due: std::ops::Range<Instant>,
    made: u64,
    measured: Measured,
}

fn lock(found: &Mutex<Found>) -> std::sync::MutexGuard<'_, Found> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Found {
    fn number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    fn add(&mut self, due: Instant, took: Result<Duration>) {
        let measured = &mut self.measured;
        match took {
            Ok(took) if self.due.contains(&due) => {
                let took = u64::try_from(took.as_nanos()).unwrap_or(SLOWEST);
                measured.times.saturating_record(took);
            }
            Ok(_) => {}
            Err(error) => {
                measured.failed += 1;
                let first = &mut measured.first_failure;
                first.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }
}

struct Client {
    call: Call,
    pool: ConnectionPool,
}

impl Client {
    async fn connect(call: &Call, connections: usize) -> Result<Self> {
        let pool = ConnectionPool::new(call.address, &call.address.to_string(), RETRY_LIMIT)?;
        pool.open(connections).await?;
        let call = call.clone();
        Ok(Client { call, pool })
    }

    /// From `due` until the whole answer is there.
    async fn call(&self, due: Instant, number: u64) -> Result<Duration> {
        let Call {
            address,
            path,
            payload,
            answer: expected,
            lease,
            headers: further,
            status: wanted,
        } = &self.call;
        let mut headers = HeaderMap::from_iter(further.iter().cloned());
        if let Some(arn) = lease {
            headers.insert("lambda-runtime-invoked-function-arn", arn.clone());
            let id = format!("00000000-0000-4000-8000-{number:012x}");
            headers.insert(REQUEST_ID, HeaderValue::try_from(id)?);
        }
        let answer = self.pool.post(path, headers, payload.clone()).await?;
        let took = due.elapsed();
        let (status, body) = (answer.status(), answer.body());
        let shown = || String::from_utf8_lossy(&body[..body.len().min(300)]);
        ensure!(
            status == *wanted,
            "{path} of {address} answered {status}: {}",
            shown()
        );
        ensure!(
            body == expected || status != StatusCode::OK,
            "{path} of {address} answered with a body that is not the expected one: {}",
            shown()
        );
        Ok(took)
    }
}

#[derive(Debug, clap::Args)]
pub struct Args {
    address: SocketAddr,
    /// The path of a function
    path: Uri,
    /// RATE, SIZExSECONDS, steady:RATE or closed:CONNECTIONS
    load: Load,
    /// Seconds that are measured, after one second of warm-up
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Size of the event
    #[arg(long, default_value_t = 100)]
    bytes: usize,
    /// The event, instead of one of that size
    #[arg(long, value_name = "JSON", conflicts_with = "bytes")]
    event: Option<String>,
    /// The answer that the function must give [default: its event]
    #[arg(long, value_name = "TEXT")]
    answer: Option<String>,
    /// Calls an instance's supervisor, as an invocation of the function with this ARN
    #[arg(long, value_name = "ARN")]
    lease: Option<HeaderValue>,
    /// A further header, `NAME: VALUE`; may be given several times
    #[arg(long = "header", value_name = "HEADER", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The status of a good answer
    #[arg(long, default_value = "200")]
    status: StatusCode,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':').context("must be NAME: VALUE")?;
    Ok((name.trim().parse()?, value.trim().parse()?))
}

/// Prints one JSON object: calls, failed, calls a second, and milliseconds by quantile.
pub async fn run(args: Args) -> Result<()> {
    let payload = args
        .event
        .map_or_else(|| invocation::payload(args.bytes), Bytes::from);
    let call = Call {
        address: args.address,
        path: args.path,
        answer: args.answer.map_or_else(|| payload.clone(), Bytes::from),
        payload,
        lease: args.lease,
        headers: args.headers,
        status: args.status,
    };
    let time = Duration::from_secs(args.seconds);
    let Measured {
        times,
        failed,
        first_failure,
    } = measure(&call, args.load, Duration::from_secs(1), time).await?;
    if let Some(failure) = first_failure {
        anstream::eprintln!("{failed} calls failed, the first: {failure}");
    }
    let milliseconds = |quantile| times.value_at_quantile(quantile) as f64 / 1e6;
    let figures = serde_json::json!({
        "calls": times.len(),
        "failed": failed,
        "rate": times.len() as f64 / time.as_secs_f64(),
        "p50": milliseconds(0.5),
        "p90": milliseconds(0.9),
        "p99": milliseconds(0.99),
        "p99.9": milliseconds(0.999),
    });
    anstream::println!("{figures}");
    Ok(())
}
