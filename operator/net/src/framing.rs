//! Where the heads of HTTP/1.1 requests begin and end in a stream of bytes, and heads with two lengths.
//!
//! A head with both `Content-Length` and `Transfer-Encoding` may be read differently by a proxy in front of this
//! process, so that one body smuggles a second request (RFC 9112, 6.3). hyper drops `Content-Length` silently,
//! and its service cannot see that there was one. [`Framed`] therefore makes such a head invalid before hyper
//! reads it, and hyper answers 400 and closes the connection. Used by every server: `listen` and the supervisor's.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// Bytes of the preface of HTTP/2 after its first line.
const PREFACE_REST: u64 = 8;
const TRANSFER_ENCODING: &[u8] = b"transfer-encoding";
const CONTENT_LENGTH: &[u8] = b"content-length";
/// Longer than any name and preface above.
const NAME_LIMIT: usize = 20;

/// Follows the bytes of one connection.
#[derive(Debug)]
pub struct Framing {
    state: State,
    head: Head,
    line: Line,
    /// Heads that have ended.
    heads: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first byte of a head.
    Between,
    RequestLine,
    /// The lines of a head, or of the trailers after a chunked body.
    Fields {
        are_trailers: bool,
    },
    Body {
        left: u64,
    },
    ChunkSize,
    Chunk {
        left: u64,
    },
    ChunkEnd,
    Preface {
        left: u64,
    },
    /// HTTP/2, or no HTTP: hyper knows what to do.
    Opaque,
}

/// What is known of the present head.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    is_chunked: bool,
    length: Option<u64>,
}

/// The beginning of the present line, as far as a name can reach, and the digits after a colon.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    length: usize,
    name: [u8; NAME_LIMIT],
    name_length: Option<usize>,
    value: u64,
    value_ends: bool,
}

impl Line {
    fn name(&self) -> &[u8] {
        let length = self.name_length.unwrap_or(self.length);
        self.name.get(..length).unwrap_or_default()
    }

    fn is(&self, name: &[u8]) -> bool {
        self.name().eq_ignore_ascii_case(name)
    }

    fn take(&mut self, byte: u8) {
        if self.name_length.is_some() {
            match byte {
                b'0'..=b'9' if !self.value_ends => {
                    let digit = u64::from(byte - b'0');
                    self.value = self.value.saturating_mul(10).saturating_add(digit);
                }
                b' ' | b'\t' => {}
                _ => self.value_ends = true,
            }
        } else if let Some(place) = self.name.get_mut(self.length) {
            *place = byte;
        }
        self.length = self.length.saturating_add(1);
    }
}

impl Default for Framing {
    fn default() -> Self {
        Framing {
            state: State::Between,
            head: Head::default(),
            line: Line::default(),
            heads: 0,
        }
    }
}

impl Framing {
    /// Follows the next bytes. Makes a head with two lengths invalid, and returns whether there was one.
    pub fn follow(&mut self, bytes: &mut [u8]) -> bool {
        let mut has_both = false;
        let mut at = 0;
        while let Some(rest) = bytes.get(at..) {
            // Most bytes of a head are in the values of fields, and none of these but a length counts.
            if self.passes_over_line() {
                at += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            }
            let Some(first) = bytes.get_mut(at) else {
                break;
            };
            at += match &mut self.state {
                State::Opaque => bytes.len() - at,
                State::Body { left } | State::Chunk { left } | State::Preface { left } => {
                    let skipped = usize::try_from(*left).unwrap_or(usize::MAX);
                    let skipped = skipped.min(bytes.len() - at);
                    *left -= skipped as u64;
                    if *left == 0 {
                        self.state = match self.state {
                            State::Chunk { .. } => State::ChunkEnd,
                            State::Preface { .. } => {
                                self.heads += 1;
                                State::Opaque
                            }
                            _ => State::Between,
                        };
                    }
                    skipped
                }
                State::Between => {
                    // Empty lines before a request are ignored (RFC 9112, 2.2).
                    if !matches!(first, b'\r' | b'\n') {
                        (self.head, self.line) = (Head::default(), Line::default());
                        self.state = State::RequestLine;
                        continue;
                    }
                    1
                }
                State::RequestLine => {
                    match *first {
                        b'\n' => self.state = self.after_request_line(),
                        byte => self.line.take(byte),
                    }
                    1
                }
                State::Fields { are_trailers } => {
                    let are_trailers = *are_trailers;
                    match *first {
                        b'\n' => self.end_field(are_trailers),
                        b':' if self.line.name_length.is_none() => {
                            self.line.name_length = Some(self.line.length);
                            if !are_trailers && self.has_second_length() {
                                // No header's name ends in this byte.
                                *first = 0;
                                has_both = true;
                                self.state = State::Opaque;
                            }
                        }
                        b'\r' => {}
                        byte => self.line.take(byte),
                    }
                    1
                }
                State::ChunkSize => {
                    match *first {
                        b'\n' => self.state = self.after_chunk_size(),
                        byte => self.take_of_size(byte),
                    }
                    1
                }
                State::ChunkEnd => {
                    if *first == b'\n' {
                        self.line = Line::default();
                        self.state = State::ChunkSize;
                    }
                    1
                }
            };
        }
        has_both
    }

