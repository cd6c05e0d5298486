//! What the runtime process prints, cut into lines.
//!
//! Owns the reading ends of its two pipes. Fed by the process; read by `worker` before each
//! event that ends or begins an invocation, so that every line is logged under the right one.
//! Never waits: `watch` wakes the worker when there is something to read.

use std::io::{self, PipeReader};
use std::rc::Rc;

use pilotlight_core::wire::LogSource;
use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;

use crate::worker::WeakShared;

/// Longer lines are cut, not split.
const LINE_LIMIT: usize = 256 * 1024;
/// More than the largest pipe holds: what was written before an event is read before it, and a
/// process that never stops printing stops nothing else.
const DRAIN_LIMIT: usize = 1024 * 1024;
const CHUNK: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) struct Output {
    pipe: Rc<Receiver>,
    pub(crate) source: LogSource,
    /// The beginning of a line whose end is not there yet.
    partial: Vec<u8>,
    /// What is read goes here first: reused, as it is asked for with each event.
    chunk: Vec<u8>,
    /// The line at hand has reached the limit: the rest of it is thrown away.
    cut: bool,
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
            partial: Vec::new(),
            chunk: vec![0; CHUNK],
            cut: false,
        })
    }

    /// Reads what is there.
    pub(crate) fn drain(&mut self, mut emit: impl FnMut(LogSource, &str)) -> Drained {
        let mut chunk = std::mem::take(&mut self.chunk);
        let mut total = 0;
        let drained = loop {
            if total >= DRAIN_LIMIT {
                break Drained::More;
            }
            match self.read(&mut chunk) {
                Ok(0) => break Drained::End,
                Ok(size) => {
                    self.split(&chunk[..size], &mut emit);
                    total += size;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Drained::Empty,
                Err(_) => break Drained::End,
            }
        };
        self.chunk = chunk;
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
        if !self.partial.is_empty() {
            emit(self.source, &String::from_utf8_lossy(&self.partial));
            self.partial.clear();
        }
        self.cut = false;
    }

    fn split(&mut self, chunk: &[u8], emit: &mut impl FnMut(LogSource, &str)) {
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            let (line, ended) = match piece.strip_suffix(b"\n") {
                Some(line) => (line, true),
                None => (piece, false),
            };
            let fresh = self.partial.is_empty() && !self.cut;
            if ended && fresh {
                emit(self.source, &String::from_utf8_lossy(line));
                continue;
            }
            let room = LINE_LIMIT - self.partial.len();
            self.partial
                .extend_from_slice(&line[..line.len().min(room)]);
            self.cut |= line.len() > room;
            if ended {
                emit(self.source, &String::from_utf8_lossy(&self.partial));
                self.partial = Vec::new();
                self.cut = false;
            }
        }
    }

    pub(crate) fn watch(&self, worker: WeakShared) -> impl Future<Output = ()> + use<> {
        let (pipe, source) = (self.pipe.clone(), self.source);
        async move {
            loop {
                if pipe.readable().await.is_err() {
                    return;
                }
                loop {
                    let Some(worker) = worker.upgrade() else {
                        return;
                    };
                    let drained = worker.borrow_mut().on_output(source);
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
        let mut output = Output::new(reader, LogSource::Stdout).expect("a watched pipe");
        let mut lines = Vec::new();
        for bytes in writes {
            for part in bytes.chunks(32 * 1024) {
                writer.write_all(part).expect("room in the pipe");
                output.drain(|_, line| lines.push(line.to_owned()));
            }
        }
        output.end_line(|_, line| lines.push(line.to_owned()));
        lines
    }

    #[test]
    fn lines_are_joined_over_reads_and_the_last_needs_no_end() {
        assert_eq!(lines_of(&[b"a\nb", b"c\r\n\nd"]), ["a", "bc\r", "", "d"]);
    }

    #[test]
    fn a_very_long_line_is_cut_and_the_following_one_is_whole() {
        let mut long = vec![b'x'; LINE_LIMIT + 100_000];
        long.extend_from_slice(b"\nnext\n");
        let lines = lines_of(&[&long]);
        assert_eq!(
            lines.iter().map(String::len).collect::<Vec<_>>(),
            [LINE_LIMIT, 4]
        );
    }

    #[test]
    fn invalid_utf8_is_replaced() {
        assert_eq!(lines_of(&[b"a\xffb\n"]), ["a\u{fffd}b"]);
    }
}
