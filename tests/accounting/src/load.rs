//! The client: calls that do not wait for each other's answers, each with an id of its own.
//!
//! Writes what it sends and what it is told. Sends nothing twice: what is tried again is a connection
//! that was not made, or a request that provably never left. Ends when its time is over or its
//! standard input ends, once every call has been answered or given up.

use std::io::{ErrorKind, Read};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use pilotlight_accounting::record::{Outcome, Record, now};
use serde_json::Value;
use socket2::{Socket, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::file::Journal;

/// For a connection, with the gateways that there are; a lost one says nothing.
const CONNECT: Duration = Duration::from_secs(2);
/// Until one is made: a lost node's gateway is taken off the Service after 16 s.
const RECONNECT: Duration = Duration::from_secs(45);
const PAUSE: Duration = Duration::from_millis(50);
/// A machine that acknowledges nothing for so long is lost.
const SILENCE: Duration = Duration::from_secs(10);
const PROBE: Duration = Duration::from_secs(5);
/// Longer than any call may take: then it counts as lost.
const ANSWER: Duration = Duration::from_secs(90);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Of the gateways' Service, HOST:PORT; looked up once.
    endpoint: String,
    /// NAME=RATE: calls a second, at random moments. NAME=SIZExSECONDS: so many at once, with so
    /// many seconds between on average.
    #[arg(long = "function", value_name = "NAME=LOAD", required = true)]
    functions: Vec<Share>,
    /// Begins the ids of its calls.
    #[arg(long)]
    name: String,
    /// Where handlers write, HOST:PORT (`pilotlight-accounting journal`).
    #[arg(long)]
    journal: String,
    /// What it writes itself.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Milliseconds that a handler works.
    #[arg(long, default_value_t = 10)]
    work: u64,
    /// Seconds; less if standard input ends before.
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// Which calls come when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Share {
    function: String,
    /// Calls at once.
    size: u32,
    /// Such bursts a second.
    rate: f64,
}

impl FromStr for Share {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (function, load) = text.split_once('=').context("NAME=LOAD")?;
        let (size, rate) = match load.split_once('x') {
            Some((size, seconds)) => (size.parse()?, 1.0 / seconds.parse::<f64>()?),
            None => (1, load.parse()?),
        };
        ensure!(
            size > 0 && rate > 0.0 && f64::is_finite(rate),
            "{load} is no load"
        );
        Ok(Share {
            function: function.to_owned(),
            size,
            rate,
        })
    }
}

struct Client {
    args: Args,
    address: SocketAddr,
    journal: Journal,
    made: AtomicU64,
    /// The last used first.
    idle: Mutex<Vec<Connection>>,
}

pub(crate) async fn run(args: Args) -> Result<()> {
    let journal = Journal::open(&args.output)?;
    let found = tokio::net::lookup_host(&args.endpoint).await;
    let found = found.with_context(|| format!("{}: no such host", args.endpoint))?;
    let address = found.last().context("a host has an address")?;
    let client = Arc::new(Client {
        args,
        address,
        journal,
        made: AtomicU64::new(0),
        idle: Mutex::default(),
    });
    let stop = CancellationToken::new();
    let (stopped, seconds) = (stop.clone(), Duration::from_secs(client.args.seconds));
    std::thread::spawn({
        let stop = stop.clone();
        move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            stop.cancel();
        }
    });
    tokio::spawn(async move {
        tokio::time::sleep(seconds).await;
        stopped.cancel();
    });
    let mut arrivals = JoinSet::new();
    for (place, share) in client.args.functions.clone().into_iter().enumerate() {
        let random = fastrand::Rng::with_seed(client.args.seed.wrapping_add(place as u64));
        arrivals.spawn(arrive(client.clone(), share, random, stop.clone()));
    }
    while let Some(ended) = arrivals.join_next().await {
        ended??;
    }
    Ok(())
}

/// The calls of one function, to the last answer.
async fn arrive(
    client: Arc<Client>,
    share: Share,
    mut random: fastrand::Rng,
    stop: CancellationToken,
) -> Result<()> {
    let (mut due, mut calls) = (Instant::now(), JoinSet::new());
    loop {
        due += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / share.rate);
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep_until(due) => {}
        }
        for _ in 0..share.size {
            calls.spawn(client.clone().account(share.function.clone()));
        }
        while let Some(ended) = calls.try_join_next() {
            ended??;
        }
    }
    while let Some(ended) = calls.join_next().await {
        ended??;
    }
    Ok(())
}

