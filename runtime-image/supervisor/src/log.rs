//! The supervisor's standard output: one record per line, for the gateway's log store.
//!
//! Owns the buffer in front of a reader that may be slow. Fed by `worker` with records from `output` and
//! `platform_log`. Never blocks the thread on a pipe. While more than [`BACKPRESSURE_AT`] bytes wait for the
//! reader, `worker` leaves what the process prints in its pipe. Beyond [`BUFFER_LIMIT`] records are dropped and
//! counted, and the count is logged.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::rc::Rc;
use std::time::Duration;

use pilotlight_wire::log_record::{LISTENING, LogRecord, LogSource, MARK};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::net::unix::pipe::Sender;
use tokio::sync::Notify;

use crate::relay::Relay;

/// While more bytes than this wait for the reader, the process's output stays in its pipe.
const BACKPRESSURE_AT: usize = 1024 * 1024;
/// Records beyond this many bytes are dropped. It is larger than [`BACKPRESSURE_AT`], because output that is
/// read at the end of an invocation is not held back.
const BUFFER_LIMIT: usize = 4 * 1024 * 1024;
/// The limit for marks, which are still logged when other records are dropped.
const MARKS_LIMIT: usize = BUFFER_LIMIT + 64 * 1024;
/// The largest write, so that a slow reader is seen to make progress.
const WRITE_SIZE: usize = 64 * 1024;
/// Records of this much time, or this many bytes, are written together: waking the reader for each record
/// would cost more than the invocation that wrote it.
const BATCH_TIME: Duration = Duration::from_millis(10);
const BATCH_SIZE: usize = 16 * 1024;
/// After the reader has taken nothing for this long, the runtime process is not held back for it.
const READER_LIMIT: Duration = Duration::from_secs(1);
/// A buffer that has grown larger than this in a burst is freed.
const BUFFER_KEPT: usize = 64 * 1024;

/// A handle to the records that wait for the reader. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Log(Rc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    buffer: RefCell<Buffer>,
    /// Notified when a write is due.
    ready: Notify,
    /// Notified after each write.
    written: Notify,
    /// In a cluster each record also goes to a gateway.
    relay: Option<Relay>,
}

#[derive(Debug, Default)]
struct Buffer {
    pending: String,
    /// Bytes that [`write_out`] has taken and not written yet.
    unwritten: usize,
    time: String,
    dropped: usize,
    closed: bool,
    /// A mark is pending: write without waiting for a full batch.
    is_urgent: bool,
    /// The reader has taken nothing for [`READER_LIMIT`], so the runtime process is not held back any more.
    reader_is_stuck: bool,
}

impl Log {
    pub(crate) fn new(relay: Option<Relay>) -> Self {
        Log(Rc::new(Shared {
            relay,
            ..Shared::default()
        }))
    }

    /// Where gateways take the records, if they do.
    pub(crate) fn relay(&self) -> Option<&Relay> {
        self.0.relay.as_ref()
    }

    pub(crate) fn record(&self, source: LogSource, request_id: Option<&str>, text: &str) {
        let mut buffer = self.0.buffer.borrow_mut();
        let begin = buffer.pending.len();
        let is_due = buffer.record(source, request_id, text);
        if let Some(relay) = &self.0.relay {
            match buffer.pending[begin..].strip_suffix('\n') {
                Some(line) => relay.add(line),
                // It was dropped here, because nobody reads standard output.
                None => {
                    let mut line = String::new();
                    write_line(&mut line, &mut buffer.time, (source, request_id, text));
                    relay.add(&line);
                }
            }
        }
        if is_due {
            self.0.ready.notify_one();
        }
    }

    /// Writes a record at once which tells the reader that it has everything logged before.
    pub(crate) fn mark(&self, mark: &str) {
        if let Some(relay) = &self.0.relay {
            relay.mark(mark);
        }
        if self.0.buffer.borrow_mut().mark(mark) {
            self.0.ready.notify_one();
        }
    }

    /// No record follows; [`write_out`] ends when all is written.
    pub(crate) fn close(&self) {
        self.0.buffer.borrow_mut().closed = true;
        self.0.ready.notify_one();
    }

    /// Returns when the runtime process may go on printing: the reader has caught up, or has taken nothing
    /// for [`READER_LIMIT`] and is not waited for.
    pub(crate) async fn has_room(&self) {
        while self.0.buffer.borrow().holds_back() {
            let written = self.0.written.notified();
            if tokio::time::timeout(READER_LIMIT, written).await.is_err() {
                self.0.buffer.borrow_mut().reader_is_stuck = true;
                self.0.written.notify_waiters();
            }
        }
    }

    fn wrote(&self, bytes: usize) {
        self.0.buffer.borrow_mut().wrote(bytes);
        self.0.written.notify_waiters();
    }
}

impl Buffer {
    /// Whether a write is due.
    fn record(&mut self, source: LogSource, request_id: Option<&str>, text: &str) -> bool {
        if self.waiting() + text.len() > BUFFER_LIMIT {
            self.dropped += 1;
            return false;
        }
        self.put(source, request_id, text)
    }

