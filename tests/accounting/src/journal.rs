//! The journal of handlers: a server that writes down each word before it acknowledges it.
//!
//! A handler sends `{"record": "began" | "ended", "id", "instance"}`, a line each, `began` with the
//! `revision` if there is one, and goes on when a byte comes back. The moment is the journal's: its
//! order is the order of what happened.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use pilotlight_accounting::record::{Record, now};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::file::Journal;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// HOST:PORT; port 0 takes a free one, and the first line printed tells it.
    address: String,
    /// What is appended to.
    file: PathBuf,
}

#[derive(Deserialize)]
struct Word {
    record: String,
    id: String,
    instance: String,
    revision: Option<u64>,
}

pub(crate) async fn run(args: Args) -> Result<()> {
    let journal = Arc::new(Journal::open(&args.file)?);
    let listener = TcpListener::bind(&args.address).await;
    let listener = listener.with_context(|| args.address.clone())?;
    anstream::println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let journal = journal.clone();
        tokio::spawn(async move {
            if let Err(error) = write_down(stream, &journal).await {
                anstream::eprintln!("a handler's connection: {error:#}");
            }
        });
    }
}

async fn write_down(stream: TcpStream, journal: &Journal) -> Result<()> {
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        let Word {
            record,
            id,
            instance,
            revision,
        } = serde_json::from_str(&line).with_context(|| line.clone())?;
        let at = now();
        journal.write(&match record.as_str() {
            "began" => Record::Began {
                at,
                id,
                instance,
                revision,
            },
            "ended" => Record::Ended { at, id, instance },
            other => bail!("{other} is no word of a handler's"),
        })?;
        write.write_all(b".").await?;
    }
    Ok(())
}
