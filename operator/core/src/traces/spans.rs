//! The spans of one invocation: itself, its phases, and what its function has added.
//!
//! ```text
//! invocation ─┬─ queue, fetch, claim or start, unpack, init     one after the other, from the arrival on
//!             ├─ run ── the function's segments                 before `respond`
//!             └─ respond                                        until the answer
//! ```
//!
//! The gateway that the caller reached makes them when the call has ended, from durations that travelled with the answer. So
//! phases of another machine are placed by their durations, not by that machine's clock. `sampling` decides before whether
//! they are kept.

use std::borrow::Cow;
use std::time::Duration;

use super::ids::{SpanId, TraceId};
use super::segments::{Segment, Segments};
use crate::instance::phases::{Phase, Phases};

/// On which side of a call a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    Internal,
    Server,
    Client,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    Text(String),
    Bool(bool),
    Number(i64),
}

/// A name and a value.
pub type Attribute = (Cow<'static, str>, AttributeValue);

/// A span that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub id: SpanId,
    pub parent: Option<SpanId>,
    pub name: Cow<'static, str>,
    pub kind: SpanKind,
    /// Since the Unix epoch.
    pub start: Duration,
    pub end: Duration,
    pub attributes: Vec<Attribute>,
    /// `Some` if it failed: the message.
    pub error: Option<String>,
    /// A span of another trace that belongs to this one's story.
    pub link: Option<(TraceId, SpanId)>,
}

/// What an answer says of its invocation for the trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallReport {
    pub phases: Phases,
    pub segments: Segments,
    /// The name of the instance that ran it.
    pub instance: Option<String>,
    /// Whether another gateway had it run. It is not sent: each reader knows from whom it has the report.
    pub is_forwarded: bool,
}

/// An invocation that has ended.
#[derive(Clone, Debug)]
pub struct EndedCall {
    pub id: SpanId,
    /// The span that the function sees as its parent.
    pub run: SpanId,
    /// The caller's span.
    pub parent: Option<SpanId>,
    pub function: String,
    /// When it arrived, since the Unix epoch.
    pub start: Duration,
    pub took: Duration,
    /// Whether a controller has a span about the pod of a new instance.
    pub has_controller: bool,
    /// Whether it may have run.
    pub has_run: bool,
    pub error: Option<String>,
    pub attributes: Vec<Attribute>,
    pub report: CallReport,
}

impl EndedCall {
    /// The invocation's span first. `fresh`: ids for the phases, other ones for each number.
    pub fn into_spans(self, fresh: impl Fn(u8) -> u64) -> Vec<Span> {
        let EndedCall {
            start,
            took,
            report,
            ..
        } = &self;
        let end = *start + *took;
        let phases = &report.phases;
        let sum = phases
            .iter()
            .map(|(_, duration)| duration)
            .sum::<Duration>();
        // What an answer spends between gateways is in no phase. The way there and the way back are taken as equal.
        let hop = match report.is_forwarded {
            true => took.saturating_sub(sum) / 2,
            false => Duration::ZERO,
        };
        let mut spans = Vec::with_capacity(8 + report.segments.list.len());
        let mut at = *start + hop;
        for (place, phase) in BEFORE.into_iter().enumerate() {
            if let Some(duration) = phases.get(phase) {
                let until = (at + duration).min(end);
                let id = SpanId::of_random(fresh(place as u8));
                spans.push(self.child(id, phase, (at, until)));
                at = until;
            }
        }
        if self.has_run {
            let answered = (end - hop).max(at);
            let respond = phases.get(Phase::Respond).unwrap_or_default();
            let responds = answered.saturating_sub(respond).max(at);
            let run = phases.get(Phase::Run);
            let runs = run.map_or(at, |run| responds.saturating_sub(run).max(at));
            spans.push(self.child(self.run, Phase::Run, (runs, responds)));
            if phases.get(Phase::Respond).is_some() {
                let id = SpanId::of_random(fresh(BEFORE.len() as u8));
                spans.push(self.child(id, Phase::Respond, (responds, answered)));
            }
        }
        // Nobody creates a pod for a claim, and local mode has no controller.
        let link = report.instance.as_deref().filter(|_| self.has_controller);
        if let Some(start) = spans
            .iter_mut()
            .find(|span| span.name == Phase::Start.as_str())
        {
            start.link = link.and_then(of_instance);
        }
        self.complete(spans)
    }

    fn child(&self, id: SpanId, phase: Phase, (start, end): (Duration, Duration)) -> Span {
        Span {
            id,
            parent: Some(self.id),
            name: phase.as_str().into(),
            kind: SpanKind::Internal,
            start,
            end,
            attributes: Vec::new(),
            error: None,
            link: None,
        }
    }

    fn complete(self, mut spans: Vec<Span>) -> Vec<Span> {
        let EndedCall {
            start,
            report,
            mut attributes,
            ..
        } = self;
        let CallReport {
            phases,
            segments,
            instance,
            ..
        } = report;
        let own = Vec::from_iter(spans.iter().map(|span| span.id).chain([self.id]));
        let Segments { list, dropped } = segments.below(self.run, &own);
        let is_cold = phases
            .get(Phase::Start)
            .or(phases.get(Phase::Claim))
            .is_some();
        attributes.push(("faas.coldstart".into(), AttributeValue::Bool(is_cold)));
        if let Some(instance) = instance {
            attributes.push(("faas.instance".into(), AttributeValue::Text(instance)));
        }
        if dropped > 0 {
            let dropped = AttributeValue::Number(dropped.into());
            attributes.push(("pilotlight.segments.dropped".into(), dropped));
        }
        let call = Span {
            id: self.id,
            parent: self.parent,
            name: self.function.into(),
            kind: SpanKind::Server,
            start,
            end: start + self.took,
            attributes,
            error: self.error,
            link: None,
        };
        spans.insert(0, call);
        spans.extend(list.into_iter().map(of_segment));
        spans
    }
}

