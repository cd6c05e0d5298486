//! The output of the runtime process.
//!
//! Owns the reading end of the pipe that standard output and standard error share, as on the original
//! platform, so that their lines keep their order. `records` splits the bytes. `worker` reads before each event
//! that begins or ends an invocation, so that every record is logged under the right one. Never waits:
//! `worker/printed` waits until the pipe is readable.

use std::io::{self, PipeReader};
use std::rc::Rc;

use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;

use crate::records::Records;

/// More bytes than the largest pipe holds, so that everything written before an event is read before it.
const DRAIN_LIMIT: usize = 1024 * 1024;
const CHUNK: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) struct Output {
    pipe: Rc<Receiver>,
    records: Records,
    /// The buffer of reads, kept because each event reads.
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

    /// Reads everything that was printed. Usually that is nothing, which one system call finds out.
    pub(crate) fn drain_all(&mut self, emit: &mut impl FnMut(&str)) {
        if !self.has_ended {
            self.drain(DRAIN_LIMIT, emit);
        }
    }

    /// Reads what was printed, up to about `limit` bytes.
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

    /// Reads from the pipe itself, because tokio's readiness may lag behind. If the pipe is empty, reads through
    /// tokio, which clears the readiness that `worker/printed` waits for.
    fn read(&self, chunk: &mut [u8]) -> io::Result<usize> {
        match rustix::io::read(&*self.pipe, &mut *chunk) {
            Err(Errno::WOULDBLOCK) => self.pipe.try_read(chunk),
            result => Ok(result?),
        }
    }

    /// Emits an unfinished line as a record, because the invocation that printed it is over.
    pub(crate) fn end_line(&mut self, emit: &mut impl FnMut(&str)) {
        self.records.end_line(emit);
    }

    /// Emits everything unfinished, because the process has ended.
    pub(crate) fn end(&mut self, emit: &mut impl FnMut(&str)) {
        self.records.end(emit);
    }

    /// The pipe, to wait until it is readable.
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
    fn a_line_may_span_reads_and_the_last_one_needs_no_newline() {
        assert_eq!(lines_of(&[b"a\nb", b"c\r\n\nd"]), ["a", "bc\r", "", "d"]);
    }

    #[test]
    fn invalid_utf8_is_replaced() {
        assert_eq!(lines_of(&[b"a\xffb\n"]), ["a\u{fffd}b"]);
    }
}
