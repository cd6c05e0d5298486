//! What the runtime process prints.
//!
//! Owns the reading ends of its two pipes; `records` cuts what comes. Fed by the process; read by `worker`
//! before each event that ends or begins an invocation, so that every record is logged under the right one.
//! Never waits: `watch` wakes the worker when there is something to read.

use std::io::{self, PipeReader};
use std::rc::Rc;
use std::time::Duration;

use pilotlight_core::wire::LogSource;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;

use crate::records::Records;
use crate::worker::WeakShared;

/// More than the largest pipe holds: what was written before an event is read before it.
const DRAIN_LIMIT: usize = 1024 * 1024;
/// For one turn of the watcher: a process that never stops printing stops nothing else, and the log's
/// reader keeps up.
const TURN_LIMIT: usize = 64 * 1024;
const CHUNK: usize = 16 * 1024;
/// After the log's reader has taken nothing for this long, the process is not held back for it.
const READER_LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Output {
    pipe: Rc<Receiver>,
    pub(crate) source: LogSource,
    records: Records,
    /// What is read goes here first: reused, as it is asked for with each event.
    chunk: Vec<u8>,
    has_ended: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    Empty,
    More,
    End,
}

impl Output {
    /// Of one process, in the order in which they are read.
    pub(crate) fn both(stdout: PipeReader, stderr: PipeReader) -> io::Result<Vec<Self>> {
        Ok(vec![
            Output::new(stdout, LogSource::Stdout)?,
            Output::new(stderr, LogSource::Stderr)?,
        ])
    }

    fn new(pipe: PipeReader, source: LogSource) -> io::Result<Self> {
        let pipe = Rc::new(Receiver::from_owned_fd(pipe.into())?);
        Ok(Output {
            pipe,
            source,
            records: Records::default(),
            chunk: vec![0; CHUNK],
            has_ended: false,
        })
    }

    /// Reads from those that have something. One `poll` finds out that none has, which is the usual case.
    pub(crate) fn drain_all(outputs: &mut [Self], mut emit: impl FnMut(LogSource, &str)) {
        // Two pipes with a process, none without.
        let [one, other] = outputs else {
            return;
        };
        let found = if one.has_ended || other.has_ended {
            [!one.has_ended, !other.has_ended]
        } else {
            let mut ends = [&*one.pipe, &*other.pipe].map(|end| PollFd::new(end, PollFlags::IN));
            match rustix::event::poll(&mut ends, Some(&Timespec::default())) {
                Ok(0) => return,
                Ok(_) => ends.map(|end| !end.revents().is_empty()),
                // A read finds out as well.
                Err(_) => [true; 2],
            }
        };
        for (output, is_found) in [one, other].into_iter().zip(found) {
            if is_found {
                output.drain(DRAIN_LIMIT, &mut emit);
            }
        }
    }

    /// Reads what is there, up to about `limit` bytes.
    pub(crate) fn drain(
        &mut self,
        limit: usize,
        emit: &mut impl FnMut(LogSource, &str),
    ) -> Drained {
        let mut chunk = std::mem::take(&mut self.chunk);
        let mut total = 0;
        let drained = loop {
            if total >= limit {
                break Drained::More;
            }
            match self.read(&mut chunk) {
                Ok(0) => break Drained::End,
                Ok(size) => {
                    let source = self.source;
                    let emit = &mut |text: &str| emit(source, text);
                    self.records.take(&chunk[..size], emit);
                    total += size;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Drained::Empty,
                Err(_) => break Drained::End,
            }
        };
        self.chunk = chunk;
        self.has_ended |= drained == Drained::End;
        drained
    }

    /// Straight from the pipe, as tokio's readiness may lag behind; and when the pipe is empty
    /// through tokio, which clears the readiness that `watch` waits for.
    fn read(&self, chunk: &mut [u8]) -> io::Result<usize> {
        match rustix::io::read(&*self.pipe, &mut *chunk) {
            Err(Errno::WOULDBLOCK) => self.pipe.try_read(chunk),
            result => Ok(result?),
        }
    }

    /// The beginning of a line counts as one: the invocation that printed it is over.
    pub(crate) fn end_line(&mut self, mut emit: impl FnMut(LogSource, &str)) {
        let source = self.source;
        self.records.end_line(&mut |text| emit(source, text));
    }

    /// The process is over.
    pub(crate) fn end(&mut self, mut emit: impl FnMut(LogSource, &str)) {
        let source = self.source;
        self.records.end(&mut |text| emit(source, text));
    }

    pub(crate) fn watch(&self, worker: WeakShared) -> impl Future<Output = ()> + use<> {
        let (pipe, source) = (self.pipe.clone(), self.source);
        async move {
            loop {
                if pipe.readable().await.is_err() {
                    return;
                }
                loop {
                    has_room(&worker).await;
                    let Some(worker) = worker.upgrade() else {
                        return;
                    };
                    let drained = worker.borrow_mut().on_output(source, TURN_LIMIT);
                    match drained {
                        Drained::More => tokio::task::yield_now().await,
                        Drained::Empty => break,
                        Drained::End => return,
                    }
                }
            }
        }
    }
}

/// Waits until the log's reader has caught up. Meanwhile output stays in the pipe, and the process blocks
/// when that is full; a reader that takes nothing is not waited for.
async fn has_room(worker: &WeakShared) {
    loop {
        let room = worker
            .upgrade()
            .and_then(|worker| worker.borrow().log.backpressure());
        let Some(room) = room else {
            return;
        };
        if tokio::time::timeout(READER_LIMIT, room.notified())
            .await
            .is_err()
            && let Some(worker) = worker.upgrade()
        {
            worker.borrow_mut().log.reader_is_stuck();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn lines_of(writes: &[&[u8]]) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let _guard = runtime.as_ref().expect("a tokio runtime").enter();
        let (reader, mut writer) = io::pipe().expect("a pipe");
        let (other, _) = io::pipe().expect("a pipe");
        let mut outputs = Output::both(reader, other).expect("watched pipes");
        let mut lines = Vec::new();
        for bytes in writes {
            for part in bytes.chunks(32 * 1024) {
                writer.write_all(part).expect("room in the pipe");
                Output::drain_all(&mut outputs, |_, line| lines.push(line.to_owned()));
            }
        }
        outputs[0].end(|_, line| lines.push(line.to_owned()));
        lines
    }

    #[test]
    fn lines_are_joined_over_reads_and_the_last_needs_no_end() {
        assert_eq!(lines_of(&[b"a\nb", b"c\r\n\nd"]), ["a", "bc\r", "", "d"]);
    }

    #[test]
    fn invalid_utf8_is_replaced() {
        assert_eq!(lines_of(&[b"a\xffb\n"]), ["a\u{fffd}b"]);
    }
}
