//! X-Ray's daemon protocol, by which a function reports its segments, and the form in which they travel with the answer.
//!
//! A datagram is a line `{"format": "json", "version": 1}` and a segment document. The supervisor reads it; `report` carries the
//! result to the gateway. Nothing is trusted: `core::traces::segments` has the bounds.
//!
//! Documents: <https://docs.aws.amazon.com/xray/latest/devguide/xray-api-segmentdocuments.html>

use std::collections::BTreeMap;

use pilotlight_core::traces::context;
use pilotlight_core::traces::ids::{SpanId, TraceId};
use pilotlight_core::traces::segments::{
    ANNOTATIONS_LIMIT, NAME_LIMIT, SEGMENTS_LIMIT, Segment, VALUE_LIMIT, cut,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The latest time that is accepted, in seconds since 1970: the year 2262, the last that nanoseconds of 64 bits reach.
const LATEST: f64 = 9_223_372_036.0;

/// Why a datagram brings nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedDatagram {
    #[error("it does not begin with a line that says `json` and version 1")]
    Header,
    #[error("it is no segment document")]
    Document,
    #[error("it belongs to another trace")]
    OtherTrace,
}

#[derive(Deserialize)]
struct Header {
    format: String,
    version: u32,
}

#[derive(Deserialize)]
struct Document {
    id: String,
    name: String,
    trace_id: Option<String>,
    parent_id: Option<String>,
    start_time: f64,
    end_time: Option<f64>,
    #[serde(default)]
    in_progress: bool,
    namespace: Option<String>,
    #[serde(default)]
    error: bool,
    #[serde(default)]
    fault: bool,
    #[serde(default)]
    throttle: bool,
    cause: Option<Value>,
    #[serde(default)]
    annotations: BTreeMap<String, Value>,
    #[serde(default)]
    aws: BTreeMap<String, Value>,
    http: Option<HttpCall>,
    #[serde(default)]
    subsegments: Vec<Document>,
}

#[derive(Deserialize)]
struct HttpCall {
    #[serde(default)]
    request: BTreeMap<String, Value>,
    #[serde(default)]
    response: BTreeMap<String, Value>,
}

/// Reads a datagram of a function whose invocation belongs to `trace`. A document that is still in progress brings nothing, since
/// a complete one follows. The second value counts what a single document has beyond the limit, or malformed within it.
///
/// # Errors
/// Why it brings nothing.
pub fn read_datagram(
    datagram: &[u8],
    trace: TraceId,
) -> Result<(Vec<Segment>, u32), RefusedDatagram> {
    let end = datagram.iter().position(|byte| *byte == b'\n');
    let (header, document) = datagram.split_at(end.ok_or(RefusedDatagram::Header)?);
    let header: Result<Header, _> = serde_json::from_slice(header);
    let is_known = header.is_ok_and(|header| header.format == "json" && header.version == 1);
    is_known.then_some(()).ok_or(RefusedDatagram::Header)?;
    let document: Document =
        serde_json::from_slice(document).map_err(|_| RefusedDatagram::Document)?;
    let own = document.trace_id.as_deref().map(|id| format!("Root={id}"));
    let own = own.and_then(|header| context::of_xray(&header));
    let own = own.ok_or(RefusedDatagram::Document)?;
    (own.trace == trace)
        .then_some(())
        .ok_or(RefusedDatagram::OtherTrace)?;
    let parent = document.parent_id.as_deref().and_then(SpanId::read);
    let (mut open, mut segments, mut dropped) = (vec![(document, parent)], Vec::new(), 0);
    while let Some((mut document, parent)) = open.pop() {
        let children = std::mem::take(&mut document.subsegments);
        let id = SpanId::read(&document.id);
        open.extend(children.into_iter().map(|child| (child, id)));
        if document.in_progress {
            continue;
        }
        match of_document(document, parent).filter(|_| segments.len() < SEGMENTS_LIMIT) {
            Some(segment) => segments.push(segment),
            None => dropped += 1,
        }
    }
    Ok((segments, dropped))
}

