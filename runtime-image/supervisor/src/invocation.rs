//! One invocation's payloads, between the gateway that leases the instance and the runtime process.
//!
//! Owns the event, the posted body, the log tail and the gateway's waiting channel until the invocation is
//! answered and closed. `worker` calls it as core's `Machine` decides. Never looks into a payload, except
//! for the error type when errors are sanitised.

use std::collections::VecDeque;
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use hyper::header::HeaderValue;
use pilotlight_core::instance::phases::{Phase, Phases};
use pilotlight_core::instance::{Outcome, Refusal};
use pilotlight_core::traces::spans::CallReport;
use pilotlight_wire::answer::LeaseAnswer;
use pilotlight_wire::lease::LeaseRequest;
use pilotlight_wire::stream::{StreamEnd, StreamHead};
use tokio::sync::{mpsc, oneshot};

use crate::clock;
use crate::response::{FunctionError, JSON};
use crate::segments::{Daemon, Received};

/// Bytes of the log that a caller can ask for (contract §4).
const TAIL_LIMIT: usize = 4096;
/// The longest error type that a sanitised error repeats. A longer one, or one of several words, is no name, and may
/// be a message.
const ERROR_TYPE_LIMIT: usize = 256;

/// An invocation as the runtime process receives it from `next`.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) request: LeaseRequest,
    /// Milliseconds since the epoch.
    pub(crate) deadline_ms: u64,
}

/// A response or an error that the runtime process posted.
#[derive(Debug)]
pub(crate) struct Posted {
    pub(crate) body: Bytes,
    pub(crate) content_type: Option<HeaderValue>,
    /// The value of the error type header, or a substitute if it does not have the documented form.
    pub(crate) error_type: Option<String>,
}

/// What the gateway's request gets.
#[derive(Debug)]
pub(crate) enum Answered {
    Whole(LeaseAnswer),
    Stream(AnswerStream),
}

/// A response of the runtime that goes to the gateway while it comes.
#[derive(Debug)]
pub(crate) struct AnswerStream {
    pub(crate) head: StreamHead,
    /// At most [`PIECES`] wait here; then the runtime's connection is not read further.
    pub(crate) pieces: mpsc::Receiver<Bytes>,
    pub(crate) end: oneshot::Receiver<StreamEnd>,
}

/// Pieces of a streamed response that wait for the gateway to take them.
const PIECES: usize = 2;

/// Where the gateway's request waits for its answer.
pub(crate) type AnswerSender = oneshot::Sender<Result<Answered, Refusal>>;

/// Where an answer goes.
#[derive(Debug)]
enum Gateway {
    Waiting(AnswerSender),
    /// It reads the stream, and waits for its end.
    Streaming(oneshot::Sender<StreamEnd>),
    Answered,
}

/// An invocation from its lease until it is answered and closed.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) request: LeaseRequest,
    pub(crate) posted: Option<Posted>,
    /// Whether END and REPORT are logged.
    closed: bool,
    tail: Tail,
    /// An answer that waits for REPORT, because the caller wants the log's tail.
    held: Option<LeaseAnswer>,
    gateway: Gateway,
    /// For the task that reads the runtime's streamed response, once that has begun.
    pieces: Option<mpsc::Sender<Bytes>>,
    leased: Instant,
    /// When the runtime process got the event.
    pub(crate) delivered: Option<Instant>,
    received: Received,
}

/// The last [`TAIL_LIMIT`] bytes of a log.
#[derive(Debug, Default)]
pub(crate) struct Tail(VecDeque<u8>);

impl Tail {
    pub(crate) fn add(&mut self, text: &str) {
        let end = &text.as_bytes()[text.len().saturating_sub(TAIL_LIMIT)..];
        self.0.extend(end);
        self.0.push_back(b'\n');
        let excess = self.0.len().saturating_sub(TAIL_LIMIT);
        self.0.drain(..excess);
    }

    /// Empties it. A character whose beginning is cut off is left out.
    fn take(&mut self) -> Vec<u8> {
        let is_inside = |byte: &&u8| (0x80..0xC0).contains(*byte);
        let cut = self.0.iter().take_while(is_inside).count();
        self.0.drain(..cut);
        std::mem::take(&mut self.0).into()
    }
}

