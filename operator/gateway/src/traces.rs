//! The spans of this gateway's invocations: begun when a call arrives, handed to the exporter when it has ended.
//!
//! `http::invoke` begins a recording, and ends it with the outcome; a recording that is dropped before is a caller that went away.
//! `core::traces` decides what is kept and makes the spans; until then the call alone has what is known of it. Without
//! a collector there is no recording.

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
    arrived: Instant,
    /// The time of day at the arrival.
    start: SystemTime,
    /// The function, once it is known to exist. A call without it has no span.
    target: Option<PoolId>,
}

impl Recording {
    pub(crate) fn begin(
        traces: &Traces,
        context: TraceContext,
        (request_id, arrived): (&RequestId, Instant),
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

    pub(crate) fn end(mut self: Box<Self>, outcome: &mut Outcome) {
        let report = match outcome {
            Outcome::Answered(answer) => answer.report.take(),
            _ => None,
        };
        self.export(Some(outcome), report.map(|report| *report));
    }

    fn export(&mut self, outcome: Option<&Outcome>, report: Option<CallReport>) {
        let Some(target) = self.target.take() else {
            return;
        };
        let took = clock::since(self.arrived);
        let label = outcome.map(OutcomeLabel::of);
        let error = label.map_or(Some("the caller has gone"), OutcomeLabel::error);
        if !self
            .traces
            .sampling
            .keeps(self.is_sampled, error.is_some(), took)
        {
            return;
        }
        let has_run = matches!(outcome, Some(Outcome::Answered(_) | Outcome::Lost));
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
            has_run,
            error: error.map(str::to_owned),
            attributes: vec![
                text("faas.name", target.name().to_string()),
                text("faas.invocation_id", self.request_id.to_string()),
                text("faas.trigger", "http".to_owned()),
                text("pilotlight.namespace", target.namespace().to_string()),
                text(
                    "pilotlight.outcome",
                    label.map_or("abandoned", OutcomeLabel::as_str).to_owned(),
                ),
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
        self.export(None, None);
    }
}
