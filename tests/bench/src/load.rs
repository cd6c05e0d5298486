//! The client: calls in a closed loop over kept-alive connections, timed one by one.
//!
//! The same code calls everything that is measured. A call's time runs from the request's hand-over
//! to hyper until the whole body is there; each answer is compared with what it must be. `latency`
//! and `throughput` give it slices of time, `cold_start` single calls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};

/// The slowest call that a histogram holds, in nanoseconds.
const SLOWEST: u64 = 60_000_000_000;
/// Of a single call, or of what a slice may take over its time.
const CALL_LIMIT: Duration = Duration::from_secs(15);

/// Nanoseconds per call, to three digits.
pub(crate) type Times = Histogram<u64>;

pub(crate) fn no_times() -> Result<Times> {
    Histogram::new_with_bounds(1, SLOWEST, 3).context("a histogram")
}

/// What is sent, where, and what must come back.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) address: SocketAddr,
    pub(crate) path: Uri,
    pub(crate) payload: Bytes,
    pub(crate) answer: Bytes,
}

/// A kept-alive connection.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
    driver: JoinHandle<hyper::Result<()>>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| address.to_string())?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let host = HeaderValue::from_str(&address.to_string())?;
        Ok(Connection {
            sender,
            host,
            driver: tokio::spawn(connection),
        })
    }

    /// One call, with its limit: for those that are not in a slice.
    pub(crate) async fn call_once(&mut self, call: &Call) -> Result<Duration> {
        tokio::time::timeout(CALL_LIMIT, self.call(call, &HeaderMap::new()))
            .await
            .context("no answer in time")?
    }

    /// A call with some headers more, without a limit.
    pub(crate) async fn call(&mut self, call: &Call, more: &HeaderMap) -> Result<Duration> {
        let mut request = Request::new(Full::new(call.payload.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = call.path.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(more.clone());
        self.sender.ready().await?;
        let started = Instant::now();
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        let taken = started.elapsed();
        if head.status != StatusCode::OK || body != call.answer {
            let shown = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
            bail!(
                "{} of {} answered {}: {shown}",
                call.path,
                call.address,
                head.status
            );
        }
        Ok(taken)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Calls over `connections` for the warm-up and then `measured`; the times of the latter.
pub(crate) async fn slice(
    call: &Arc<Call>,
    connections: usize,
    warm_up: Duration,
    measured: Duration,
) -> Result<Times> {
    let mut opened = Vec::new();
    for _ in 0..connections {
        opened.push(Connection::open(call.address).await?);
    }
    let begin = Instant::now() + warm_up;
    let end = begin + measured;
    let mut workers = JoinSet::new();
    for connection in opened {
        workers.spawn(work(connection, call.clone(), begin, end));
    }
    let joined = async {
        let mut times = no_times()?;
        while let Some(worker) = workers.join_next().await {
            times.add(worker??)?;
        }
        anyhow::Ok(times)
    };
    let times = tokio::time::timeout(warm_up + measured + CALL_LIMIT, joined).await;
    let times = times.with_context(|| format!("{} does not answer", call.address))??;
    ensure!(
        !times.is_empty(),
        "{} answered no call within {measured:?}",
        call.address
    );
    Ok(times)
}

async fn work(
    mut connection: Connection,
    call: Arc<Call>,
    begin: Instant,
    end: Instant,
) -> Result<Times> {
    let (mut times, no_more) = (no_times()?, HeaderMap::new());
    loop {
        let now = Instant::now();
        if now >= end {
            return Ok(times);
        }
        let taken = connection.call(&call, &no_more).await?;
        if now >= begin {
            times.saturating_record(u64::try_from(taken.as_nanos()).unwrap_or(SLOWEST));
        }
    }
}

/// A load on its own.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    address: SocketAddr,
    #[arg(default_value = "rust-echo")]
    function: String,
    #[arg(long, default_value_t = 32)]
    connections: usize,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    #[arg(long, default_value_t = 100)]
    bytes: usize,
}

pub(crate) async fn run(args: Args) -> Result<()> {
    let payload = crate::stage::payload(args.bytes);
    let call = Call {
        address: args.address,
        path: crate::stage::invoke_path(&args.function)?,
        answer: payload.clone(),
        payload,
    };
    let measured = Duration::from_secs(args.seconds);
    let warm_up = Duration::from_secs(1);
    let times = slice(&Arc::new(call), args.connections, warm_up, measured).await?;
    let at = |quantile| Duration::from_nanos(times.value_at_quantile(quantile));
    anstream::println!(
        "{:.0} calls/s, p50 {:?}, p90 {:?}, p99 {:?}, p99.9 {:?}",
        times.len() as f64 / measured.as_secs_f64(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999)
    );
    Ok(())
}
