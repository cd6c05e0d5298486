//! The supervisor's standard output: a record per line, for the gateway's log store.
//!
//! Owns the buffer between whoever logs and a reader that may be slow. Fed by `worker` with
//! records from `output` and `platform_log`; never blocks the thread on a pipe. While more than
//! [`BACKPRESSURE_AT`] waits for the reader, `output` stops reading what the process prints; past
//! [`BUFFER_LIMIT`] records are dropped, counted, and the count is logged.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::rc::Rc;
use std::time::Duration;

use pilotlight_core::wire::{LISTENING, LogRecord, LogSource, MARK};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::net::unix::pipe::Sender;
use tokio::sync::Notify;

use crate::worker::Shared;

/// While more than this waits for the reader, the process's output stays in its pipe.
const BACKPRESSURE_AT: usize = 1024 * 1024;
/// Records beyond this are dropped. It is larger because output that is read at the end of an invocation
/// is not held back.
const BUFFER_LIMIT: usize = 4 * 1024 * 1024;
/// Room for marks, which are logged when other records are dropped.
const MARKS_LIMIT: usize = BUFFER_LIMIT + 64 * 1024;
/// The most that one write takes, so that a slow reader is seen to make progress.
const WRITE_SIZE: usize = 64 * 1024;
/// Lines of this much time, or as many bytes, are written at once: a reader that is woken for
/// each line costs more than the invocation that wrote it.
const BATCH_TIME: Duration = Duration::from_millis(10);
const BATCH_SIZE: usize = 16 * 1024;
/// A buffer that a burst has made larger than this is given back.
const BUFFER_KEPT: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Log {
    pending: String,
    /// Bytes that [`write_out`] has taken and not written yet.
    unwritten: usize,
    time: String,
    dropped: usize,
    closed: bool,
    /// A mark is pending: write without waiting for a full batch.
    is_urgent: bool,
    /// The reader has taken nothing for `output::READER_LIMIT`: the process is not held back any more.
    is_stuck: bool,
    ready: Rc<Notify>,
    /// Notified after each write.
    written: Rc<Notify>,
}

impl Log {
    pub(crate) fn record(&mut self, source: LogSource, request_id: Option<&str>, text: &str) {
        if self.waiting() + text.len() > BUFFER_LIMIT {
            self.dropped += 1;
            return;
        }
        self.put(source, request_id, text);
    }

    /// Writes a record at once which tells the reader that it has everything logged before.
    pub(crate) fn mark(&mut self, mark: &str) {
        if self.waiting() > MARKS_LIMIT {
            return;
        }
        self.put(LogSource::Platform, None, &format!("{MARK}{mark}"));
        self.is_urgent = true;
        self.ready.notify_one();
    }

    fn put(&mut self, source: LogSource, request_id: Option<&str>, text: &str) {
        let was_empty = self.pending.is_empty();
        self.time.clear();
        let now = jiff::Timestamp::now();
        let record = write!(self.time, "{now:.6}").and_then(|()| {
            let record = LogRecord {
                time: &self.time,
                source,
                request_id,
                text: text.into(),
            };
            writeln!(self.pending, "{record}")
        });
        record.expect("a string takes any text");
        if was_empty || self.pending.len() > BATCH_SIZE {
            self.ready.notify_one();
        }
    }

    /// Notified after the next write; `None` if the process need not be held back.
    pub(crate) fn backpressure(&self) -> Option<Rc<Notify>> {
        let is_full = self.waiting() > BACKPRESSURE_AT && !self.is_stuck;
        is_full.then(|| self.written.clone())
    }

    /// The reader has taken nothing for `output::READER_LIMIT`.
    pub(crate) fn reader_is_stuck(&mut self) {
        self.is_stuck = true;
        self.written.notify_waiters();
    }

    fn waiting(&self) -> usize {
        self.pending.len() + self.unwritten
    }

    fn wrote(&mut self, bytes: usize) {
        self.unwritten -= bytes;
        self.is_stuck = false;
        self.written.notify_waiters();
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
        self.unwritten = taken.len();
        self.is_urgent = false;
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
        text: text.into(),
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
            let waits = {
                let log = &worker.borrow().log;
                !log.closed && !log.is_urgent
            };
            if waits {
                // Told before only if the batch is full, or the last.
                let _ = tokio::time::timeout(BATCH_TIME, ready.notified()).await;
            }
            continue;
        };
        for part in text.as_bytes().chunks(WRITE_SIZE) {
            stdout.write(part).await?;
            worker.borrow_mut().log.wrote(part.len());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: usize = 1000;

    fn print(log: &mut Log, bytes: usize) {
        for _ in 0..bytes / LINE {
            log.record(LogSource::Stdout, None, &"x".repeat(LINE));
        }
    }

    #[test]
    fn a_process_waits_for_the_logs_reader_until_that_takes_nothing() {
        let mut log = Log::default();
        print(&mut log, BACKPRESSURE_AT / 2);
        assert!(log.backpressure().is_none());
        print(&mut log, BACKPRESSURE_AT);
        assert!(log.backpressure().is_some());
        let taken = log.take(String::new()).expect("records").len();
        assert!(
            log.backpressure().is_some(),
            "what is taken is not written yet"
        );
        log.wrote(taken - BACKPRESSURE_AT / 2);
        assert!(log.backpressure().is_none());

        print(&mut log, BACKPRESSURE_AT);
        log.reader_is_stuck();
        assert!(log.backpressure().is_none());
        log.wrote(1);
        assert!(log.backpressure().is_some(), "the reader goes on");
    }

    #[test]
    fn what_nobody_reads_is_dropped_and_counted_but_no_mark_is() {
        let mut log = Log::default();
        print(&mut log, 2 * BUFFER_LIMIT);
        log.mark("m1");
        let taken = log.take(String::new()).expect("records");
        assert!(taken.len() <= BUFFER_LIMIT + LINE && taken.ends_with(" platform - MARK m1\n"));
        let next = log.take(String::new()).expect("a record");
        assert!(next.contains(" log lines were dropped"), "{next}");
    }

    #[test]
    fn marks_that_nobody_reads_are_bounded() {
        let mut log = Log::default();
        print(&mut log, BUFFER_LIMIT);
        for _ in 0..MARKS_LIMIT / 40 {
            log.mark("m");
        }
        assert!(log.waiting() < MARKS_LIMIT + LINE);
    }
}
