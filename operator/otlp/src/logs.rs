//! The encoding of log records: the protobuf messages of OTLP, as far as functions' logs need them.
//!
//! Records of one resource are written together, since a request has each resource once. `log_exporter` encodes a batch when it
//! is sent: until then it shares the records with the log store's buffer.
//!
//! Messages: <https://github.com/open-telemetry/opentelemetry-proto>, `logs.proto`; names of attributes:
//! <https://opentelemetry.io/docs/specs/semconv/>.

use std::collections::HashMap;
use std::time::Duration;

use pilotlight_core::traces::ids::{SpanId, TraceId};

use crate::protobuf::{bytes, fixed32, fixed64, nanoseconds, number, scope, text, text_attribute};

/// How severe a record is: a number of OTLP and the function's own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Severity {
    pub number: u8,
    pub text: &'static str,
}

/// One record, as OTLP has it.
#[derive(Clone, Copy, Debug)]
pub struct OtlpRecord<'a> {
    /// Since 1970.
    pub time: Duration,
    pub severity: Option<Severity>,
    pub body: &'a str,
    pub attributes: &'a [(&'a str, &'a str)],
    pub trace: Option<RecordTrace>,
}

/// The trace that a record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordTrace {
    pub trace: TraceId,
    /// The span, if the trace is sampled: otherwise there is no such span.
    pub span: Option<SpanId>,
}

/// Records for one request.
#[derive(Debug)]
pub struct OtlpLogs {
    version: &'static str,
    /// The attributes of each resource, encoded, and its records.
    resources: Vec<(Vec<u8>, Vec<u8>)>,
    places: HashMap<Vec<u8>, usize>,
}

impl OtlpLogs {
    /// `version`: of this program.
    pub fn new(version: &'static str) -> Self {
        OtlpLogs {
            version,
            resources: Vec::new(),
            places: HashMap::new(),
        }
    }

    /// `resource`: the attributes of what has logged this.
    pub fn add(&mut self, resource: &[(&str, &str)], record: &OtlpRecord<'_>) {
        let mut attributes = Vec::with_capacity(512);
        for (key, value) in resource {
            text_attribute(&mut attributes, 1, key, value);
        }
        let place = match self.places.get(&attributes) {
            Some(place) => *place,
            None => {
                let place = self.resources.len();
                self.resources.push((attributes.clone(), Vec::new()));
                self.places.insert(attributes, place);
                place
            }
        };
        // The records are a repeated field of `ScopeLogs`.
        bytes(&mut self.resources[place].1, 2, &encoded(record));
    }

    /// An `ExportLogsServiceRequest`.
    pub(crate) fn request(&self) -> Vec<u8> {
        let scope = scope(self.version);
        let of_resources = self.resources.iter().map(|(_, records)| records.len());
        let mut request = Vec::with_capacity(of_resources.map(|bytes| bytes + 1024).sum());
        for (resource, records) in &self.resources {
            let mut scope_logs = Vec::with_capacity(records.len() + 64);
            bytes(&mut scope_logs, 1, &scope);
            scope_logs.extend(records);
            let mut resource_logs = Vec::with_capacity(scope_logs.len() + resource.len() + 16);
            bytes(&mut resource_logs, 1, resource);
            bytes(&mut resource_logs, 2, &scope_logs);
            bytes(&mut request, 1, &resource_logs);
        }
        request
    }
}

