//! The journal of the handlers: a server that writes each record before it acknowledges it. A load watches its
//! journal to notice when it is gone.
//!
//! `handler.py` sends `{"record": "began" | "ended", "id", "instance"}`, one JSON object in a line; `began` has
//! the `revision` if there is one, and the `request` id of an asynchronous call. The handler continues when it gets a byte back. The journal sets the times, so
//! its order is the order of events. A load sends `{"record": "ping"}`.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::record::{Record, now};
use crate::records::RecordFile;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// The same as in `handler.py`.
const REPLY_TIMEOUT: Duration = Duration::from_secs(20);
/// The error type of `handler.py` for a record that the journal did not acknowledge.
pub const HANDLER_ERROR: &str = "JournalGone";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// HOST:PORT. Port 0 takes a free one, which the first line printed names
    address: String,
    /// The file that records are appended to
    file: PathBuf,
}

#[derive(Deserialize)]
#[serde(tag = "record", rename_all = "camelCase")]
enum Word {
    Began {
        id: String,
        instance: String,
        revision: Option<u64>,
        request: Option<String>,
    },
    Ended {
        id: String,
        instance: String,
    },
    Ping,
}

impl Word {
    fn records(self) -> Vec<Record> {
        let at = now();
        match self {
            Word::Began {
                id,
                instance,
                revision,
                request,
            } => {
                let attempted = request.map(|request| Record::Attempted {
                    at,
                    id: id.clone(),
                    request,
                });
                let began = Record::Began {
                    at,
                    id,
                    instance,
                    revision,
                };
                [began].into_iter().chain(attempted).collect()
            }
            Word::Ended { id, instance } => vec![Record::Ended { at, id, instance }],
            Word::Ping => Vec::new(),
        }
    }
}

/// Serves until the process ends.
pub async fn run(args: Args) -> Result<()> {
    let file = Arc::new(RecordFile::open(&args.file)?);
    let listener = TcpListener::bind(&args.address).await;
    let listener = listener.with_context(|| args.address.clone())?;
    anstream::println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let file = file.clone();
        tokio::spawn(async move {
            if let Err(error) = serve(stream, &file).await {
                anstream::eprintln!("the connection of a handler failed: {error:#}");
            }
        });
    }
}

async fn serve(stream: TcpStream, file: &RecordFile) -> Result<()> {
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        let word: Word = serde_json::from_str(&line).with_context(|| line.clone())?;
        for record in word.records() {
            file.write(&record)?;
        }
        // The acknowledgement comes last: the handler must not continue before the record is written.
        write.write_all(b".").await?;
    }
    Ok(())
}

/// The journal cannot be reached: an error of the harness, which makes the whole run worthless.
#[derive(Debug)]
pub struct JournalGone {
    pub address: String,
    pub reason: String,
}

impl fmt::Display for JournalGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let JournalGone { address, reason } = self;
        write!(f, "the journal at {address} does not answer: {reason}")
    }
}

impl std::error::Error for JournalGone {}

/// A load's own connection to its journal.
#[derive(Debug)]
pub struct Watch {
    address: String,
    stream: TcpStream,
}

impl Watch {
    /// Connects, and waits until the journal acknowledges one ping.
    pub async fn connect(address: &str) -> Result<Self, JournalGone> {
        let failed = |reason: String| JournalGone {
            address: address.to_owned(),
            reason,
        };
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
        let connected = connected.map_err(|_| failed("no connection in time".to_owned()))?;
        let mut watch = Watch {
            address: address.to_owned(),
            stream: connected.map_err(|error| failed(error.to_string()))?,
        };
        match watch.ping().await {
            Ok(()) => Ok(watch),
            Err(error) => Err(failed(format!("{error:#}"))),
        }
    }

    /// Returns once the journal is gone: at once if its process ends, else when a ping is not acknowledged.
    pub async fn gone(mut self) -> JournalGone {
        let error = loop {
            if let Err(error) = self.pause().await {
                break error;
            }
            if let Err(error) = self.ping().await {
                break error;
            }
        };
        JournalGone {
            address: self.address,
            reason: format!("{error:#}"),
        }
    }

    /// Waits between two pings. Returns early if the connection ends.
    async fn pause(&mut self) -> Result<()> {
        tokio::select! {
            () = tokio::time::sleep(PING_INTERVAL) => Ok(()),
            read = self.stream.read_u8() => {
                read.context("it closed the connection")?;
                bail!("it sent a byte that acknowledges nothing")
            }
        }
    }

    async fn ping(&mut self) -> Result<()> {
        let closed = "it closed the connection";
        let sent = self.stream.write_all(b"{\"record\":\"ping\"}\n").await;
        sent.context(closed)?;
        let acknowledged = tokio::time::timeout(REPLY_TIMEOUT, self.stream.read_u8()).await;
        let Ok(acknowledged) = acknowledged else {
            bail!("no acknowledgement within {} s", REPLY_TIMEOUT.as_secs())
        };
        acknowledged.context(closed)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_journal_that_no_longer_acknowledges_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let journal = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a load");
            stream.write_all(b".").await.expect("the first is answered");
            // The connection stays open, as if the journal's process were stopped by a signal.
            std::future::pending::<()>().await;
            drop(stream);
        });
        let watch = Watch::connect(&address).await.expect("it answers");
        tokio::time::pause();
        let gone = watch.gone().await;
        let expected = "does not answer: no acknowledgement within 20 s";
        assert!(gone.to_string().ends_with(expected), "{gone}");
        journal.abort();
    }
}
