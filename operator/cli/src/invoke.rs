//! `pilotlight invoke`: one call, its answer on standard output.
//!
//! Speaks the Invoke API (contract §4) through `endpoint`. Writes the answer's bytes as they
//! are, but to a terminal (`terminal`). Everything else goes to standard error, so that a pipe gets only the answer.

use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::endpoint::{self, Endpoint};
use crate::exit::Exit;
use crate::terminal;

/// Call a function and print its answer.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 answered, 1 the function failed, 2 it was not called.")]
pub(crate) struct Args {
    /// Name or ARN of the function.
    name: String,
    /// The event, as JSON; `-` reads it from standard input. Without one the event is `{}`.
    #[arg(long, short, value_name = "JSON", conflicts_with = "payload_file")]
    payload: Option<String>,
    /// A file that holds the event.
    #[arg(long, value_name = "FILE")]
    payload_file: Option<PathBuf>,
    /// Show the last 4 KB of the function's log on standard error.
    #[arg(long)]
    tail: bool,
    /// JSON that the handler finds as its context's client context.
    #[arg(long, value_name = "JSON")]
    client_context: Option<String>,
    /// Do not wait for the answer: the event is stored, and the request id is printed.
    #[arg(long, conflicts_with = "tail")]
    event: bool,
    #[command(flatten)]
    endpoint: Endpoint,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let event = event(args)?;
    let path = format!(
        "/2015-03-31/functions/{}/invocations",
        endpoint::encode(&args.name)
    );
    let gateway = args.endpoint.open()?;
    let mut call = gateway
        .post(&path)?
        .header("content-type", "application/json");
    if args.tail {
        call = call.header("x-amz-log-type", "Tail");
    }
    if args.event {
        call = call.header("x-amz-invocation-type", "Event");
    }
    if let Some(context) = &args.client_context {
        call = call.header("x-amz-client-context", BASE64.encode(context));
    }
    let answer = call
        .send(&event[..])
        .map_err(|error| gateway.unanswered(error))?;
    if !answer.status().is_success() {
        return Err(endpoint::refusal(&args.name, answer)?);
    }

    let header = |name| {
        answer
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    if args.event {
        let request_id = header("x-amzn-requestid").unwrap_or_default();
        anstream::println!("{request_id}");
        return Ok(Exit::Success);
    }
    let failed = header("x-amz-function-error").map(str::to_owned);
    if let Some(log) = header("x-amz-log-result") {
        let log = BASE64
            .decode(log)
            .context("the answer's log is not base64")?;
        let mut err = io::stderr().lock();
        match err.is_terminal() {
            true => err.write_all(terminal::escaped_bytes(&log).as_bytes())?,
            false => err.write_all(&log)?,
        }
    }
    print(answer.into_body().into_reader()).context("the answer broke off")?;
    let Some(failed) = failed else {
        return Ok(Exit::Success);
    };
    let name = &args.name;
    anstream::eprintln!("error: {name} failed ({failed}); `pilotlight logs {name}` shows its log");
    Ok(Exit::Failure)
}

fn event(args: &Args) -> Result<Vec<u8>> {
    match (&args.payload, &args.payload_file) {
        (Some(dash), _) if dash == "-" => {
            let mut event = Vec::new();
            io::stdin()
                .read_to_end(&mut event)
                .context("the event on standard input")?;
            Ok(event)
        }
        (Some(payload), _) => Ok(payload.clone().into_bytes()),
        (None, Some(file)) => std::fs::read(file)
            .with_context(|| format!("--payload-file: {} cannot be read", file.display())),
        (None, None) => Ok(Vec::new()),
    }
}

fn print(mut body: impl Read) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if out.is_terminal() {
        let mut answer = Vec::new();
        body.read_to_end(&mut answer)?;
        // On a terminal the prompt should begin on a line of its own; a pipe gets the exact bytes.
        writeln!(out, "{}", terminal::escaped_bytes(&answer))?;
    } else {
        io::copy(&mut body, &mut out)?;
    }
    out.flush()
}