    fn mark(&mut self, mark: &str) -> bool {
        if self.waiting() > MARKS_LIMIT {
            return false;
        }
        self.put(LogSource::Platform, None, &format!("{MARK}{mark}"));
        self.is_urgent = true;
        true
    }

    fn put(&mut self, source: LogSource, request_id: Option<&str>, text: &str) -> bool {
        let was_empty = self.pending.is_empty();
        write_line(
            &mut self.pending,
            &mut self.time,
            (source, request_id, text),
        );
        self.pending.push('\n');
        was_empty || self.pending.len() > BATCH_SIZE
    }

    /// Whether the runtime process waits for the reader.
    fn holds_back(&self) -> bool {
        self.waiting() > BACKPRESSURE_AT && !self.reader_is_stuck
    }

    fn waiting(&self) -> usize {
        self.pending.len() + self.unwritten
    }

    fn wrote(&mut self, bytes: usize) {
        self.unwritten -= bytes;
        self.reader_is_stuck = false;
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

/// Adds a record of this moment, without the end of its line. `time`: a buffer.
fn write_line(
    to: &mut String,
    time: &mut String,
    (source, request_id, text): (LogSource, Option<&str>, &str),
) {
    time.clear();
    let now = jiff::Timestamp::now();
    let written = write!(time, "{now:.6}").and_then(|()| {
        let record = LogRecord {
            time,
            source,
            request_id,
            text: text.into(),
        };
        write!(to, "{record}")
    });
    written.expect("a string takes any text");
}

/// Writes the first record, which tells the parent where this process listens for leases.
///
/// # Errors
/// If standard output is closed.
pub(crate) fn announce(listening: &str) -> io::Result<()> {
    write_now(&format!("{LISTENING}{listening}"))
}

/// Writes a record before there is a worker. It cannot block: the pipe is almost empty then.
pub(crate) fn write_now(text: &str) -> io::Result<()> {
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
pub(crate) async fn write_out(log: Log, mut stdout: Stdout) -> io::Result<()> {
    let Shared { buffer, ready, .. } = &*log.0;
    let mut spare = String::new();
    loop {
        let taken = buffer.borrow_mut().take(std::mem::take(&mut spare));
        let Some(mut text) = taken else {
            if buffer.borrow().closed {
                return Ok(());
            }
            ready.notified().await;
            let waits = {
                let buffer = buffer.borrow();
                !buffer.closed && !buffer.is_urgent
            };
            if waits {
                // A notification before the time is over means that the batch is full, or the last one.
                let _ = tokio::time::timeout(BATCH_TIME, ready.notified()).await;
            }
            continue;
        };
        for part in text.as_bytes().chunks(WRITE_SIZE) {
            stdout.write(part).await?;
            log.wrote(part.len());
        }
        text.clear();
        if text.capacity() <= BUFFER_KEPT {
            spare = text;
        }
    }
}

/// The destination of the log.
pub(crate) enum Stdout {
    Pipe(Sender),
    /// A file or a terminal, which takes a write without a reader.
    Direct(File),
    /// A stream in memory, which `in_process` reads.
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

    fn print(buffer: &mut Buffer, bytes: usize) {
        for _ in 0..bytes / LINE {
            buffer.record(LogSource::Stdout, None, &"x".repeat(LINE));
        }
    }

    #[test]
    fn the_runtime_process_waits_for_the_logs_reader_unless_the_reader_is_stuck() {
        let mut buffer = Buffer::default();
        print(&mut buffer, BACKPRESSURE_AT / 2);
        assert!(!buffer.holds_back());
        print(&mut buffer, BACKPRESSURE_AT);
        assert!(buffer.holds_back());
        let taken = buffer.take(String::new()).expect("records").len();
        assert!(buffer.holds_back(), "the taken records are not written yet");
        buffer.wrote(taken - BACKPRESSURE_AT / 2);
        assert!(!buffer.holds_back());

        print(&mut buffer, BACKPRESSURE_AT);
        buffer.reader_is_stuck = true;
        assert!(!buffer.holds_back());
        buffer.wrote(1);
        assert!(buffer.holds_back(), "the reader has taken something again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_given_up_after_its_limit() {
        let log = Log::new(None);
        print(&mut log.0.buffer.borrow_mut(), 2 * BACKPRESSURE_AT);
        let before = tokio::time::Instant::now();
        log.has_room().await;
        assert_eq!(before.elapsed(), READER_LIMIT);
    }

    #[test]
    fn records_beyond_the_limit_are_dropped_and_counted_but_marks_are_kept() {
        let mut buffer = Buffer::default();
        print(&mut buffer, 2 * BUFFER_LIMIT);
        buffer.mark("m1");
        let taken = buffer.take(String::new()).expect("records");
        assert!(taken.len() <= BUFFER_LIMIT + LINE && taken.ends_with(" platform - MARK m1\n"));
        let next = buffer.take(String::new()).expect("a record");
        assert!(next.contains(" log lines were dropped"), "{next}");
    }

    #[test]
    fn marks_are_bounded_as_well() {
        let mut buffer = Buffer::default();
        print(&mut buffer, BUFFER_LIMIT);
        for _ in 0..MARKS_LIMIT / 40 {
            buffer.mark("m");
        }
        assert!(buffer.waiting() < MARKS_LIMIT + LINE);
    }
}
