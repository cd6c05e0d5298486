//! What the runtime process prints.
//!
//! Owns the reading end of its pipe, which standard output and standard error share as on the original
//! platform, so that their lines keep their order; `records` cuts what comes. Fed by the process; read by `worker`
//! before each event that ends or begins an invocation, so that every record is logged under the right one.
//! Never waits: `watch` wakes the worker when there is something to read.

use std::io::{self, PipeReader};
use std::rc::Rc;

use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;

use crate::records::Records;

/// More than the largest pipe holds: what was written before an event is read before it.
const DRAIN_LIMIT: usize = 1024 * 1024;
const CHUNK: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) struct Output {
    pipe: Rc<Receiver>,
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
    pub(crate) fn new(pipe: PipeReader) -> io::Result<Self> {
        let pipe = Rc::new(Receiver::from_owned_fd(pipe.into())?);
        Ok(Output {
            pipe,
            records: Records::default(),
            chunk: vec![0; CHUNK],
            has_ended: false,
        })
    }

    /// Reads all that is there; mostly nothing is, which takes one system call to find out.
    pub(crate) fn drain_all(&mut self, emit: &mut impl FnMut(&str)) {
        if !self.has_ended {
            self.drain(DRAIN_LIMIT, emit);
        }
    }

    /// Reads what is there, up to about `limit` bytes.
    pub(crate) fn drain(&mut self, limit: usize, emit: &mut impl FnMut(&str)) -> Drained {
        let mut chunk = std::mem::take(&mut self.chunk);
        let mut total = 0;
        let drained = loop {
            if total >= limit {
                break Drained::More;
            }
            match self.read(&mut chunk) {
                Ok(0) => break Drained::End,
                Ok(size) => {
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
    pub(crate) fn end_line(&mut self, emit: &mut impl FnMut(&str)) {
        self.records.end_line(emit);
    }

    /// The process is over.
    pub(crate) fn end(&mut self, emit: &mut impl FnMut(&str)) {
        self.records.end(emit);
    }

    /// The pipe, whose readiness tells when there is something to read.
    pub(crate) fn pipe(&self) -> Rc<Receiver> {
        self.pipe.clone()
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
        let mut output = Output::new(reader).expect("a watched pipe");
        let mut lines = Vec::new();
        for bytes in writes {
            for part in bytes.chunks(32 * 1024) {
                writer.write_all(part).expect("room in the pipe");
                output.drain_all(&mut |line| lines.push(line.to_owned()));
            }
        }
        output.end(&mut |line| lines.push(line.to_owned()));
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
