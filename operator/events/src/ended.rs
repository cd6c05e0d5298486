//! What a destination gets about an event that has ended (contract §6).
//!
//! The record of the platform, with the event and the answer as they were, byte for byte. HTTP receivers get it within a
//! CloudEvent. It sends nothing.

use bytes::Bytes;
use jiff::Timestamp;
use pilotlight_core::events::retry::{EventEnd, EventTime};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::event::{EventOutcome, QueuedEvent};

/// The version of a record's form.
const VERSION: &str = "1.0";
/// How many colons a function's ARN has without a qualifier.
const UNQUALIFIED: usize = 6;
/// The media type of [`cloud_event`].
pub const CLOUD_EVENT: &str = "application/cloudevents+json";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    version: &'static str,
    timestamp: String,
    request_context: RequestContext<'a>,
    request_payload: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_context: Option<ResponseContext<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_payload: Option<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    request_id: &'a str,
    function_arn: String,
    condition: &'static str,
    approximate_invoke_count: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseContext<'a> {
    status_code: u16,
    executed_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_error: Option<&'a str>,
}

/// CloudEvents 1.0 in the structured mode of its HTTP binding.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: &'static str,
    time: String,
    datacontenttype: &'static str,
    data: Record<'a>,
}

/// The record in JSON of an event that ended so.
pub fn record(event: &QueuedEvent, outcome: &EventOutcome) -> Bytes {
    json(&Record::of(event, outcome))
}

/// A CloudEvent whose data is the record.
pub fn cloud_event(event: &QueuedEvent, outcome: &EventOutcome) -> Bytes {
    json(&CloudEvent {
        specversion: "1.0",
        id: record_id(event, outcome),
        source: function_arn(event),
        kind: match outcome.end {
            EventEnd::Success => "dev.pilotlight.invocation.succeeded",
            _ => "dev.pilotlight.invocation.failed",
        },
        time: time(outcome.at),
        datacontenttype: "application/json",
        data: Record::of(event, outcome),
    })
}

/// Names the record, also when it is sent twice. An event ends once, unless it is replayed.
pub fn record_id(event: &QueuedEvent, outcome: &EventOutcome) -> String {
    let (request_id, accepted) = (&event.head.request_id, event.head.progress.accepted.0);
    format!("{request_id}-{accepted}-{}", outcome.end.condition())
}

/// With its qualifier, as the platform writes it in records.
fn function_arn(event: &QueuedEvent) -> String {
    let arn = &event.head.function_arn;
    match arn.matches(':').count() {
        UNQUALIFIED => format!("{arn}:{}", event.head.target.qualifier.as_str()),
        _ => arn.clone(),
    }
}

impl<'a> Record<'a> {
    fn of(event: &'a QueuedEvent, outcome: &'a EventOutcome) -> Self {
        let response = outcome.response.as_ref();
        Record {
            version: VERSION,
            timestamp: time(outcome.at),
            request_context: RequestContext {
                request_id: &event.head.request_id,
                function_arn: function_arn(event),
                condition: outcome.end.condition(),
                approximate_invoke_count: outcome.attempts,
            },
            request_payload: raw(&event.payload),
            response_context: response.map(|response| ResponseContext {
                status_code: 200,
                executed_version: &response.version,
                function_error: response.function_error.as_deref(),
            }),
            response_payload: response.map(|response| raw(response.payload.as_bytes())),
        }
    }
}

fn json(value: &impl Serialize) -> Bytes {
    let json = serde_json::to_vec(value);
    json.expect("texts and numbers are JSON").into()
}

/// JSON as it is; null if there is nothing; otherwise a string, because a runtime may answer with anything.
fn raw(payload: &[u8]) -> Box<RawValue> {
    if payload.is_empty() {
        return RawValue::NULL.to_owned();
    }
    let json = std::str::from_utf8(payload).ok();
    let json = json.and_then(|text| RawValue::from_string(text.to_owned()).ok());
    json.unwrap_or_else(|| {
        let text = String::from_utf8_lossy(payload);
        to_raw_value(&text).expect("a string is JSON")
    })
}

