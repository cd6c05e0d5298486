//! Protobuf's wire format, as far as the messages of OTLP need it: written for requests, read for one field of answers.
//!
//! `spans` and `logs` write with it. The messages are few and fixed, so no generator and no schema is needed; tests have the
//! published definitions read them.
//!
//! Format: <https://protobuf.dev/programming-guides/encoding/>

use pilotlight_core::traces::spans::AttributeValue;

/// How a field is written.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

/// A `KeyValue`.
pub(crate) fn attribute(to: &mut Vec<u8>, field: u32, key: &str, value: &AttributeValue) {
    let mut any = Vec::new();
    match value {
        AttributeValue::Text(value) => text(&mut any, 1, value),
        AttributeValue::Bool(value) => number(&mut any, 2, (*value).into()),
        // Two's complement, as protobuf has negative numbers.
        AttributeValue::Number(value) => number(&mut any, 3, value.cast_unsigned()),
    }
    pair(to, field, key, &any);
}

/// A `KeyValue` with a text.
pub(crate) fn text_attribute(to: &mut Vec<u8>, field: u32, key: &str, value: &str) {
    let mut any = Vec::with_capacity(value.len() + 8);
    text(&mut any, 1, value);
    pair(to, field, key, &any);
}

fn pair(to: &mut Vec<u8>, field: u32, key: &str, any: &[u8]) {
    let mut pair = Vec::with_capacity(key.len() + any.len() + 8);
    text(&mut pair, 1, key);
    bytes(&mut pair, 2, any);
    bytes(to, field, &pair);
}

/// The scope of everything that is sent: this program.
pub(crate) fn scope(version: &str) -> Vec<u8> {
    let mut scope = Vec::new();
    text(&mut scope, 1, "pilotlight");
    text(&mut scope, 2, version);
    scope
}

pub(crate) fn text(to: &mut Vec<u8>, field: u32, text: &str) {
    bytes(to, field, text.as_bytes());
}

pub(crate) fn bytes(to: &mut Vec<u8>, field: u32, content: &[u8]) {
    tag(to, field, BYTES);
    varint(to, content.len() as u64);
    to.extend(content);
}

pub(crate) fn number(to: &mut Vec<u8>, field: u32, value: u64) {
    tag(to, field, VARINT);
    varint(to, value);
}

pub(crate) fn fixed64(to: &mut Vec<u8>, field: u32, value: u64) {
    tag(to, field, FIXED64);
    to.extend(value.to_le_bytes());
}

pub(crate) fn fixed32(to: &mut Vec<u8>, field: u32, value: u32) {
    tag(to, field, FIXED32);
    to.extend(value.to_le_bytes());
}

fn tag(to: &mut Vec<u8>, field: u32, kind: u8) {
    varint(to, u64::from(field << 3) | u64::from(kind));
}

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Nanoseconds since 1970, as all times of OTLP are written.
pub(crate) fn nanoseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How many items a receiver says it has rejected although it answers with success: the field `partial_success` of the
/// answer, and in that the first one, which is the same for spans and log records. An answer that is no such message has
/// rejected nothing.
pub(crate) fn rejected(answer: &[u8]) -> u64 {
    let Some(Field::Bytes(partial)) = find(answer, 1) else {
        return 0;
    };
    match find(partial, 1) {
        Some(Field::Number(rejected)) => rejected,
        _ => 0,
    }
}

/// The content of a field.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The last field of this number, as protobuf says. `None` also for bytes that are no message.
fn find(mut message: &[u8], wanted: u64) -> Option<Field<'_>> {
    let mut found = None;
    while !message.is_empty() {
        let tag = read_varint(&mut message)?;
        let field = match (tag & 7) as u8 {
            VARINT => Some(Field::Number(read_varint(&mut message)?)),
            BYTES => {
                let length = usize::try_from(read_varint(&mut message)?).ok()?;
                Some(Field::Bytes(message.split_off(..length)?))
            }
            FIXED64 => message.split_off(..8).map(|_| None)?,
            FIXED32 => message.split_off(..4).map(|_| None)?,
            _ => return None,
        };
        if tag >> 3 == wanted {
            found = field;
        }
    }
    found
}

fn read_varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *message.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceResponse,
    };
    use prost::Message as _;

    use super::*;

    fn answer(rejected_log_records: i64) -> Vec<u8> {
        let partial_success = ExportLogsPartialSuccess {
            rejected_log_records,
            error_message: "too old".to_owned(),
        };
        let answer = ExportLogsServiceResponse {
            partial_success: Some(partial_success),
        };
        answer.encode_to_vec()
    }

    #[test]
    fn an_answer_says_how_many_items_were_rejected() {
        assert_eq!(rejected(&answer(300)), 300);
        assert_eq!(rejected(&answer(0)), 0);
        assert_eq!(rejected(b""), 0);
    }

    #[test]
    fn an_answer_that_is_no_message_has_rejected_nothing() {
        let whole = answer(300);
        for bytes in [b"{}" as &[u8], b"OK", &[0x0a, 0xff, 0xff], &[0xff; 20]] {
            assert_eq!(rejected(bytes), 0, "{bytes:?}");
        }
        for end in 0..whole.len() {
            rejected(&whole[..end]);
        }
    }
}
