//! The trace of a call: read from its headers, and the headers that its answer and its next hop get.
//!
//! Reads for `http::invoke`, by `core::traces`, which decides what the headers mean. A header that cannot be read counts as
//! absent.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use pilotlight_core::ids::{FunctionKey, PoolId};
use pilotlight_core::instance::RequestId;
use pilotlight_core::traces::context::{Fresh, TraceContext, TraceHeaders};
use pilotlight_core::traces::ids::SpanId;

use crate::clock;
use crate::message::Outcome;
use crate::traces::{Recording, Traces, Trigger};

/// The trace of an invocation in X-Ray's form, in the request and in the answer.
pub(super) const XRAY: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The trace in W3C's form, in the answer to a call that has one: <https://www.w3.org/TR/trace-context-2/>.
const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// Ids need to be unique but not secret, so they are hashes of the request id under keys of this process.
fn random(request_id: &RequestId, place: u8) -> u64 {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    KEYS.hash_one((request_id, place))
}

/// The trace of one call.
#[derive(Debug)]
pub(super) struct CallTrace {
    /// For the next hop and the answer.
    pub(super) xray: HeaderValue,
    pub(super) state: Option<HeaderValue>,
    /// For the answer to a caller that speaks W3C.
    response: Option<HeaderValue>,
    /// The chain of calls that led to this one goes round in a circle.
    pub(super) is_loop: bool,
    /// `None` if spans go nowhere.
    recording: Option<Box<Recording>>,
}

impl CallTrace {
    /// The caller's trace, or a new one if it is absent or malformed, since a malformed header must not fail the call. Where
    /// spans go somewhere, the function's parent is a span of this call, and it is decided here whether they are kept.
    ///
    /// `function`: the one that is called, and is counted among those that led to it.
    pub(super) fn of(
        headers: &HeaderMap,
        function: Option<&FunctionKey>,
        (request_id, arrived): (&RequestId, Instant),
        traces: Option<&Traces>,
    ) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let bits = |place| random(request_id, place);
        let traceparent = text(TRACEPARENT);
        // Most calls have none, and need no list of its states.
        let states = traceparent.and_then(|_| states(headers));
        let given = TraceHeaders {
            xray: text(XRAY),
            traceparent,
            tracestate: states.as_deref(),
        };
        let fresh = Fresh {
            // Eight hexadecimal digits last until the year 2106.
            seconds: clock::seconds() as u32,
            random: &bits,
        };
        let mut context = TraceContext::of_call(given, fresh);
        let is_loop = function.is_some_and(|function| context.calls(function));
        let state = context.state.clone().map(value);
        let with = |context: &TraceContext, parent, is_sampled| {
            let response = traceparent.map(|_| value(context.to_traceparent(parent, is_sampled)));
            (value(context.to_xray(parent, is_sampled)), response)
        };
        let ((xray, response), recording) = match traces {
            None => {
                let parent = context.parent;
                let parent = parent.unwrap_or_else(|| SpanId::of_random(bits(2)));
                (with(&context, parent, context.decision == Some(true)), None)
            }
            Some(traces) => {
                let call = (request_id, arrived);
                let recording = Recording::begin(traces, context, call, Trigger::Http, random);
                let headers = with(recording.context(), recording.run, recording.is_sampled);
                (headers, Some(recording))
            }
        };
        CallTrace {
            xray,
            state,
            response,
            is_loop,
            recording,
        }
    }

    pub(super) fn is_recorded(&self) -> bool {
        self.recording.is_some()
    }

    /// The call goes to this function.
    pub(super) fn calls(&mut self, target: &PoolId) {
        if let Some(recording) = &mut self.recording {
            recording.calls(target);
        }
    }

    /// The call has ended so.
    pub(super) fn end(&mut self, outcome: &mut Outcome) {
        if let Some(recording) = self.recording.take() {
            recording.end(outcome);
        }
    }

    /// The call to this function brings an event: its attempts are children of the call.
    pub(super) fn brings_event(&mut self, target: &PoolId) {
        self.calls(target);
        if let Some(recording) = &self.recording {
            self.xray = value(recording.header_of_event());
            if let Some(response) = &mut self.response {
                *response = value(recording.response_of_event());
            }
        }
    }

    /// The event that the call has brought was accepted, or not.
    pub(super) fn end_with_event(&mut self, is_accepted: bool) {
        if let Some(recording) = self.recording.take() {
            recording.end_with_event(is_accepted);
        }
    }

    pub(super) fn answer(self, headers: &mut HeaderMap) {
        headers.insert(XRAY, self.xray);
        if let Some(response) = self.response {
            headers.insert(TRACERESPONSE, response);
        }
    }
}

/// The list of states, which may come in several headers.
fn states(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(TRACESTATE).iter();
    let mut list = values.next()?.to_str().ok()?.to_owned();
    for value in values {
        list.push(',');
        list.push_str(value.to_str().ok()?);
    }
    Some(list)
}

fn value(text: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(text))
        .expect("`core::traces` has printable ASCII only")
}