fn encoded(record: &OtlpRecord<'_>) -> Vec<u8> {
    let mut to = Vec::with_capacity(record.body.len() + 256);
    fixed64(&mut to, 1, nanoseconds(record.time));
    if let Some(severity) = record.severity {
        number(&mut to, 2, severity.number.into());
        text(&mut to, 3, severity.text);
    }
    let mut body = Vec::with_capacity(record.body.len() + 8);
    text(&mut body, 1, record.body);
    bytes(&mut to, 5, &body);
    for (key, value) in record.attributes {
        text_attribute(&mut to, 6, key, value);
    }
    if let Some(RecordTrace { trace, span }) = record.trace {
        // The flag `sampled` of W3C.
        fixed32(&mut to, 8, span.is_some().into());
        bytes(&mut to, 9, &trace.bytes());
        if let Some(span) = span {
            bytes(&mut to, 10, &span.bytes());
        }
    }
    to
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::logs::v1::SeverityNumber;
    use prost::Message as _;

    use super::*;

    fn trace() -> TraceId {
        TraceId::read("5759e988bd862e3fe1be46a994272793").expect("an id")
    }

    fn plain(body: &str) -> OtlpRecord<'_> {
        OtlpRecord {
            time: Duration::new(1_800_000_000, 5_000),
            severity: None,
            body,
            attributes: &[],
            trace: None,
        }
    }

    #[test]
    fn the_published_definitions_read_what_is_written_and_a_resource_comes_once() {
        let mut batch = OtlpLogs::new("0.1.0");
        let full = OtlpRecord {
            severity: Some(Severity {
                number: 17,
                text: "ERROR",
            }),
            attributes: &[("faas.invocation_id", "8f3c"), ("log.iostream", "stdout")],
            trace: Some(RecordTrace {
                trace: trace(),
                span: Some(SpanId::of_random(7)),
            }),
            ..plain("grün\nzweite Zeile")
        };
        let unsampled = OtlpRecord {
            trace: Some(RecordTrace {
                trace: trace(),
                span: None,
            }),
            ..plain("")
        };
        let resources = ["a", "b"].map(|name| [("service.name", name), ("faas.name", name)]);
        batch.add(&resources[0], &full);
        batch.add(&resources[1], &plain("other"));
        batch.add(&resources[0], &unsampled);
        let request = ExportLogsServiceRequest::decode(&*batch.request()).expect("a message");
        let [first, second] = &request.resource_logs[..] else {
            panic!("two resources")
        };
        let value = |value: Option<opentelemetry_proto::tonic::common::v1::AnyValue>| match value
            .and_then(|any| any.value)
        {
            Some(Value::StringValue(text)) => text,
            other => panic!("a text: {other:?}"),
        };
        for (of, name) in [(first, "a"), (second, "b")] {
            let resource = of.resource.as_ref().expect("a resource");
            let pairs = resource.attributes.iter();
            let pairs = pairs.map(|pair| (pair.key.clone(), value(pair.value.clone())));
            let expected = ["service.name", "faas.name"].map(|key| (key.into(), name.into()));
            assert_eq!(Vec::from_iter(pairs), expected);
            let scope = of.scope_logs[0].scope.as_ref().expect("a scope");
            assert_eq!(
                (scope.name.as_str(), scope.version.as_str()),
                ("pilotlight", "0.1.0")
            );
        }
        let [one, two] = &first.scope_logs[0].log_records[..] else {
            panic!("two records")
        };
        assert_eq!(one.time_unix_nano, 1_800_000_000_000_005_000);
        assert_eq!(one.severity_number, SeverityNumber::Error as i32);
        assert_eq!(one.severity_text, "ERROR");
        assert_eq!(value(one.body.clone()), "grün\nzweite Zeile");
        let keys = one.attributes.iter().map(|pair| pair.key.as_str());
        assert_eq!(Vec::from_iter(keys), ["faas.invocation_id", "log.iostream"]);
        assert_eq!(one.trace_id, trace().bytes());
        assert_eq!(one.span_id, SpanId::of_random(7).bytes());
        assert_eq!((one.flags, two.flags), (1, 0));
        assert_eq!((two.trace_id.len(), two.span_id.len()), (16, 0));
        let other = &second.scope_logs[0].log_records[0];
        assert_eq!(value(other.body.clone()), "other");
        assert_eq!((other.severity_number, other.trace_id.len()), (0, 0));
    }
}