impl Invocation {
    /// `before`: what was logged since the previous invocation.
    pub(crate) fn new(request: LeaseRequest, waiting: AnswerSender, before: Tail) -> Self {
        Invocation {
            request,
            posted: None,
            closed: false,
            tail: before,
            held: None,
            gateway: Gateway::Waiting(waiting),
            pieces: None,
            leased: clock::now(),
            delivered: None,
            received: Received::default(),
        }
    }

    /// Where segments of the function belong until it is answered.
    pub(crate) fn receiving(&mut self) -> Option<(&LeaseRequest, &mut Received)> {
        let is_open = !matches!(self.gateway, Gateway::Answered) && self.held.is_none();
        is_open.then_some((&self.request, &mut self.received))
    }

    /// What the answer says for the trace, if the gateway wants that.
    pub(crate) fn report(
        &mut self,
        now: Instant,
        daemon: Option<&mut Daemon>,
    ) -> Option<Box<CallReport>> {
        // Read in any case, so that the next invocation finds none of this one.
        let segments = daemon.map(|daemon| daemon.read_all(&self.request, &mut self.received));
        self.request.wants_report.then_some(())?;
        let mut phases = Phases::default();
        let since = |later: Instant, earlier: Instant| later.saturating_duration_since(earlier);
        if let Some(delivered) = self.delivered {
            phases.add(Phase::Queue, Some(since(delivered, self.leased)));
            phases.add(Phase::Run, Some(since(now, delivered)));
        }
        Some(Box::new(CallReport {
            phases,
            segments: segments.unwrap_or_default(),
            instance: None,
            is_forwarded: false,
        }))
    }

    /// Whether the answer is sent while the last record is not logged yet.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self.gateway, Gateway::Answered) && !self.closed
    }

    /// Whether it is answered and closed, so that nothing refers to it any more.
    pub(crate) fn is_over(&self) -> bool {
        self.closed && matches!(self.gateway, Gateway::Answered)
    }

    pub(crate) fn add_to_tail(&mut self, text: &str) {
        if self.request.wants_log_tail {
            self.tail.add(text);
        }
    }

    /// Sends the answer, or keeps it until [`Invocation::close`] if the caller wants the log's tail.
    pub(crate) fn answer(&mut self, answer: LeaseAnswer) {
        match self.request.wants_log_tail && !self.closed {
            true => self.held = Some(answer),
            false => self.send(answer),
        }
    }

    /// The invocation's last record is logged.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        if let Some(answer) = self.held.take() {
            self.send(answer);
        }
    }

    /// Gives the lease back: the event was not handed to the runtime process.
    pub(crate) fn release(mut self, refusal: Refusal) {
        if let Gateway::Waiting(waiting) = self.answered() {
            // It fails if the gateway has closed its connection, and needs no answer.
            let _ = waiting.send(Err(refusal));
        }
    }

    fn send(&mut self, mut answer: LeaseAnswer) {
        if self.request.wants_log_tail {
            let tail = BASE64_STANDARD.encode(self.tail.take());
            answer.log_tail = Some(HeaderValue::try_from(tail).expect("base64 is ASCII"));
        }
        // Both fail if the gateway has closed its connection. An invocation runs to its end all the same.
        match self.answered() {
            Gateway::Waiting(waiting) => {
                let _ = waiting.send(Ok(Answered::Whole(answer)));
            }
            Gateway::Streaming(end) => {
                let _ = end.send(StreamEnd {
                    error: answer.is_error.then_some(answer.body),
                    log_tail: answer.log_tail,
                    status: Some(answer.status),
                    report: answer.report,
                    failure: answer.failure,
                });
            }
            Gateway::Answered => {}
        }
    }

    fn answered(&mut self) -> Gateway {
        std::mem::replace(&mut self.gateway, Gateway::Answered)
    }

    /// Has the gateway read the runtime's response while it comes; [`Invocation::answer`] ends it.
    pub(crate) fn begin_answer(&mut self, head: StreamHead) {
        let (pieces, coming) = mpsc::channel(PIECES);
        let (tell_end, end) = oneshot::channel();
        if let Gateway::Waiting(waiting) =
            std::mem::replace(&mut self.gateway, Gateway::Streaming(tell_end))
        {
            self.pieces = Some(pieces);
            let pieces = coming;
            // It fails if the gateway has closed its connection. An invocation runs to its end all the same.
            let _ = waiting.send(Ok(Answered::Stream(AnswerStream { head, pieces, end })));
        }
    }

    pub(crate) fn take_pieces(&mut self) -> Option<mpsc::Sender<Bytes>> {
        self.pieces.take()
    }
}

