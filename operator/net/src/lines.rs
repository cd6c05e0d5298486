//! Reads a stream of lines: statuses of an instance, demand of a gateway.
//!
//! The other part keeps the stream open and writes a line at each change. The caller parses the lines and
//! decides what the end of the stream means.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;

/// Why a stream of lines has ended early.
#[derive(Debug, thiserror::Error)]
pub enum LinesError<E> {
    #[error("a line is longer than {0} bytes")]
    TooLong(usize),
    #[error("nothing has come for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("the stream broke: {0}")]
    Broken(E),
}

/// The lines of a body.
#[derive(Debug)]
pub struct Lines<B> {
    body: B,
    pending: BytesMut,
    /// Bytes at the beginning of `pending` that have no end of a line.
    searched: usize,
    limit: usize,
    idle_timeout: Option<Duration>,
}

impl<B: Body<Data = Bytes> + Unpin> Lines<B> {
    /// `limit`: bytes of one line.
    pub fn new(body: B, limit: usize) -> Self {
        Lines {
            body,
            pending: BytesMut::new(),
            searched: 0,
            limit,
            idle_timeout: None,
        }
    }

    /// Ends the stream if no byte comes for this long.
    pub fn with_idle_timeout(self, limit: Duration) -> Self {
        Lines {
            idle_timeout: Some(limit),
            ..self
        }
    }

    /// The next line without its end. `None`: the stream has ended. A last line without an end is dropped, as
    /// it may be cut. Dropping the future loses nothing.
    ///
    /// # Errors
    /// If the stream broke, fell silent, or has too long a line.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LinesError<B::Error>> {
        loop {
            let unsearched = &self.pending[self.searched..];
            if let Some(end) = unsearched.iter().position(|byte| *byte == b'\n') {
                let line = self.pending.split_to(self.searched + end);
                self.pending.advance(1);
                self.searched = 0;
                return Ok(Some(line.freeze()));
            }
            self.searched = self.pending.len();
            if self.searched > self.limit {
                return Err(LinesError::TooLong(self.limit));
            }
            let frame = match self.idle_timeout {
                None => self.body.frame().await,
                Some(limit) => tokio::time::timeout(limit, self.body.frame())
                    .await
                    .map_err(|_| LinesError::Silent(limit))?,
            };
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(LinesError::Broken(error)),
                Some(Ok(frame)) => {
                    let data = frame.data_ref().map_or(&[][..], |data| data);
                    self.pending.extend_from_slice(data);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    async fn all(text: &'static str, limit: usize) -> (Vec<Bytes>, bool) {
        let mut lines = Lines::new(Full::new(Bytes::from_static(text.as_bytes())), limit);
        let mut read = Vec::new();
        loop {
            match lines.next().await {
                Ok(Some(line)) => read.push(line),
                Ok(None) => return (read, true),
                Err(_) => return (read, false),
            }
        }
    }

    #[tokio::test]
    async fn lines_are_read_without_their_ends_and_a_cut_line_is_dropped() {
        let (lines, is_whole) = all("0 starting\n\n1 ready\n2 dra", 16).await;
        assert_eq!(lines, ["0 starting", "", "1 ready"]);
        assert!(is_whole);
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_bounded() {
        let (lines, is_whole) = all("a\n0123456789", 8).await;
        assert_eq!((lines, is_whole), (vec![Bytes::from("a")], false));
    }
}
