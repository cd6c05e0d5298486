//! The encoding of spans: the protobuf messages of OTLP, as far as spans of Pilotlight need them.
//!
//! A span is encoded when it is handed in, so that a buffer has exactly the bytes that it sends.
//!
//! Messages: <https://github.com/open-telemetry/opentelemetry-proto>, `trace.proto`, `resource.proto` and `common.proto`.

use pilotlight_core::traces::ids::TraceId;
use pilotlight_core::traces::spans::{Span, SpanKind};

use crate::protobuf::{
    attribute, bytes, fixed64, nanoseconds, number, scope, text, text_attribute,
};

/// What all spans of a process have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanOrigin {
    /// `service.name`.
    pub service: &'static str,
    pub version: &'static str,
    /// `service.instance.id`: which of several processes it is.
    pub instance: String,
}

/// Encoded spans.
#[derive(Clone, Debug, Default)]
pub struct SpanBatch {
    bytes: Vec<u8>,
    spans: u64,
}

impl SpanBatch {
    /// `state`: the `tracestate` of the trace.
    pub fn add(&mut self, trace: TraceId, state: Option<&str>, span: &Span) {
        // The spans are a repeated field of `ScopeSpans`.
        bytes(&mut self.bytes, 2, &encoded(trace, state, span));
        self.spans += 1;
    }

    pub fn append(&mut self, mut other: SpanBatch) {
        self.bytes.append(&mut other.bytes);
        self.spans += other.spans;
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans == 0
    }

    pub fn spans(&self) -> u64 {
        self.spans
    }

    /// An `ExportTraceServiceRequest`.
    pub(crate) fn request(&self, origin: &SpanOrigin) -> Vec<u8> {
        let mut resource = Vec::new();
        for (key, value) in [
            ("service.name", origin.service),
            ("service.version", origin.version),
            ("service.instance.id", &origin.instance),
        ] {
            text_attribute(&mut resource, 1, key, value);
        }
        let mut scope_spans = Vec::with_capacity(self.bytes.len() + 64);
        bytes(&mut scope_spans, 1, &scope(origin.version));
        scope_spans.extend(&self.bytes);
        let mut resource_spans = Vec::with_capacity(scope_spans.len() + 256);
        bytes(&mut resource_spans, 1, &resource);
        bytes(&mut resource_spans, 2, &scope_spans);
        let mut request = Vec::with_capacity(resource_spans.len() + 16);
        bytes(&mut request, 1, &resource_spans);
        request
    }
}

fn encoded(trace: TraceId, state: Option<&str>, span: &Span) -> Vec<u8> {
    let mut to = Vec::with_capacity(256);
    bytes(&mut to, 1, &trace.bytes());
    bytes(&mut to, 2, &span.id.bytes());
    if let Some(state) = state {
        text(&mut to, 3, state);
    }
    if let Some(parent) = span.parent {
        bytes(&mut to, 4, &parent.bytes());
    }
    text(&mut to, 5, &span.name);
    number(
        &mut to,
        6,
        match span.kind {
            SpanKind::Internal => 1,
            SpanKind::Server => 2,
            SpanKind::Client => 3,
        },
    );
    fixed64(&mut to, 7, nanoseconds(span.start));
    fixed64(&mut to, 8, nanoseconds(span.end));
    for (key, value) in &span.attributes {
        attribute(&mut to, 9, key, value);
    }
    if let Some((trace, id)) = span.link {
        let mut link = Vec::new();
        bytes(&mut link, 1, &trace.bytes());
        bytes(&mut link, 2, &id.bytes());
        bytes(&mut to, 13, &link);
    }
    if let Some(message) = &span.error {
        let mut status = Vec::new();
        text(&mut status, 2, message);
        // STATUS_CODE_ERROR
        number(&mut status, 3, 2);
        bytes(&mut to, 15, &status);
    }
    to
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::trace::v1::{span, status};
    use pilotlight_core::traces::ids::SpanId;
    use pilotlight_core::traces::spans::AttributeValue;
    use prost::Message as _;

    use super::*;

    fn trace() -> TraceId {
        TraceId::read("5759e988bd862e3fe1be46a994272793").expect("an id")
    }

    fn origin() -> SpanOrigin {
        SpanOrigin {
            service: "pilotlight-gateway",
            version: "0.1.0",
            instance: "10.0.0.1".to_owned(),
        }
    }

    fn full() -> Span {
        let name = "grün ".repeat(40);
        Span {
            id: SpanId::of_random(1),
            parent: Some(SpanId::of_random(2)),
            name: name.into(),
            kind: SpanKind::Client,
            start: Duration::new(1_800_000_000, 5),
            end: Duration::new(1_800_000_001, 0),
            attributes: vec![
                ("text".into(), AttributeValue::Text("a".to_owned())),
                ("bool".into(), AttributeValue::Bool(true)),
                ("number".into(), AttributeValue::Number(-3)),
            ],
            error: Some("it broke".to_owned()),
            link: Some((trace(), SpanId::of_random(9))),
        }
    }

    #[test]
    fn the_published_definitions_read_what_is_written() {
        let mut batch = SpanBatch::default();
        batch.add(trace(), Some("vendor=1"), &full());
        let plain = Span {
            parent: None,
            kind: SpanKind::Server,
            attributes: Vec::new(),
            error: None,
            link: None,
            ..full()
        };
        let mut other = SpanBatch::default();
        other.add(trace(), None, &plain);
        batch.append(other);
        assert_eq!(batch.spans(), 2);
        let request = batch.request(&origin());
        let request = ExportTraceServiceRequest::decode(&*request).expect("a message");
        let [resource] = &request.resource_spans[..] else {
            panic!("one resource")
        };
        let of = resource.resource.as_ref().expect("a resource");
        let keys = Vec::from_iter(of.attributes.iter().map(|pair| pair.key.as_str()));
        assert_eq!(
            keys,
            ["service.name", "service.version", "service.instance.id"]
        );
        let scope = &resource.scope_spans[0];
        assert_eq!(scope.scope.as_ref().expect("a scope").name, "pilotlight");
        let [first, second] = &scope.spans[..] else {
            panic!("two spans")
        };
        assert_eq!(first.trace_id, trace().bytes());
        assert_eq!(first.span_id, SpanId::of_random(1).bytes());
        assert_eq!(first.parent_span_id, SpanId::of_random(2).bytes());
        assert_eq!(
            (first.trace_state.as_str(), first.name.as_str()),
            ("vendor=1", &*full().name)
        );
        assert_eq!(first.kind, span::SpanKind::Client as i32);
        assert_eq!(first.start_time_unix_nano, 1_800_000_000_000_000_005);
        assert_eq!(first.end_time_unix_nano, 1_800_000_001_000_000_000);
        let values = first
            .attributes
            .iter()
            .map(|pair| pair.value.clone()?.value);
        let expected = [
            Value::StringValue("a".to_owned()),
            Value::BoolValue(true),
            Value::IntValue(-3),
        ];
        assert_eq!(Vec::from_iter(values), expected.map(Some));
        assert_eq!(first.links[0].span_id, SpanId::of_random(9).bytes());
        let status = first.status.as_ref().expect("a status");
        assert_eq!(
            (status.message.as_str(), status.code),
            ("it broke", status::StatusCode::Error as i32)
        );
        assert_eq!(
            (second.kind, &second.status),
            (span::SpanKind::Server as i32, &None)
        );
        assert!(second.parent_span_id.is_empty() && second.links.is_empty());
    }
}