/// The phases before the handler runs.
const BEFORE: [Phase; 6] = [
    Phase::Queue,
    Phase::Fetch,
    Phase::Start,
    Phase::Claim,
    Phase::Unpack,
    Phase::Init,
];

/// The controller's span about an instance's pod: its trace has the instance's name, which is a UUID, as its id. So
/// both parts know it without a message. `None` if the name is no UUID.
pub fn of_instance(name: &str) -> Option<(TraceId, SpanId)> {
    Some((TraceId::read(name)?, SpanId::read(name.get(16..)?)?))
}

fn of_segment(segment: Segment) -> Span {
    let text = |(key, value): (String, String)| (key.into(), AttributeValue::Text(value));
    Span {
        id: segment.id,
        parent: Some(segment.parent),
        name: segment.name.into(),
        kind: match segment.is_remote {
            true => SpanKind::Client,
            false => SpanKind::Internal,
        },
        start: Duration::from_micros(segment.start),
        end: Duration::from_micros(segment.end.max(segment.start)),
        attributes: segment.annotations.into_iter().map(text).collect(),
        error: segment.error,
        link: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    fn call(phases: &[(Phase, u64)]) -> EndedCall {
        EndedCall {
            id: SpanId::of_random(1),
            run: SpanId::of_random(2),
            parent: None,
            function: "hello".to_owned(),
            start: ms(1000),
            took: ms(100),
            has_controller: true,
            has_run: true,
            error: None,
            attributes: Vec::new(),
            report: CallReport {
                phases: Phases::of(
                    phases
                        .iter()
                        .map(|(phase, duration)| (*phase, ms(*duration))),
                ),
                segments: Segments::default(),
                instance: Some("0af7651916cd43dd8448eb211c80319c".to_owned()),
                is_forwarded: false,
            },
        }
    }

    fn placed(call: EndedCall) -> Vec<(String, u64, u64)> {
        let id = call.id;
        let spans = call.into_spans(|place| 100 + u64::from(place));
        assert!(spans[1..].iter().all(|span| span.parent == Some(id)));
        let placed = |span: &Span| {
            (
                span.name.to_string(),
                span.start.as_millis() as u64,
                span.end.as_millis() as u64,
            )
        };
        spans.iter().map(placed).collect()
    }

    #[test]
    fn a_cold_start_has_its_phases_from_the_arrival_on_and_the_handler_before_the_answer() {
        let phases = [
            (Phase::Queue, 5),
            (Phase::Fetch, 10),
            (Phase::Claim, 15),
            (Phase::Unpack, 5),
            (Phase::Init, 20),
            (Phase::Run, 30),
            (Phase::Respond, 2),
        ];
        let expected = [
            ("hello", 1000, 1100),
            ("queue", 1000, 1005),
            ("fetch", 1005, 1015),
            ("claim", 1015, 1030),
            ("unpack", 1030, 1035),
            ("init", 1035, 1055),
            ("run", 1068, 1098),
            ("respond", 1098, 1100),
        ];
        let expected = expected.map(|(name, start, end)| (name.to_owned(), start, end));
        assert_eq!(placed(call(&phases)), expected);
        let linked = |phase, has_controller| {
            let mut call = call(&[(phase, 15)]);
            call.has_controller = has_controller;
            let spans = call.into_spans(|place| 100 + u64::from(place));
            spans.iter().any(|span| span.link.is_some())
        };
        assert!(linked(Phase::Start, true) && !linked(Phase::Start, false));
        assert!(
            !linked(Phase::Claim, true),
            "nobody has created its pod for it"
        );
        let spans = call(&phases).into_spans(|place| place.into());
        let cold = (Cow::from("faas.coldstart"), AttributeValue::Bool(true));
        assert!(spans[0].attributes.contains(&cold));
    }

    #[test]
    fn the_phases_of_another_gateway_lie_in_the_middle_of_the_call() {
        let mut forwarded = call(&[(Phase::Queue, 10), (Phase::Run, 70)]);
        forwarded.report.is_forwarded = true;
        let expected = [
            ("hello", 1000, 1100),
            ("queue", 1010, 1020),
            ("run", 1020, 1090),
        ];
        let expected = expected.map(|(name, start, end)| (name.to_owned(), start, end));
        assert_eq!(placed(forwarded), expected);
    }

    #[test]
    fn durations_that_do_not_fit_never_leave_the_call() {
        let phases = [
            (Phase::Queue, 70),
            (Phase::Init, 70),
            (Phase::Run, 70),
            (Phase::Respond, 7000),
        ];
        for (name, start, end) in placed(call(&phases)) {
            assert!(
                1000 <= start && start <= end && end <= 1100,
                "{name} {start} {end}"
            );
        }
    }

    #[test]
    fn a_call_that_did_not_run_has_no_handler_and_one_of_unknown_length_runs_until_the_answer() {
        let refused = EndedCall {
            has_run: false,
            ..call(&[(Phase::Queue, 100)])
        };
        assert_eq!(placed(refused).len(), 2);
        let unknown = placed(call(&[(Phase::Queue, 40)]));
        assert_eq!(unknown[2], ("run".to_owned(), 1040, 1100));
    }
}
