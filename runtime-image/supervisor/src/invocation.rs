//! One lease's payloads, on their way between gateway and runtime process.
//!
//! Owns event, posted body, log tail and the reply until the invocation is answered and closed.
//! Fed by `worker`, which does with it what core's `Machine` says; never looks into a payload,
//! but for the error type when errors are sanitised.

use std::collections::VecDeque;

use bytes::Bytes;
use hyper::header::HeaderValue;
use pilotlight_core::instance::phases::Phases;
use pilotlight_core::instance::{Outcome, Refusal, RequestId, Status};
use tokio::sync::oneshot;

use crate::response::{FunctionError, JSON};

/// What a caller is given of the log (contract §4).
const TAIL_LIMIT: usize = 4096;
/// Of an error's type, where only that is told: longer ones are a text.
const TYPE_LIMIT: usize = 256;

/// One invocation as the gateway hands it over.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) request_id: RequestId,
    pub(crate) event: Bytes,
    pub(crate) function_arn: HeaderValue,
    pub(crate) trace_id: Option<HeaderValue>,
    pub(crate) client_context: Option<HeaderValue>,
    pub(crate) wants_tail: bool,
    /// Of the cold start before it, if it had one.
    pub(crate) phases: Option<Phases>,
}

/// An invocation as the runtime's `next` gets it.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) call: Call,
    /// Milliseconds since the epoch.
    pub(crate) deadline_ms: u64,
}

/// A response or an error as the runtime posted it.
#[derive(Debug)]
pub(crate) struct Posted {
    pub(crate) body: Bytes,
    pub(crate) content_type: Option<HeaderValue>,
    /// The function error type header, if it has a value of the documented form.
    pub(crate) error_type: Option<String>,
}

/// What the gateway gets.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) succeeded: bool,
    pub(crate) body: Bytes,
    pub(crate) content_type: HeaderValue,
    pub(crate) tail: Option<Vec<u8>>,
    /// What was to be done in this instance before.
    pub(crate) phases: Phases,
    pub(crate) status: Status,
}

pub(crate) type Reply = oneshot::Sender<Result<Answer, Refusal>>;

#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) call: Call,
    pub(crate) posted: Option<Posted>,
    /// END and REPORT are logged.
    closed: bool,
    tail: Tail,
    /// Waits for REPORT, as the caller wants the log's tail.
    held: Option<Answer>,
    reply: Option<Reply>,
}

/// The end of a log, up to the limit.
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

    /// From its first whole character on.
    fn take(&mut self) -> Vec<u8> {
        let is_inside = |byte: &&u8| (0x80..0xC0).contains(*byte);
        let cut = self.0.iter().take_while(is_inside).count();
        self.0.drain(..cut);
        std::mem::take(&mut self.0).into()
    }
}

impl Invocation {
    /// `before`: the log since the previous invocation.
    pub(crate) fn new(call: Call, reply: Reply, before: Tail) -> Self {
        Invocation {
            call,
            posted: None,
            closed: false,
            tail: before,
            held: None,
            reply: Some(reply),
        }
    }

    /// Whether its caller has the answer and its last record is not logged yet.
    pub(crate) fn is_answered(&self) -> bool {
        self.reply.is_none() && !self.closed
    }

    /// Answered and closed: nothing will ask for it again.
    pub(crate) fn is_over(&self) -> bool {
        self.closed && self.reply.is_none()
    }

    pub(crate) fn add_to_tail(&mut self, text: &str) {
        if self.call.wants_tail {
            self.tail.add(text);
        }
    }

    /// Sends the answer, or keeps it until [`Invocation::close`] if it shall bring the tail.
    pub(crate) fn answer(&mut self, answer: Answer) {
        match self.call.wants_tail && !self.closed {
            true => self.held = Some(answer),
            false => self.send(answer),
        }
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
        if let Some(answer) = self.held.take() {
            self.send(answer);
        }
    }

    pub(crate) fn release(mut self, refusal: Refusal) {
        if let Some(reply) = self.reply.take() {
            // A gateway that went away does not want to know.
            let _ = reply.send(Err(refusal));
        }
    }

    fn send(&mut self, mut answer: Answer) {
        if self.call.wants_tail {
            answer.tail = Some(self.tail.take());
        }
        if let Some(reply) = self.reply.take() {
            // The invocation runs to its end without its caller as well.
            let _ = reply.send(Ok(answer));
        }
    }
}

/// Body and content type of an answer.
pub(crate) fn answer_body(
    call: &Call,
    outcome: Outcome,
    posted: Option<Posted>,
    sanitize: bool,
) -> (Bytes, HeaderValue) {
    let json = HeaderValue::from_static(JSON);
    match (outcome, posted) {
        (Outcome::Success, Some(posted)) => (posted.body, posted.content_type.unwrap_or(json)),
        (_, Some(posted)) if sanitize => (sanitised(call, &posted, outcome), json),
        (Outcome::FunctionError, Some(posted)) => {
            (posted.body, posted.content_type.unwrap_or(json))
        }
        (Outcome::Failed(_), Some(posted)) => (posted.body, posted.content_type.unwrap_or(json)),
        (Outcome::Failed(failure), None) => {
            let error_message = &failure.message(&call.request_id);
            let error = FunctionError {
                error_type: failure.error_type(),
                error_message,
            };
            (error.to_bytes(), json)
        }
        (Outcome::Success | Outcome::FunctionError, None) => {
            unreachable!("the machine answers so only what the runtime posted")
        }
    }
}

fn sanitised(call: &Call, posted: &Posted, outcome: Outcome) -> Bytes {
    #[derive(serde::Deserialize)]
    struct Typed {
        #[serde(rename = "errorType")]
        error_type: String,
    }
    let of_failure = match outcome {
        Outcome::Failed(failure) => failure.error_type(),
        Outcome::Success | Outcome::FunctionError => "Function.Unknown",
    };
    let in_body = serde_json::from_slice::<Typed>(&posted.body)
        .ok()
        .map(|typed| typed.error_type);
    let is_type = |name: &&str| (1..=TYPE_LIMIT).contains(&name.len());
    let in_body = in_body.as_deref().filter(is_type);
    let error_type = in_body
        .or(posted.error_type.as_deref())
        .unwrap_or(of_failure);
    let error_message = &format!(
        "The function failed. Its error is in the function's log under RequestId: {}",
        call.request_id
    );
    FunctionError {
        error_type,
        error_message,
    }
    .to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sanitised_error_tells_its_type_but_no_text_in_the_place_of_one() {
        let call = Call {
            request_id: "8f3c".into(),
            event: Bytes::new(),
            function_arn: HeaderValue::from_static("arn"),
            trace_id: None,
            client_context: None,
            wants_tail: false,
            phases: None,
        };
        let long = "secret ".repeat(100);
        for (in_body, told) in [("ValueError", "ValueError"), (&long, "Function.Unknown")] {
            let posted = Posted {
                body: Bytes::from(format!(
                    r#"{{"errorType":"{in_body}","errorMessage":"secret"}}"#
                )),
                content_type: None,
                error_type: None,
            };
            let (body, _) = answer_body(&call, Outcome::FunctionError, Some(posted), true);
            let body = String::from_utf8_lossy(&body);
            assert!(body.contains(told) && !body.contains("secret"), "{body}");
        }
    }
}