    /// Whether the rest of the present line says nothing.
    fn passes_over_line(&self) -> bool {
        let line = &self.line;
        match self.state {
            State::RequestLine => line.length >= NAME_LIMIT,
            State::Fields { .. } => {
                line.name_length.is_some() && line.length > 0 && !line.is(CONTENT_LENGTH)
            }
            _ => false,
        }
    }

    /// Whether a head has begun that has not ended.
    pub fn is_in_head(&self) -> bool {
        matches!(
            self.state,
            State::RequestLine
                | State::Preface { .. }
                | State::Fields {
                    are_trailers: false
                }
        )
    }

    /// How many heads have ended; the preface of HTTP/2 counts as one.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    fn after_request_line(&mut self) -> State {
        let is_http2 = self.line.name.starts_with(PREFACE);
        self.line = Line::default();
        if is_http2 {
            return State::Preface { left: PREFACE_REST };
        }
        State::Fields {
            are_trailers: false,
        }
    }

    /// Whether the header whose name has just ended is the second one that gives a length.
    fn has_second_length(&mut self) -> bool {
        if self.line.is(TRANSFER_ENCODING) {
            self.head.is_chunked = true;
        } else if self.line.is(CONTENT_LENGTH) {
            self.head.length.get_or_insert(0);
        } else {
            return false;
        }
        self.head.is_chunked && self.head.length.is_some()
    }

    fn end_field(&mut self, are_trailers: bool) {
        let line = std::mem::take(&mut self.line);
        if line.length > 0 {
            if !are_trailers && line.name_length.is_some() && line.is(CONTENT_LENGTH) {
                self.head.length = Some(line.value);
            }
            return;
        }
        self.state = match self.head {
            _ if are_trailers => State::Between,
            Head {
                is_chunked: true, ..
            } => State::ChunkSize,
            Head { length, .. } => match length.unwrap_or(0) {
                0 => State::Between,
                left => State::Body { left },
            },
        };
        self.heads += u64::from(!are_trailers);
    }

    fn take_of_size(&mut self, byte: u8) {
        match char::from(byte).to_digit(16) {
            Some(digit) if !self.line.value_ends => {
                self.line.value = (self.line.value << 4) | u64::from(digit);
            }
            // An extension, which has digits of its own.
            _ => self.line.value_ends = true,
        }
    }

    fn after_chunk_size(&mut self) -> State {
        let line = std::mem::take(&mut self.line);
        match line.value {
            0 => State::Fields { are_trailers: true },
            left => State::Chunk { left },
        }
    }
}

/// What a server reports of the bytes of its connection.
pub trait Observer {
    /// A read has ended in this state. `has_both`: a head had two lengths.
    fn read(&mut self, framing: &Framing, has_both: bool);

    /// The kernel has taken `bytes` of `offered` bytes.
    fn wrote(&mut self, bytes: usize, offered: usize);
}

impl Observer for () {
    fn read(&mut self, _: &Framing, _: bool) {}

