//! The supervisor's standard output: a record per line, for the gateway's log store.
//!
//! Owns the buffer between whoever logs and a reader that may be slow. Fed by `worker` with
//! lines from `output` and `platform_log`; never blocks the thread on a pipe: past the limit
//! lines are dropped, counted, and the count is logged.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::rc::Rc;
use std::time::Duration;

use pilotlight_core::wire::{LISTENING, LogRecord, LogSource};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::net::unix::pipe::Sender;
use tokio::sync::Notify;

use crate::worker::Shared;

/// How much waits for a slow reader.
const BUFFER_LIMIT: usize = 1024 * 1024;
/// Lines of this much time, or as many bytes, are written at once: a reader that is woken for
/// each line costs more than the invocation that wrote it.
const BATCH_TIME: Duration = Duration::from_millis(10);
const BATCH_SIZE: usize = 16 * 1024;
/// A buffer that a burst has made larger than this is given back.
const BUFFER_KEPT: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Log {
    pending: String,
    time: String,
    dropped: usize,
    closed: bool,
    ready: Rc<Notify>,
}

impl Log {
    pub(crate) fn record(&mut self, source: LogSource, request_id: Option<&str>, text: &str) {
        if self.pending.len() + text.len() > BUFFER_LIMIT {
            self.dropped += 1;
            return;
        }
        let was_empty = self.pending.is_empty();
        self.time.clear();
        let now = jiff::Timestamp::now();
        let record = write!(self.time, "{now:.6}").and_then(|()| {
            let record = LogRecord {
                time: &self.time,
                source,
                request_id,
                text,
            };
            writeln!(self.pending, "{record}")
        });
        record.expect("a string takes any text");
        if was_empty || self.pending.len() > BATCH_SIZE {
            self.ready.notify_one();
        }
    }

    /// No record follows; [`write_out`] ends when all is written.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.ready.notify_one();
    }

    fn take(&mut self, spare: String) -> Option<String> {
        if self.pending.is_empty() {
            return None;
        }
        let taken = std::mem::replace(&mut self.pending, spare);
        if let dropped @ 1.. = std::mem::take(&mut self.dropped) {
            let text = format!("{dropped} log lines were dropped: the log's reader is too slow");
            self.record(LogSource::Platform, None, &text);
        }
        Some(taken)
    }
}

/// The first record: tells the parent where leases are taken.
pub(crate) fn announce(listening: &str) -> io::Result<()> {
    say(&format!("{LISTENING}{listening}"))
}

/// Before there is a worker. Next to nothing waits in the pipe yet.
pub(crate) fn say(text: &str) -> io::Result<()> {
    let record = LogRecord {
        time: &format!("{:.6}", jiff::Timestamp::now()),
        source: LogSource::Platform,
        request_id: None,
        text,
    };
    writeln!(io::stdout(), "{record}")?;
    io::stdout().flush()
}

/// Writes what is logged, until the log is closed.
pub(crate) async fn write_out(worker: Shared, mut stdout: Stdout) -> io::Result<()> {
    let ready = worker.borrow().log.ready.clone();
    let mut spare = String::new();
    loop {
        let taken = worker.borrow_mut().log.take(std::mem::take(&mut spare));
        let Some(mut text) = taken else {
            if worker.borrow().log.closed {
                return Ok(());
            }
            ready.notified().await;
            let waits = !worker.borrow().log.closed;
            if waits {
                // Told before only if the batch is full, or the last.
                let _ = tokio::time::timeout(BATCH_TIME, ready.notified()).await;
            }
            continue;
        };
        stdout.write(text.as_bytes()).await?;
        text.clear();
        if text.capacity() <= BUFFER_KEPT {
            spare = text;
        }
    }
}

/// Where the log goes.
pub(crate) enum Stdout {
    Pipe(Sender),
    /// A file or a terminal: a write does not wait for a reader there.
    Direct(File),
    /// The reader is `in_process`.
    Memory(DuplexStream),
}

impl Stdout {
    pub(crate) fn open() -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        match file.metadata()?.file_type().is_fifo() {
            true => Ok(Stdout::Pipe(Sender::from_file(file)?)),
            false => Ok(Stdout::Direct(file)),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stdout::Direct(file) => file.write_all(bytes),
            Stdout::Pipe(pipe) => pipe.write_all(bytes).await,
            Stdout::Memory(stream) => stream.write_all(bytes).await,
        }
    }
}
