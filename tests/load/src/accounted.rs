//! The load with an account: each invocation has an id and is recorded when it is sent and when it is answered.
//!
//! `arrivals` determines the times and `connection` sends. When the time is over or the standard input ends,
//! the load sends no further calls and waits until every call is answered or given up. When the journal is
//! gone it ends at once: without the handlers' records, every call would look lost by the platform.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use hyper::HeaderMap;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::arrivals::{self, FunctionLoad};
use crate::connection::{ConnectionPool, SendError};
use crate::invocation;
use crate::journal::{HANDLER_ERROR, JournalGone, Watch};
use crate::record::{CallOutcome, Record, now};
use crate::records::RecordFile;

/// A lost node's gateway leaves the Service's endpoints after 16 s.
const RETRY_LIMIT: Duration = Duration::from_secs(45);
/// Longer than any call may take. A call without an answer after this time is lost.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// HOST:PORT of the gateways' Service; its name is resolved once
    endpoint: String,
    /// A function and how its calls arrive: RATE (calls a second at random moments), SIZExSECONDS (bursts
    /// of SIZE calls with SECONDS between them on average), steady:RATE or closed:CONNECTIONS
    #[arg(
        long = "function",
        value_name = "NAME=LOAD",
        required_unless_present = "events"
    )]
    functions: Vec<FunctionLoad>,
    /// A function that is called asynchronously, and how its events arrive
    #[arg(long = "event", value_name = "NAME=LOAD")]
    events: Vec<FunctionLoad>,
    /// `async.retries` of the functions that are called asynchronously
    #[arg(long, default_value_t = 0)]
    retries: usize,
    /// The prefix of its calls' ids
    #[arg(long)]
    name: String,
    /// HOST:PORT of the handlers' journal (`pilotlight-load journal`)
    #[arg(long)]
    journal: String,
    /// The file that records are appended to
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Milliseconds that a handler works
    #[arg(long, default_value_t = 10)]
    work: u64,
    /// Seconds until it ends, if its standard input does not end before
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// Seed of the random moments
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

struct Client {
    pool: ConnectionPool,
    name: String,
    journal: String,
    /// Seconds that a handler works.
    work: f64,
    records: RecordFile,
    sent: AtomicU64,
}

pub async fn run(args: Args) -> Result<()> {
    let resolved = tokio::net::lookup_host(&args.endpoint).await;
    let resolved = resolved.with_context(|| format!("{}: no such host", args.endpoint))?;
    let address = resolved.last().context("a host has an address")?;
    let client = Arc::new(Client {
        pool: ConnectionPool::new(address, &args.endpoint, RETRY_LIMIT)?,
        name: args.name,
        journal: args.journal,
        work: args.work as f64 / 1000.0,
        records: RecordFile::open(&args.output)?,
        sent: AtomicU64::new(0),
    });
    for FunctionLoad { function, .. } in &args.events {
        client.records.write(&Record::Events {
            at: now(),
            function: function.clone(),
            attempts: 1 + args.retries,
        })?;
    }
    let calls = args.functions.into_iter().map(|load| (load, false));
    let events = args.events.into_iter().map(|load| (load, true));
    let loads = calls.chain(events).collect();
    let stop = CancellationToken::new();
    stop_with_standard_input(stop.clone());
    let timer = stop_after(Duration::from_secs(args.seconds), stop.clone());
    let calls = call_functions(client.clone(), loads, args.seed, stop);
    let ended = tokio::select! {
        ended = calls => ended,
        gone = journal_gone(&client.journal) => Err(gone.into()),
    };
    timer.abort();
    if let Err(error) = &ended {
        client.records.write(&Record::Aborted {
            at: now(),
            reason: format!("{error:#}"),
        })?;
    }
    ended
}

fn stop_with_standard_input(stop: CancellationToken) {
    std::thread::spawn(move || {
        // An error also ends the load, because the process at the other end is gone.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stop.cancel();
    });
}

fn stop_after(time: Duration, stop: CancellationToken) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        stop.cancel();
    })
}

async fn journal_gone(address: &str) -> JournalGone {
    match Watch::connect(address).await {
        Ok(watch) => watch.gone().await,
        Err(gone) => gone,
    }
}

/// Sends the calls of all functions, each of which is asynchronous or not. Returns after the last answer or the first error of
/// the harness.
async fn call_functions(
    client: Arc<Client>,
    functions: Vec<(FunctionLoad, bool)>,
    seed: u64,
    stop: CancellationToken,
) -> Result<()> {
    let mut loads = JoinSet::new();
    for (seed, (FunctionLoad { function, load }, is_event)) in (seed..).zip(functions) {
        let (client, function) = (client.clone(), Arc::new(Function::new(function, is_event)?));
        let call = move |_| client.clone().account(function.clone());
        loads.spawn(arrivals::drive(load, seed, stop.clone(), call));
    }
    while let Some(ended) = loads.join_next().await {
        ended??;
    }
    Ok(())
}

struct Function {
    name: String,
    path: hyper::Uri,
    is_event: bool,
}

/// What the client of a call knows at its end.
enum CallEnd {
    Outcome(CallOutcome),
    /// The event was accepted with this request id.
    Accepted(String),
}

impl Function {
    fn new(name: String, is_event: bool) -> Result<Self> {
        let path = invocation::path(&name)?;
        Ok(Function {
            name,
            path,
            is_event,
        })
    }
}

impl Client {
    /// Makes one call, and records that it is sent and what its outcome is.
    async fn account(self: Arc<Self>, function: Arc<Function>) -> Result<()> {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-{number}", self.name);
        self.records.write(&Record::Sent {
            at: now(),
            id: id.clone(),
            function: function.name.clone(),
        })?;
        let answered = tokio::time::timeout(ANSWER_LIMIT, self.call(&id, &function)).await;
        // A call without an answer gets no second record: the account counts it as lost.
        let Ok(told) = answered else { return Ok(()) };
        let outcome = match told {
            CallEnd::Outcome(outcome) => outcome,
            CallEnd::Accepted(request) => {
                let at = now();
                return Ok(self.records.write(&Record::Accepted { at, id, request })?);
            }
        };
        self.records.write(&Record::Answered {
            at: now(),
            id,
            outcome: outcome.clone(),
        })?;
        match outcome {
            CallOutcome::FunctionError { kind, message } if kind == HANDLER_ERROR => {
                Err(JournalGone {
                    address: self.journal.clone(),
                    reason: format!("a handler reports {message}"),
                })?
            }
            _ => Ok(()),
        }
    }

    async fn call(&self, id: &str, function: &Function) -> CallEnd {
        let mut event = serde_json::json!({
            "id": id,
            "journal": self.journal,
            "seconds": self.work,
        });
        let mut headers = HeaderMap::new();
        if function.is_event {
            event["asynchronous"] = true.into();
            headers = invocation::asynchronous();
        }
        let event = Bytes::from(event.to_string());
        let answer = self.pool.post(&function.path, headers, event).await;
        if let Ok(answer) = &answer
            && function.is_event
            && let Some(request) = invocation::accepted(answer)
        {
            return CallEnd::Accepted(request);
        }
        CallEnd::Outcome(match answer {
            Ok(answer) => invocation::outcome(&answer),
            Err(SendError::NotSent(error)) => CallOutcome::NotSent {
                message: format!("{error:#}"),
            },
            Err(SendError::Broken(error)) => CallOutcome::Broken {
                message: format!("{error:#}"),
            },
        })
    }
}
