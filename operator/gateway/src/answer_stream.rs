//! An answer that comes piece by piece: the writer that reads it off a connection, and the stream that a handler
//! takes it from.
//!
//! The task of an instance (`instance`) and the way to a peer (`cluster::peers`) write. `http::invoke` collects the
//! stream, as its callers get whole answers; `http::parts` passes it on to the gateway that asked. A writer that goes
//! away without an outcome has lost the invocation. A reader that goes away does not end the invocation: the writer
//! discards what still comes.

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use pilotlight_core::instance::failure::PAYLOAD_LIMIT;
use pilotlight_net::body::{self, Whole};
use pilotlight_wire::invoke::Outcome;
use pilotlight_wire::stream::{StreamEnd, StreamHead};
use tokio::sync::{mpsc, oneshot};

use crate::intake::Intake;
use crate::metrics::{OutcomeLabel, Tally};

/// Pieces that wait for the reader. While they do, the connection that they come from is not read further.
const PIECES: usize = 2;

/// The reader's end.
#[derive(Debug)]
pub(crate) struct AnswerStream {
    pub(crate) head: StreamHead,
    pieces: mpsc::Receiver<Bytes>,
    end: oneshot::Receiver<StreamEnd>,
}

/// The writer's end.
#[derive(Debug)]
pub(crate) struct AnswerWriter {
    pieces: mpsc::Sender<Bytes>,
    /// `None` once the end has been sent.
    end: Option<oneshot::Sender<StreamEnd>>,
    /// Counts the invocation when the stream ends. `None` if another gateway counts it.
    tally: Option<Tally>,
}

/// The stream ended before its outcome came.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
struct BrokenOff;

pub(crate) fn channel(head: StreamHead, tally: Option<Tally>) -> (AnswerWriter, AnswerStream) {
    let (send_piece, pieces) = mpsc::channel(PIECES);
    let (send_end, end) = oneshot::channel();
    let writer = AnswerWriter {
        pieces: send_piece,
        end: Some(send_end),
        tally,
    };
    (writer, AnswerStream { head, pieces, end })
}

impl AnswerWriter {
    /// Passes a body on while it comes, and returns the outcome in its trailers; `None` if it broke off before.
    pub(crate) async fn copy<B>(&self, mut body: B) -> Option<StreamEnd>
    where
        B: hyper::body::Body<Data = Bytes> + Unpin,
    {
        while let Some(frame) = body.frame().await {
            match frame.ok()?.into_data() {
                // It fails if the reader has gone. The rest is read all the same, so that the outcome is known.
                Ok(piece) => drop(self.pieces.send(piece).await),
                Err(other) => return StreamEnd::read(other.trailers_ref()?),
            }
        }
        None
    }

    pub(crate) fn end(mut self, mut end: StreamEnd) {
        match (self.tally.take(), &mut end.report) {
            (Some(mut tally), _) => {
                tally.failed(end.failure);
                tally.ended(match end.error {
                    None => OutcomeLabel::Success,
                    Some(_) => OutcomeLabel::FunctionError,
                });
            }
            // It comes from another gateway.
            (None, Some(report)) => report.is_forwarded = true,
            (None, None) => {}
        }
        if let Some(sender) = self.end.take() {
            // It fails if the reader has gone.
            let _ = sender.send(end);
        }
    }
}

impl Drop for AnswerWriter {
    fn drop(&mut self) {
        if let Some(tally) = self.tally.take() {
            tally.ended(OutcomeLabel::Lost);
        }
    }
}

impl AnswerStream {
    /// The outcome, once there was room for the answer and it has come to its end. One beyond the limit is none of a
    /// supervisor, and reads as a lost invocation.
    pub(crate) async fn collect(self, intake: &Intake) -> Outcome {
        let room = intake.room(PAYLOAD_LIMIT).await;
        let AnswerStream {
            head,
            mut pieces,
            end,
        } = self;
        let frames = stream::poll_fn(move |context| {
            let piece = pieces.poll_recv(context);
            piece.map(|piece| Some(Ok::<_, BrokenOff>(Frame::data(piece?))))
        });
        match body::read(StreamBody::new(frames), PAYLOAD_LIMIT, 0).await {
            Whole::Complete(body) => match end.await {
                Ok(end) => {
                    let mut answer = head.into_answer(body, end);
                    answer.body = room.hold(answer.body);
                    Outcome::Answered(answer)
                }
                Err(_) => Outcome::Lost,
            },
            Whole::TooLarge | Whole::Broken(_) => Outcome::Lost,
        }
    }

    /// The same stream as a response to another gateway.
    pub(crate) fn into_response(self) -> Response<Body> {
        let AnswerStream { head, pieces, end } = self;
        let frames = stream::unfold((pieces, Some(end)), |(mut pieces, end)| async move {
            let end = end?;
            // The end of a complete stream was sent after its last piece.
            if let Some(piece) = pieces.recv().await {
                return Some((Ok(Frame::data(piece)), (pieces, Some(end))));
            }
            let end = end.await.map_err(|_| BrokenOff);
            let trailers = end.map(|end| Frame::trailers(end.into_trailers()));
            Some((trailers, (pieces, None)))
        });
        head.into_response(Body::new(StreamBody::new(frames)))
    }
}