    fn wrote(&mut self, _: usize, _: usize) {}
}

/// A stream whose requests are followed while the server reads them.
#[derive(Debug)]
pub struct Framed<S, O = ()> {
    stream: S,
    framing: Framing,
    observer: O,
}

impl<S, O> Framed<S, O> {
    pub fn new(stream: S, observer: O) -> Self {
        Framed {
            stream,
            framing: Framing::default(),
            observer,
        }
    }
}

impl<S: AsyncRead + Unpin, O: Observer + Unpin> AsyncRead for Framed<S, O> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let has_both = this.framing.follow(&mut buffer.filled_mut()[before..]);
        this.observer.read(&this.framing, has_both);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin, O: Observer + Unpin> Framed<S, O> {
    fn note(&mut self, written: &Poll<io::Result<usize>>, offered: usize) {
        match written {
            Poll::Ready(Ok(bytes)) => self.observer.wrote(*bytes, offered),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.observer.wrote(0, offered),
        }
    }
}

impl<S: AsyncWrite + Unpin, O: Observer + Unpin> AsyncWrite for Framed<S, O> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.note(&written, bytes.len());
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.note(&written, slices.iter().map(|slice| slice.len()).sum());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "transfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n";

    /// The state after these bytes, in pieces of every size.
    fn followed(bytes: &str, check: impl Fn(&Framing, bool, &[u8])) {
        for size in 1..=bytes.len() {
            let mut framing = Framing::default();
            let mut bytes = bytes.as_bytes().to_vec();
            let mut has_both = false;
            for piece in bytes.chunks_mut(size) {
                has_both |= framing.follow(piece);
            }
            check(&framing, has_both, &bytes);
        }
    }

    #[test]
    fn a_head_with_two_lengths_is_made_invalid() {
        for head in [
            "POST / HTTP/1.1\r\nContent-Length: 4\r\nhost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTRANSFER-ENCODING: identity\r\nCONTENT-LENGTH: 0\r\n\r\n",
            "\r\n\nPOST / HTTP/1.1\ncontent-length:4\ntransfer-encoding:chunked\n\n",
        ] {
            followed(head, |_, has_both, after| {
                assert!(has_both, "{head}");
                assert_eq!(after.iter().filter(|byte| **byte == 0).count(), 1);
            });
        }
    }

    #[test]
    fn bodies_pass_as_they_are_whatever_they_contain() {
        let length = BODY.len();
        for request in [
            format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{BODY}"),
            format!("POST / HTTP/1.1\r\ncontent-length:\t{length} \r\n\r\n{BODY}"),
            format!(
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
                 {length:x};a=b\r\n{BODY}\r\n{length:X}\r\n{BODY}\r\n0\r\ncontent-length: 7\r\n\r\n"
            ),
            "GET / HTTP/1.1\r\nhost: a\r\nx-transfer-encoding: a\r\ncontent-lengths: 1\r\n\r\n"
                .to_owned(),
        ] {
            let twice = format!("{request}{request}");
            followed(&twice, |framing, has_both, after| {
                assert!(!has_both, "{request}");
                assert_eq!(after, twice.as_bytes());
                assert_eq!((framing.heads(), framing.is_in_head()), (2, false));
            });
        }
    }

    #[test]
    fn a_head_is_under_way_from_its_first_byte_to_its_last() {
        for (bytes, expected) in [
            ("", false),
            ("\r\n", false),
            ("G", true),
            ("GET / HTTP/1.1\r\nhost: a\r\n", true),
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", false),
            ("GET / HTTP/1.1\r\n\r\nG", true),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r", true),
            ("POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nG", false),
            (
                "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2",
                false,
            ),
        ] {
            let mut framing = Framing::default();
            framing.follow(&mut bytes.as_bytes().to_vec());
            assert_eq!(framing.is_in_head(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn http_2_passes_as_it_is() {
        let bytes = format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nPOST /\r\n{BODY}");
        followed(&bytes, |framing, has_both, after| {
            assert!(!has_both && !framing.is_in_head());
            assert_eq!((framing.heads(), after), (1, bytes.as_bytes()));
        });
    }
}