/// `None` if it lacks a valid id, a name or a time.
fn of_document(document: Document, parent: Option<SpanId>) -> Option<Segment> {
    let id = SpanId::read(&document.id)?;
    let start = micros(document.start_time)?;
    let end = micros(document.end_time?)?;
    let name = cut(&document.name, NAME_LIMIT);
    (!name.is_empty()).then_some(())?;
    let is_failed = document.error || document.fault || document.throttle;
    let error = is_failed.then(|| message(document.cause.as_ref()).unwrap_or_default());
    let mut annotations = Vec::new();
    if let Some(http) = &document.http {
        let known = [
            ("http.request.method", http.request.get("method")),
            ("url.full", http.request.get("url")),
            ("http.response.status_code", http.response.get("status")),
        ];
        annotations.extend(
            known
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), text(value?)?))),
        );
    }
    let aws = document
        .aws
        .iter()
        .map(|(key, value)| (format!("aws.{key}"), value));
    let own = document
        .annotations
        .iter()
        .map(|(key, value)| (key.clone(), value));
    annotations.extend(
        own.chain(aws)
            .filter_map(|(key, value)| Some((cut(&key, VALUE_LIMIT).to_owned(), text(value)?))),
    );
    annotations.truncate(ANNOTATIONS_LIMIT);
    Some(Segment {
        id,
        // A segment without a parent hangs at the invocation, as one with an unknown parent does.
        parent: parent.unwrap_or(id),
        name: name.to_owned(),
        start,
        end,
        is_remote: document
            .namespace
            .is_some_and(|namespace| namespace == "aws" || namespace == "remote"),
        error,
        annotations,
    })
}

fn micros(seconds: f64) -> Option<u64> {
    (0.0..LATEST)
        .contains(&seconds)
        .then_some((seconds * 1e6) as u64)
}

/// A simple value as a text; others have no place in an attribute.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(cut(text, VALUE_LIMIT).to_owned()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The message of the exception that was the cause. A cause may also be the id of another segment.
fn message(cause: Option<&Value>) -> Option<String> {
    text(cause?.get("exceptions")?.get(0)?.get("message")?)
}

/// A segment on its way to the gateway: id, parent, name, start, end, whether it is remote, error, annotations.
#[derive(Serialize, Deserialize)]
struct Sent(
    String,
    String,
    String,
    u64,
    u64,
    bool,
    Option<String>,
    Vec<(String, String)>,
);

/// The segment as JSON, one of a list.
pub fn write(segment: &Segment) -> String {
    let sent = Sent(
        segment.id.to_string(),
        segment.parent.to_string(),
        segment.name.clone(),
        segment.start,
        segment.end,
        segment.is_remote,
        segment.error.clone(),
        segment.annotations.clone(),
    );
    serde_json::to_string(&sent).expect("texts and numbers")
}