/// The body and the content type of an answer.
pub(crate) fn answer_body(
    request: &LeaseRequest,
    outcome: Outcome,
    posted: Option<Posted>,
    sanitize: bool,
) -> (Bytes, HeaderValue) {
    let json = HeaderValue::from_static(JSON);
    match (outcome, posted) {
        (Outcome::Success, Some(posted)) => (posted.body, posted.content_type.unwrap_or(json)),
        (_, Some(posted)) if sanitize => (sanitised(request, Some(&posted), outcome), json),
        (Outcome::Failed(failure), None) if sanitize && !failure.is_of_the_platform() => {
            (sanitised(request, None, outcome), json)
        }
        (Outcome::FunctionError, Some(posted)) => {
            (posted.body, posted.content_type.unwrap_or(json))
        }
        (Outcome::Failed(_), Some(posted)) => (posted.body, posted.content_type.unwrap_or(json)),
        (Outcome::Failed(failure), None) => {
            let error_message = &failure.message(&request.request_id);
            let error = FunctionError {
                error_type: failure.error_type(),
                error_message,
            };
            (error.to_bytes(), json)
        }
        (Outcome::Success | Outcome::FunctionError, None) => {
            unreachable!("the machine has these outcomes only after the runtime posted a body")
        }
    }
}

/// An error body that keeps the error's type and leaves out its text, which may hold secrets.
fn sanitised(request: &LeaseRequest, posted: Option<&Posted>, outcome: Outcome) -> Bytes {
    #[derive(serde::Deserialize)]
    struct Typed {
        #[serde(rename = "errorType")]
        error_type: String,
    }
    let of_failure = match outcome {
        Outcome::Failed(failure) => failure.error_type(),
        Outcome::Success | Outcome::FunctionError => "Function.Unknown",
    };
    let in_body = posted.and_then(|posted| serde_json::from_slice::<Typed>(&posted.body).ok());
    let in_body = in_body.map(|typed| typed.error_type);
    let is_type = |name: &&str| {
        (1..=ERROR_TYPE_LIMIT).contains(&name.len()) && !name.contains(char::is_whitespace)
    };
    let in_body = in_body.as_deref().filter(is_type);
    let error_type = in_body
        .or(posted.and_then(|posted| posted.error_type.as_deref()))
        .unwrap_or(of_failure);
    let error_message = &format!(
        "The function failed. Its error is in the function's log under RequestId: {}",
        request.request_id
    );
    FunctionError {
        error_type,
        error_message,
    }
    .to_bytes()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pilotlight_core::instance::failure::{Exit, Failure};

    use super::*;

    #[test]
    fn a_sanitised_error_keeps_its_type_unless_that_is_as_long_as_a_message() {
        let request = LeaseRequest {
            request_id: "8f3c".into(),
            event: Bytes::new(),
            function_arn: HeaderValue::from_static("arn"),
            trace_id: None,
            trace_state: None,
            client_context: None,
            wants_log_tail: false,
            wants_report: false,
            accepts_stream: false,
            phases: None,
        };
        let long = "secret".repeat(100);
        for (in_body, expected) in [
            ("ValueError", "ValueError"),
            (&long, "Function.Unknown"),
            ("card secret", "Function.Unknown"),
        ] {
            let posted = Posted {
                body: Bytes::from(format!(
                    r#"{{"errorType":"{in_body}","errorMessage":"secret"}}"#
                )),
                content_type: None,
                error_type: None,
            };
            let (body, _) = answer_body(&request, Outcome::FunctionError, Some(posted), true);
            let body = String::from_utf8_lossy(&body);
            assert!(
                body.contains(expected) && !body.contains("secret"),
                "{body}"
            );
        }
        // The exit status is the function's to choose.
        for (failure, told) in [
            (Failure::Exit(Exit::Code(42)), false),
            (Failure::Timeout(Duration::from_secs(1)), true),
        ] {
            let (body, _) = answer_body(&request, Outcome::Failed(failure), None, true);
            let body = String::from_utf8_lossy(&body);
            assert!(body.contains(failure.error_type()), "{body}");
            let message = failure.message("8f3c");
            assert_eq!(body.contains(&message), told, "{body}");
        }
    }
}