fn time(at: EventTime) -> String {
    let time = Timestamp::from_millisecond(at.0.cast_signed()).unwrap_or_default();
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::conformance::event;
    use crate::event::EventResponse;

    const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:hello:$LATEST";
    const AT: EventTime = EventTime(1_800_000_000_120);

    fn value(json: &[u8]) -> Value {
        serde_json::from_slice(json).expect("JSON")
    }

    fn response(payload: &str, function_error: Option<&str>) -> Option<EventResponse> {
        Some(EventResponse {
            payload: payload.to_owned(),
            version: "$LATEST".to_owned(),
            function_error: function_error.map(str::to_owned),
        })
    }

    fn check(event: &QueuedEvent, outcome: &EventOutcome, expected: &Value) -> Value {
        assert_eq!(value(&record(event, outcome)), *expected);
        let event = value(&cloud_event(event, outcome));
        assert_eq!(event["data"], *expected);
        assert_eq!(event["time"], expected["timestamp"]);
        assert_eq!(event["source"], ARN);
        event
    }

    #[test]
    fn a_record_says_how_the_event_ended_and_what_was_answered() {
        let payload = "{\"n\": 1.10, \"n\": 12345678901234567890123}";
        let answer = "[ 1 ]";
        let mut event = event("hello", "8f3c", AT);
        event.payload = Bytes::from_static(payload.as_bytes());
        let mut outcome = EventOutcome {
            end: EventEnd::Success,
            at: AT,
            attempts: 1,
            response: response(answer, None),
        };
        let mut expected = json!({
            "version": "1.0",
            "timestamp": "2027-01-15T08:00:00.120Z",
            "requestContext": {
                "requestId": "8f3c",
                "functionArn": ARN,
                "condition": "Success",
                "approximateInvokeCount": 1,
            },
            "requestPayload": value(payload.as_bytes()),
            "responseContext": { "statusCode": 200, "executedVersion": "$LATEST" },
            "responsePayload": [1],
        });
        let sent = check(&event, &outcome, &expected);
        assert_eq!(sent["type"], "dev.pilotlight.invocation.succeeded");
        let text = String::from_utf8(record(&event, &outcome).to_vec()).expect("text");
        for part in [payload, answer] {
            assert!(text.contains(part), "{text}");
        }

        (outcome.end, outcome.attempts) = (EventEnd::RetriesExhausted, 3);
        outcome.response = response("{\"errorMessage\":\"no\"}", Some("Unhandled"));
        // The caller has named the version.
        event.head.function_arn = ARN.to_owned();
        expected["requestContext"]["condition"] = "RetriesExhausted".into();
        expected["requestContext"]["approximateInvokeCount"] = 3.into();
        expected["responseContext"]["functionError"] = "Unhandled".into();
        expected["responsePayload"] = json!({ "errorMessage": "no" });
        let failed = check(&event, &outcome, &expected);
        assert_eq!(failed["type"], "dev.pilotlight.invocation.failed");
        assert_ne!(failed["id"], sent["id"]);

        (outcome.end, outcome.attempts) = (EventEnd::ZeroReservedConcurrency, 0);
        outcome.response = None;
        expected["requestContext"]["condition"] = "ZeroReservedConcurrency".into();
        expected["requestContext"]["approximateInvokeCount"] = 0.into();
        let fields = expected.as_object_mut().expect("an object");
        fields.retain(|name, _| !name.starts_with("response"));
        check(&event, &outcome, &expected);
    }

    #[test]
    fn an_answer_that_is_no_json_is_a_text() {
        for (answer, expected) in [
            (&b""[..], Value::Null),
            (b"plain", "plain".into()),
            (b"{\"a\":", "{\"a\":".into()),
            (b"\xff", "\u{fffd}".into()),
            (b"\"a\"", "a".into()),
            (b" 1 ", 1.into()),
        ] {
            assert_eq!(value(raw(answer).get().as_bytes()), expected, "{answer:?}");
        }
    }
}
