//! A request from text, as it looks on a connection of HTTP/1.1.
//!
//! Lines end with `\n` or `\r\n`. In a body [`PIECE`] ends a piece. A piece that is only [`BROKEN`] breaks the body off,
//! and one that begins with [`TRAILERS`] has the headers that follow the body. The header [`REPEAT`] says how often
//! the last piece is sent, for bodies above a limit.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body::{Body, Frame, SizeHint};

const PIECE: u8 = 0x1e;
const BROKEN: &[u8] = &[0x18];
const TRAILERS: u8 = 0x19;
const REPEAT: &str = "fuzz-repeat";
/// A little more than the largest body that is read.
const TOTAL: usize = 9 * 1024 * 1024;

/// A body, piece by piece.
#[derive(Clone, Debug)]
pub struct Pieces(VecDeque<Bytes>);

/// The sender closed the connection.
#[derive(Debug)]
pub struct BrokenOff;

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken off")
    }
}

impl std::error::Error for BrokenOff {}

impl Pieces {
    pub fn of(body: &[u8], repeat: usize) -> Self {
        let mut pieces: VecDeque<_> = body
            .split(|byte| *byte == PIECE)
            .filter(|piece| !piece.is_empty())
            .map(Bytes::copy_from_slice)
            .collect();
        if let Some(last) = pieces.back().filter(|last| *last != BROKEN).cloned() {
            let repeat = repeat.min(TOTAL / last.len());
            pieces.extend(std::iter::repeat_n(last, repeat.saturating_sub(1)));
        }
        Pieces(pieces)
    }

    /// The whole body, in two pieces.
    pub fn in_two(body: &[u8]) -> Self {
        let (first, second) = body.split_at(body.len() / 2);
        let pieces = [first, second]
            .into_iter()
            .filter(|piece| !piece.is_empty());
        Pieces(pieces.map(Bytes::copy_from_slice).collect())
    }

    /// `None` if it breaks off.
    pub fn whole(&self) -> Option<Vec<u8>> {
        let breaks = self.0.iter().any(|piece| piece == BROKEN);
        let data = self.0.iter().filter(|piece| trailers(piece).is_none());
        (!breaks).then(|| data.flatten().copied().collect())
    }

    /// The headers that follow the body.
    pub fn trailers(&self) -> HeaderMap {
        let last = self.0.iter().rev().find_map(trailers);
        last.unwrap_or_default()
    }
}

/// The headers in a piece with trailers.
fn trailers(piece: &Bytes) -> Option<HeaderMap> {
    let text = piece.strip_prefix(&[TRAILERS])?;
    Some(headers(&mut text.split(|byte| *byte == b'\n')).unwrap_or_default())
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        Poll::Ready(self.0.pop_front().map(|piece| match trailers(&piece) {
            _ if piece == BROKEN => Err(BrokenOff),
            Some(trailers) => Ok(Frame::trailers(trailers)),
            None => Ok(Frame::data(piece)),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
    }
}

/// `None` if no server could read it as one.
pub fn parse(text: &[u8]) -> Option<Request<Pieces>> {
    let (head, body) = split(text);
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut words = line(&mut lines)?.split(|byte| *byte == b' ');
    let method = Method::from_bytes(words.next()?).ok()?;
    let uri = Uri::try_from(words.next()?).ok()?;
    let mut headers = headers(&mut lines)?;
    let repeat = headers.remove(REPEAT);
    let repeat = repeat.and_then(|times| times.to_str().ok()?.parse().ok());
    let mut request = Request::new(Pieces::of(body, repeat.unwrap_or(1)));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Some(request)
}

fn headers<'a>(lines: &mut impl Iterator<Item = &'a [u8]>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    while let Some(line) = line(lines) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        headers.append(name, value);
    }
    Some(headers)
}

/// The head, and what follows the empty line after it.
fn split(text: &[u8]) -> (&[u8], &[u8]) {
    for (at, end) in text.iter().enumerate() {
        let rest = &text[at + 1..];
        if let (b'\n', [b'\n', body @ ..] | [b'\r', b'\n', body @ ..]) = (end, rest) {
            return (&text[..at], body);
        }
    }
    (text, &[])
}

fn line<'a>(lines: &mut impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let line = lines.next()?;
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}
