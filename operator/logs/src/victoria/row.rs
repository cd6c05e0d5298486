//! A record as a row of VictoriaLogs: a JSON object of texts.
//!
//! Namespace, function, qualifier and instance are the fields of its stream. The request id is an ordinary field: a stream
//! for each request would be a million streams a day, which VictoriaLogs does not bear.

use jiff::Timestamp;
use pilotlight_wire::log_record::LogSource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::entry::Entry;

/// The value of the field `app` in each row. A store may have rows of other programs.
pub(super) const APP: &str = "pilotlight";

/// The names of the fields.
pub(super) mod field {
    pub(crate) const APP: &str = "app";
    pub(crate) const NAMESPACE: &str = "namespace";
    pub(crate) const FUNCTION: &str = "function";
    pub(crate) const INSTANCE: &str = "instance";
    pub(crate) const QUALIFIER: &str = "qualifier";
    pub(crate) const SEQUENCE: &str = "sequence";
    pub(crate) const SOURCE: &str = "source";
    pub(crate) const LEVEL: &str = "level";
    pub(crate) const REQUEST_ID: &str = "request_id";
    pub(crate) const BATCH: &str = "batch";
    /// `1` if the record has no text: VictoriaLogs stores no empty message.
    pub(crate) const EMPTY: &str = "empty";
    /// Those of the stream.
    pub(crate) const STREAM: &str = "app,namespace,function,qualifier,instance";
    /// What a reader needs.
    pub(crate) const READ: &str =
        "_time,_msg,namespace,function,qualifier,instance,sequence,source,level,request_id,empty";
}

#[derive(Serialize)]
struct Row<'a> {
    _time: String,
    _msg: &'a str,
    app: &'static str,
    namespace: &'a str,
    function: &'a str,
    qualifier: &'a str,
    instance: &'a str,
    sequence: String,
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    empty: Option<&'static str>,
    batch: &'a str,
}

#[derive(Deserialize)]
struct ReadRow {
    _time: Timestamp,
    #[serde(default)]
    _msg: String,
    namespace: String,
    function: String,
    qualifier: String,
    instance: String,
    sequence: String,
    source: LogSource,
    #[serde(default)]
    level: String,
    #[serde(default)]
    request_id: String,
    #[serde(default)]
    empty: String,
}

/// Appends the row and the end of its line.
pub(super) fn write(record: &Entry, batch: &str, body: &mut Vec<u8>) {
    let row = Row {
        _time: format!("{:.6}", record.time),
        _msg: &record.text,
        app: APP,
        namespace: record.namespace.as_str(),
        function: record.function.as_str(),
        qualifier: record.qualifier.as_str(),
        instance: &record.instance,
        sequence: record.sequence.to_string(),
        source: record.source.as_str(),
        level: record.level.map(|level| level.as_str()),
        request_id: record.request_id.as_deref(),
        empty: record.text.is_empty().then_some("1"),
        batch,
    };
    serde_json::to_writer(&mut *body, &row).expect("texts are JSON");
    body.push(b'\n');
}

/// The record of a row. `None`: this program has not written it.
pub(super) fn read(line: &[u8]) -> Option<Entry> {
    let row: ReadRow = serde_json::from_slice(line).ok()?;
    Some(Entry {
        time: row._time,
        namespace: row.namespace.parse().ok()?,
        function: row.function.parse().ok()?,
        qualifier: row.qualifier.parse().ok()?,
        instance: row.instance,
        sequence: row.sequence.parse().ok()?,
        source: row.source,
        level: row.level.parse().ok(),
        request_id: Some(row.request_id).filter(|id| !id.is_empty()),
        text: if row.empty.is_empty() {
            row._msg
        } else {
            String::new()
        },
    })
}

/// The text of a field in a row of any kind.
pub(super) fn text<'a>(row: &'a Value, field: &str) -> Option<&'a str> {
    row.get(field)?.as_str()
}

#[cfg(test)]
mod tests {
    use pilotlight_core::ids::Qualifier;

    use super::*;
    use crate::entry::Origin;

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let origin = Origin {
            function: "shop/orders".parse().expect("a key"),
            qualifier: Qualifier::Latest,
            instance: "i1".to_owned(),
        };
        for line in [
            "2026-01-31T10:00:00.123456Z stdout+ 8f3c [ERROR]\\n\"second\"\u{1}",
            "2026-01-31T10:00:00Z platform - ",
            "2026-01-31T10:00:00Z stderr - ünï",
        ] {
            let record = Entry::of_line(&origin, 7, line, Timestamp::UNIX_EPOCH);
            let mut body = Vec::new();
            write(&record, "b1", &mut body);
            assert_eq!(body.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(read(&body), Some(record));
        }
        assert_eq!(
            read(br#"{"_time":"2026-01-31T10:00:00Z","_msg":"x"}"#),
            None
        );
        assert_eq!(read(b"nonsense"), None);
    }
}