impl Client {
    /// One call, from its record to its outcome's.
    async fn account(self: Arc<Self>, function: String) -> Result<()> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-{number}", self.args.name);
        self.journal.write(&Record::Sent {
            at: now(),
            id: id.clone(),
            function: function.clone(),
        })?;
        let answered = tokio::time::timeout(ANSWER, self.call(&id, &function)).await;
        // Without a record it was never answered.
        if let Ok(outcome) = answered {
            let at = now();
            self.journal.write(&Record::Answered { at, id, outcome })?;
        }
        Ok(())
    }

    async fn call(&self, id: &str, function: &str) -> Outcome {
        let event = serde_json::json!({
            "id": id,
            "journal": self.args.journal,
            "seconds": self.args.work as f64 / 1000.0,
        });
        let mut request = Request::new(Full::new(Bytes::from(event.to_string())));
        *request.method_mut() = Method::POST;
        let path = format!("/2015-03-31/functions/{function}/invocations");
        *request.uri_mut() = path.parse().expect("a name is part of a path");
        let host = self.args.endpoint.parse().expect("it is an address");
        request.headers_mut().insert(HOST, host);
        let json = "application/json".parse().expect("constant");
        request.headers_mut().insert(CONTENT_TYPE, json);
        match self.send(request).await {
            Ok((status, headers, body)) => told(status, &headers, &body),
            Err(NotSent::Never(error)) => Outcome::NotSent {
                message: format!("{error:#}"),
            },
            Err(NotSent::Broken(error)) => Outcome::Broken {
                message: format!("{error:#}"),
            },
        }
    }

    async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, HeaderMap, Bytes), NotSent> {
        loop {
            let mut connection = self.connection().await.map_err(NotSent::Never)?;
            let sender = &mut connection.sender;
            if sender.ready().await.is_err() {
                continue;
            }
            let response = match sender.try_send_request(request).await {
                Ok(response) => response,
                Err(mut error) => match error.take_message() {
                    Some(unsent) => {
                        request = unsent;
                        continue;
                    }
                    None => return Err(NotSent::Broken(error.into_error().into())),
                },
            };
            let (parts, body) = response.into_parts();
            let body = body.collect().await;
            let body = body
                .map_err(|error| NotSent::Broken(error.into()))?
                .to_bytes();
            self.idle
                .lock()
                .expect("no panic holds it")
                .push(connection);
            return Ok((parts.status, parts.headers, body));
        }
    }

    /// One that nobody uses, or a new one.
    async fn connection(&self) -> Result<Connection> {
        loop {
            let idle = self.idle.lock().expect("no panic holds it").pop();
            match idle {
                Some(connection) if connection.has_ended() => {}
                Some(connection) => return Ok(connection),
                None => break,
            }
        }
        let deadline = Instant::now() + RECONNECT;
        loop {
            match self.connect().await {
                Ok(connection) => return Ok(connection),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn connect(&self) -> Result<Connection> {
        let stream = tokio::time::timeout(CONNECT, TcpStream::connect(self.address)).await??;
        stream.set_nodelay(true)?;
        let socket = Socket::from(stream.as_fd().try_clone_to_owned()?);
        let probes = TcpKeepalive::new().with_time(PROBE).with_interval(PROBE);
        socket.set_tcp_keepalive(&probes)?;
        socket.set_tcp_user_timeout(Some(SILENCE))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Connection { sender, socket })
    }
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// The same socket, to look at.
    socket: Socket,
}

impl Connection {
    /// The other end has closed it, though that may not be read yet: as urllib3 looks before it uses
    /// a connection again.
    fn has_ended(&self) -> bool {
        let waits = self.socket.peek(&mut [MaybeUninit::uninit()]);
        self.sender.is_closed() || !waits.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

enum NotSent {
    Never(anyhow::Error),
    Broken(anyhow::Error),
}

/// What an answer says became of the call.
fn told(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Outcome {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let word = |name: &str| {
        json.get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    if status != StatusCode::OK {
        return Outcome::Error {
            kind: text("x-amzn-errortype").unwrap_or("untyped").to_owned(),
            message: word("message") + &word("Message"),
        };
    }
    if text("x-amz-function-error").is_some() {
        return Outcome::FunctionError {
            kind: word("errorType"),
            message: word("errorMessage"),
        };
    }
    let answer = json.as_str().map(str::to_owned);
    Outcome::Success {
        answer: answer.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned()),
    }
}
