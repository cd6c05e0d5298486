//! The spans of this gateway's invocations: begun when a call arrives, handed to the exporter when it has ended.
//!
//! `http::invoke` begins a recording, and ends it with the outcome; a recording that is dropped before is a caller that went away.
//! An asynchronous call has a span until its event is accepted, and so has the time of a schedule; each attempt to run the event
//! (`events::attempt`) has a span of its own below that one.
//! `core::traces` decides what is kept and makes the spans; until then the call alone has what is known of it. Without
//! a collector there is no recording.

use std::hash::{BuildHasher, RandomState};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pilotlight_core::ids::PoolId;
use pilotlight_core::instance::RequestId;
use pilotlight_core::traces::context::TraceContext;
use pilotlight_core::traces::ids::SpanId;
use pilotlight_core::traces::sampling::Sampling;
use pilotlight_core::traces::spans::{Attribute, AttributeValue, CallReport, EndedCall};
use pilotlight_otlp::{SpanBatch, SpanExporter};

use crate::clock;
use crate::message::Outcome;
use crate::metrics::OutcomeLabel;

/// Where spans go, and which are kept. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Traces {
    pub exporter: SpanExporter,
    pub sampling: Sampling,
    /// Whether a controller has spans about the pods of instances.
    pub has_controller: bool,
}

/// Random bits for ids of the invocation's spans, others for each number.
pub(crate) type Bits = fn(&RequestId, u8) -> u64;

/// Bits that no other call gets, even with the same request id. They need not be secret.
pub(crate) fn fresh_bits(_: &RequestId, _: u8) -> u64 {
    RandomState::new().hash_one(())
}

/// Why a function is called: `faas.trigger` of OpenTelemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    Http,
    /// A schedule.
    Timer,
    /// An event that was accepted before.
    Event,
}

impl Trigger {
    fn as_str(self) -> &'static str {
        match self {
            Trigger::Http => "http",
            Trigger::Timer => "timer",
            Trigger::Event => "pubsub",
        }
    }
}

/// The numbers of [`Bits`] that are taken: `http::trace` has those below.
const CALL: u8 = 3;
const RUN: u8 = 4;
const PHASES: u8 = 5;

/// One call that is recorded.
#[derive(Debug)]
pub(crate) struct Recording {
    traces: Traces,
    bits: Bits,
    context: TraceContext,
    pub(crate) is_sampled: bool,
    id: SpanId,
    /// The parent of whatever the function does.
    pub(crate) run: SpanId,
    request_id: RequestId,
    trigger: Trigger,
    arrived: Instant,
    /// The time of day at the arrival.
    start: SystemTime,
    /// The function, once it is known to exist. A call without it has no span.
    target: Option<PoolId>,
}

/// How a call has ended, as its span says it.
struct End {
    name: &'static str,
    /// `None`: well.
    error: Option<&'static str>,
    has_run: bool,
}

impl Recording {
    pub(crate) fn begin(
        traces: &Traces,
        context: TraceContext,
        (request_id, arrived): (&RequestId, Instant),
        trigger: Trigger,
        bits: Bits,
    ) -> Box<Self> {
        Box::new(Recording {
            traces: traces.clone(),
            bits,
            is_sampled: traces.sampling.head(context.trace, context.decision),
            context,
            id: SpanId::of_random(bits(request_id, CALL)),
            run: SpanId::of_random(bits(request_id, RUN)),
            request_id: request_id.clone(),
            trigger,
            arrived,
            start: clock::time_of_day() - clock::since(arrived),
            target: None,
        })
    }

    pub(crate) fn context(&self) -> &TraceContext {
        &self.context
    }

    /// The call goes to this function.
    pub(crate) fn calls(&mut self, target: &PoolId) {
        self.target = Some(target.clone());
    }

    /// X-Ray's header for what runs in this call.
    pub(crate) fn header_of_run(&self) -> String {
        self.context.to_xray(self.run, self.is_sampled)
    }

    /// X-Ray's header for an event that this call brings: its attempts are children of the call.
    pub(crate) fn header_of_event(&self) -> String {
        self.context.to_xray(self.id, self.is_sampled)
    }

    /// `traceresponse` of such a call.
    pub(crate) fn response_of_event(&self) -> String {
        self.context.to_traceparent(self.id, self.is_sampled)
    }

    pub(crate) fn end(mut self: Box<Self>, outcome: &mut Outcome) {
        let report = match outcome {
            Outcome::Answered(answer) => answer.report.take(),
            _ => None,
        };
        let label = OutcomeLabel::of(outcome);
        let end = End {
            name: label.as_str(),
            error: label.error(),
            has_run: matches!(outcome, Outcome::Answered(_) | Outcome::Lost),
        };
        self.export(end, report.map(|report| *report));
    }

    /// The call has brought an event, which the queue has accepted or refused.
    pub(crate) fn end_with_event(mut self: Box<Self>, is_accepted: bool) {
        let (name, error) = match is_accepted {
            true => ("accepted", None),
            false => ("refused", Some("the event queue did not accept the event")),
        };
        let end = End {
            name,
            error,
            has_run: false,
        };
        self.export(end, None);
    }

    fn export(&mut self, end: End, report: Option<CallReport>) {
        let Some(target) = self.target.take() else {
            return;
        };
        let took = clock::since(self.arrived);
        let sampling = &self.traces.sampling;
        if !sampling.keeps(self.is_sampled, end.error.is_some(), took) {
            return;
        }
        let text = |key: &'static str, value: String| -> Attribute {
            (key.into(), AttributeValue::Text(value))
        };
        let call = EndedCall {
            id: self.id,
            run: self.run,
            parent: self.context.parent,
            function: target.name().to_string(),
            start: self.start.duration_since(UNIX_EPOCH).unwrap_or_default(),
            took,
            has_controller: self.traces.has_controller,
            has_run: end.has_run,
            error: end.error.map(str::to_owned),
            attributes: vec![
                text("faas.name", target.name().to_string()),
                text("faas.invocation_id", self.request_id.to_string()),
                text("faas.trigger", self.trigger.as_str().to_owned()),
                text("pilotlight.namespace", target.namespace().to_string()),
                text("pilotlight.outcome", end.name.to_owned()),
            ],
            report: report.unwrap_or_default(),
        };
        let bits = |place| (self.bits)(&self.request_id, PHASES + place);
        let mut batch = SpanBatch::default();
        for span in call.into_spans(bits) {
            batch.add(self.context.trace, self.context.state.as_deref(), &span);
        }
        self.traces.exporter.submit(batch);
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let end = End {
            name: "abandoned",
            error: Some("the caller has gone"),
            has_run: false,
        };
        self.export(end, None);
    }
}
