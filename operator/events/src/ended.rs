//! What a destination gets about an event that has ended (contract §6).
//!
//! The record of the platform, with the event and the answer as they were, byte for byte. HTTP receivers get it within a
//! CloudEvent. It sends nothing.

use bytes::Bytes;
use jiff::Timestamp;
use pilotlight_core::events::retry::{EventEnd, EventTime};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

/// The version of a record's form.
const VERSION: &str = "1.0";
/// The media type of [`cloud_event`].
pub const CLOUD_EVENT: &str = "application/cloudevents+json";

/// An event that has ended.
#[derive(Clone, Debug)]
pub struct Ended<'a> {
    pub request_id: &'a str,
    /// With the qualifier.
    pub function_arn: &'a str,
    pub at: EventTime,
    pub end: EventEnd,
    /// How many attempts have begun.
    pub attempts: u32,
    pub payload: &'a Bytes,
    /// Absent if no attempt ran when it ended, or if its instance was lost.
    pub response: Option<Response<'a>>,
}

/// How the last attempt was answered.
#[derive(Clone, Debug)]
pub struct Response<'a> {
    pub payload: &'a Bytes,
    /// `$LATEST`, or a number.
    pub version: &'a str,
    /// `Unhandled`, unless it succeeded.
    pub function_error: Option<&'a str>,
}

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
    function_arn: &'a str,
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
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    time: String,
    datacontenttype: &'static str,
    data: Record<'a>,
}

/// The record in JSON.
pub fn record(ended: &Ended<'_>) -> Bytes {
    json(&Record::of(ended))
}

/// A CloudEvent whose data is the record.
pub fn cloud_event(ended: &Ended<'_>) -> Bytes {
    json(&CloudEvent {
        specversion: "1.0",
        // An event ends once, but what it does for another function may fail under the same id.
        id: format!("{}-{}", ended.request_id, ended.end.condition()),
        source: ended.function_arn,
        kind: match ended.end {
            EventEnd::Success => "dev.pilotlight.invocation.succeeded",
            _ => "dev.pilotlight.invocation.failed",
        },
        time: time(ended.at),
        datacontenttype: "application/json",
        data: Record::of(ended),
    })
}

impl<'a> Record<'a> {
    fn of(ended: &Ended<'a>) -> Self {
        let response = ended.response.as_ref();
        Record {
            version: VERSION,
            timestamp: time(ended.at),
            request_context: RequestContext {
                request_id: ended.request_id,
                function_arn: ended.function_arn,
                condition: ended.end.condition(),
                approximate_invoke_count: ended.attempts,
            },
            request_payload: raw(ended.payload),
            response_context: response.map(|response| ResponseContext {
                status_code: 200,
                executed_version: response.version,
                function_error: response.function_error,
            }),
            response_payload: response.map(|response| raw(response.payload)),
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

    const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:hello:$LATEST";

    fn value(json: &[u8]) -> Value {
        serde_json::from_slice(json).expect("JSON")
    }

    fn check(ended: &Ended<'_>, expected: &Value) {
        assert_eq!(value(&record(ended)), *expected);
        let event = value(&cloud_event(ended));
        assert_eq!(event["data"], *expected);
        assert_eq!(event["time"], expected["timestamp"]);
        assert_eq!(event["source"], ARN);
    }

    #[test]
    fn a_record_says_how_the_event_ended_and_what_was_answered() {
        let payload = Bytes::from_static(b"{\"n\": 1.10, \"n\": 12345678901234567890123}");
        let answer = Bytes::from_static(b"[ 1 ]");
        let mut ended = Ended {
            request_id: "8f3c",
            function_arn: ARN,
            at: EventTime(1_800_000_000_120),
            end: EventEnd::Success,
            attempts: 1,
            payload: &payload,
            response: Some(Response {
                payload: &answer,
                version: "$LATEST",
                function_error: None,
            }),
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
            "requestPayload": value(&payload),
            "responseContext": { "statusCode": 200, "executedVersion": "$LATEST" },
            "responsePayload": [1],
        });
        check(&ended, &expected);
        let event = value(&cloud_event(&ended));
        assert_eq!(event["type"], "dev.pilotlight.invocation.succeeded");
        let text = String::from_utf8(record(&ended).to_vec()).expect("text");
        for part in [&payload, &answer] {
            let part = std::str::from_utf8(part).expect("text");
            assert!(text.contains(part), "{text}");
        }

        let error = Bytes::from_static(b"{\"errorMessage\":\"no\"}");
        (ended.end, ended.attempts) = (EventEnd::RetriesExhausted, 3);
        ended.response = Some(Response {
            payload: &error,
            version: "$LATEST",
            function_error: Some("Unhandled"),
        });
        expected["requestContext"]["condition"] = "RetriesExhausted".into();
        expected["requestContext"]["approximateInvokeCount"] = 3.into();
        expected["responseContext"]["functionError"] = "Unhandled".into();
        expected["responsePayload"] = json!({ "errorMessage": "no" });
        check(&ended, &expected);
        let event = value(&cloud_event(&ended));
        assert_eq!(event["type"], "dev.pilotlight.invocation.failed");

        (ended.end, ended.attempts) = (EventEnd::ZeroReservedConcurrency, 0);
        ended.response = None;
        expected["requestContext"]["condition"] = "ZeroReservedConcurrency".into();
        expected["requestContext"]["approximateInvokeCount"] = 0.into();
        let fields = expected.as_object_mut().expect("an object");
        fields.retain(|name, _| !name.starts_with("response"));
        check(&ended, &expected);
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