/// Reads a list; `None` if it is none. Segments that cannot be read are left out.
pub(crate) fn read_list(json: &[u8]) -> Option<Vec<Segment>> {
    let list: Vec<Sent> = serde_json::from_slice(json).ok()?;
    let read = |sent: Sent| {
        let Sent(id, parent, name, start, end, is_remote, error, mut annotations) = sent;
        let is_time = |micros: u64| (micros as f64) < LATEST * 1e6;
        let limited = |text: &str, limit| text.len() <= limit;
        annotations.truncate(ANNOTATIONS_LIMIT);
        annotations.retain(|(key, value)| limited(key, VALUE_LIMIT) && limited(value, VALUE_LIMIT));
        let is_valid = is_time(start) && is_time(end) && limited(&name, NAME_LIMIT);
        is_valid.then_some(())?;
        Some(Segment {
            id: SpanId::read(&id)?,
            parent: SpanId::read(&parent)?,
            name,
            start,
            end,
            is_remote,
            error: error.map(|text| cut(&text, VALUE_LIMIT).to_owned()),
            annotations,
        })
    };
    Some(list.into_iter().filter_map(read).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ROOT: &str = "1-5759e988-bd862e3fe1be46a994272793";

    fn trace() -> TraceId {
        TraceId::read("5759e988bd862e3fe1be46a994272793").expect("an id")
    }

    fn datagram(document: &Value) -> Vec<u8> {
        format!("{{\"format\":\"json\",\"version\":1}}\n{document}").into_bytes()
    }

    fn document() -> Value {
        json!({
            "name": "## handler", "id": "0000000000000001", "parent_id": "0f1b758a73ce5eaa",
            "trace_id": ROOT, "type": "subsegment", "start_time": 1.5, "end_time": 2.25,
            "annotations": {"ColdStart": true, "Service": "shop", "list": [1]},
            "subsegments": [{
                "name": "Lambda", "id": "0000000000000002", "start_time": 1.6, "end_time": 2.0, "namespace": "aws",
                "http": {"response": {"status": 500}}, "fault": true, "aws": {"operation": "Invoke"},
                "cause": {"exceptions": [{"message": "it broke", "type": "E"}]},
            }, {
                "name": "open", "id": "0000000000000003", "start_time": 1.6, "in_progress": true,
            }],
        })
    }

    #[test]
    fn a_document_and_those_within_it_are_segments() {
        let (segments, dropped) = read_datagram(&datagram(&document()), trace()).expect("segments");
        assert_eq!((segments.len(), dropped), (2, 0));
        let [handler, call] = &segments[..] else {
            panic!("two")
        };
        assert_eq!(
            (handler.name.as_str(), handler.start, handler.end),
            ("## handler", 1_500_000, 2_250_000)
        );
        assert_eq!(handler.parent.to_string(), "0f1b758a73ce5eaa");
        let pair = |(key, value): &(String, String)| format!("{key}={value}");
        let annotations = Vec::from_iter(handler.annotations.iter().map(pair));
        assert_eq!(annotations, ["ColdStart=true", "Service=shop"]);
        assert_eq!((call.parent, call.is_remote), (handler.id, true));
        assert_eq!(call.error.as_deref(), Some("it broke"));
        let annotations = Vec::from_iter(call.annotations.iter().map(pair));
        assert_eq!(
            annotations,
            ["http.response.status_code=500", "aws.operation=Invoke"]
        );
        let list = format!("[{}]", Vec::from_iter(segments.iter().map(write)).join(","));
        assert_eq!(read_list(list.as_bytes()), Some(segments));
    }

    #[test]
    fn a_document_of_another_trace_or_form_brings_nothing() {
        let mut other = document();
        other["trace_id"] = json!("1-5759e988-bd862e3fe1be46a994272794");
        assert_eq!(
            read_datagram(&datagram(&other), trace()),
            Err(RefusedDatagram::OtherTrace)
        );
        other["trace_id"] = json!(null);
        assert_eq!(
            read_datagram(&datagram(&other), trace()),
            Err(RefusedDatagram::Document)
        );
        for (bytes, refused) in [
            (&b""[..], RefusedDatagram::Header),
            (
                b"{\"format\":\"json\",\"version\":2}\n{}",
                RefusedDatagram::Header,
            ),
            (
                b"{\"format\":\"xml\",\"version\":1}\n{}",
                RefusedDatagram::Header,
            ),
            (
                b"{\"format\":\"json\",\"version\":1}\n{",
                RefusedDatagram::Document,
            ),
        ] {
            assert_eq!(read_datagram(bytes, trace()), Err(refused));
        }
    }

    #[test]
    fn what_is_too_much_or_malformed_within_a_document_is_counted() {
        let child = |number: usize| json!({"name": "n", "id": format!("{number:016x}"), "start_time": 1.0, "end_time": 2.0});
        let mut many = document();
        many["subsegments"] = (10..10 + SEGMENTS_LIMIT).map(child).collect();
        let (segments, dropped) = read_datagram(&datagram(&many), trace()).expect("segments");
        assert_eq!((segments.len(), dropped), (SEGMENTS_LIMIT, 1));
        for (field, value) in [
            ("id", json!("x")),
            ("name", json!("")),
            ("start_time", json!(-1.0)),
            ("end_time", json!(1e300)),
            ("end_time", json!(null)),
        ] {
            let mut bad = document();
            bad["subsegments"][0][field] = value;
            let (segments, dropped) = read_datagram(&datagram(&bad), trace()).expect("segments");
            assert_eq!((segments.len(), dropped), (1, 1), "{field}");
        }
    }
}
