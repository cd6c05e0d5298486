//! Reads bodies within a limit.
//!
//! Used for events, answers, marks and reasons. Reports how the reading ended; the caller decides what that
//! means. `lines` reads bodies that have no end.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Body;

/// What became of reading a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Whole<E> {
    Complete(Bytes),
    /// It is larger than the limit.
    TooLarge,
    /// The sender, or the connection, ended before the body did.
    Broken(E),
}

/// Reads a body of at most `limit` bytes. Of a larger one it reads on and discards up to `discard` bytes, so
/// that the sender gets to read the answer.
pub async fn read<B>(body: B, limit: usize, discard: usize) -> Whole<B::Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    read_with_trailers(body, limit, discard).await.0
}

/// The same, with the trailers that follow the body.
pub async fn read_with_trailers<B>(
    mut body: B,
    limit: usize,
    discard: usize,
) -> (Whole<B::Error>, HeaderMap)
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut whole = Bytes::new();
    let mut joined = BytesMut::new();
    let mut trailers = HeaderMap::new();
    let mut size = 0_usize;
    while size <= limit.saturating_add(discard)
        && let Some(frame) = body.frame().await
    {
        let data = match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => data,
            Ok(Err(frame)) => {
                trailers = frame.into_trailers().unwrap_or_default();
                continue;
            }
            Err(error) => return (Whole::Broken(error), trailers),
        };
        let is_first = size == 0;
        size += data.len();
        if size > limit {
            (whole, joined) = (Bytes::new(), BytesMut::new());
        } else if is_first {
            // Most bodies come in one piece, and are not copied.
            whole = data;
        } else {
            if joined.is_empty() {
                let rest = body.size_hint().lower().min(limit as u64) as usize;
                joined.reserve(size + rest);
                joined.extend_from_slice(&whole);
            }
            joined.extend_from_slice(&data);
        }
    }
    let read = match joined.is_empty() {
        _ if size > limit => Whole::TooLarge,
        true => Whole::Complete(whole),
        false => Whole::Complete(joined.freeze()),
    };
    (read, trailers)
}

/// Reads a body that nobody needs, up to about `limit` bytes, so that its sender gets to read the answer.
pub async fn discard(mut body: impl Body<Data = Bytes> + Unpin, limit: usize) {
    let mut read = 0;
    while read < limit
        && let Some(Ok(frame)) = body.frame().await
    {
        read += frame.data_ref().map_or(0, Bytes::len);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::Frame;

    use super::*;

    struct Pieces(VecDeque<&'static [u8]>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let piece = self.0.pop_front();
            Poll::Ready(piece.map(|piece| Ok(Frame::data(Bytes::from_static(piece)))))
        }
    }

    fn pieces(pieces: &[&'static [u8]]) -> Pieces {
        Pieces(pieces.iter().copied().collect())
    }

    #[tokio::test]
    async fn a_body_is_whole_up_to_its_limit() {
        for (sent, expected) in [
            (&[][..], Whole::Complete(Bytes::new())),
            (&[&b"abcd"[..]], Whole::Complete("abcd".into())),
            (&[&b"ab"[..], b"", b"cd"], Whole::Complete("abcd".into())),
            (&[&b"ab"[..], b"cde"], Whole::TooLarge),
            (&[&b"abcde"[..]], Whole::TooLarge),
        ] {
            assert_eq!(read(pieces(sent), 4, 64).await, expected, "{sent:?}");
        }
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_read_on_within_a_bound() {
        let mut body = pieces(&[b"abcd", b"e", b"f", b"g", b"h"]);
        assert_eq!(read(&mut body, 4, 2).await, Whole::TooLarge);
        assert_eq!(body.0, [b"h"]);
        let mut body = pieces(&[b"abcd", b"e", b"f"]);
        discard(&mut body, 5).await;
        assert_eq!(body.0, [b"f"]);
    }
}
