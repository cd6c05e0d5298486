//! What a REPORT record says about one invocation.
//!
//! Reads the text and the JSON form that supervisors write (contract §3), and the parts of the original platform's form that
//! Pilotlight adds to them. Only records of the platform count: a function can print whatever it likes.

use pilotlight_wire::log_record::LogSource;
use serde_json::Value;

use crate::entry::Entry;

/// One invocation, as its REPORT describes it. Durations are in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub request_id: String,
    pub duration: f64,
    /// The invocation was the first of its instance.
    pub is_cold: bool,
    pub status: Ending,
    /// The most memory that the instance has used so far, in bytes.
    pub memory_used: Option<u64>,
    /// The trace that the invocation belongs to, if it was sampled: `1-` and 8 and 24 hexadecimal digits.
    pub trace_id: Option<String>,
}

/// How an invocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Success,
    /// The function answered with an error.
    FunctionError,
    /// Its process failed: it exited, for example, or used too much memory.
    Error,
    Timeout,
}

/// The fields of the text that are read. The first one of a name counts.
#[derive(Default)]
struct TextFields<'a> {
    request_id: Option<&'a str>,
    duration: Option<&'a str>,
    /// Only a first invocation has one.
    start: Option<&'a str>,
    status: Option<&'a str>,
    function_error: Option<&'a str>,
    memory_used: Option<&'a str>,
    trace_id: Option<&'a str>,
}

impl<'a> TextFields<'a> {
    fn add(&mut self, name: &str, value: &'a str) {
        let field = match name {
            "RequestId" => &mut self.request_id,
            "Duration" => &mut self.duration,
            "Init Duration" | "Cold Start" => &mut self.start,
            "Status" => &mut self.status,
            "Function Error" => &mut self.function_error,
            "Max Memory Used" => &mut self.memory_used,
            "XRAY TraceId" => &mut self.trace_id,
            _ => return,
        };
        field.get_or_insert(value);
    }
}

impl Report {
    /// `None`: the record is no REPORT.
    pub fn of(record: &Entry) -> Option<Self> {
        if record.source != LogSource::Platform {
            return None;
        }
        match record.text.strip_prefix("REPORT ") {
            Some(fields) => Report::of_text(fields),
            // Most records of the platform are no REPORT, and JSON is not read for them.
            None if record.text.starts_with('{') && record.text.contains("\"platform.report\"") => {
                Report::of_json(&record.text)
            }
            None => None,
        }
    }

    /// The field of that name, which is read of each REPORT.
    pub fn memory_used_of(record: &Entry) -> Option<u64> {
        match record.text.strip_prefix("REPORT ") {
            Some(text) if record.source == LogSource::Platform => {
                let (_, rest) = text.split_once("\tMax Memory Used: ")?;
                memory(rest.split_once(" MB").map(|(number, _)| number)?)
            }
            _ => Report::of(record)?.memory_used,
        }
    }

    fn of_text(text: &str) -> Option<Self> {
        let mut fields = TextFields::default();
        for field in text.split('\t') {
            if let Some((name, value)) = field.trim().split_once(": ") {
                fields.add(name, value);
            }
        }
        let status = match (fields.status, fields.function_error) {
            (Some("timeout"), _) => Ending::Timeout,
            (Some(_), _) => Ending::Error,
            (None, Some(_)) => Ending::FunctionError,
            (None, None) => Ending::Success,
        };
        let duration = fields.duration?.strip_suffix(" ms")?;
        Some(Report {
            request_id: fields.request_id?.to_owned(),
            duration: duration.parse::<f64>().ok()?,
            is_cold: fields.start.is_some(),
            status,
            memory_used: fields
                .memory_used
                .and_then(|used| memory(used.strip_suffix(" MB")?)),
            trace_id: fields.trace_id.map(str::to_owned),
        })
    }

    fn of_json(text: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(text).ok()?;
        let record = line
            .get("record")
            .filter(|_| line["type"] == "platform.report")?;
        let metrics = record.get("metrics")?;
        let status = match (record["status"].as_str()?, record.get("functionError")) {
            ("timeout", _) => Ending::Timeout,
            ("success", None) => Ending::Success,
            ("success", Some(_)) => Ending::FunctionError,
            _ => Ending::Error,
        };
        let tracing = record
            .get("tracing")
            .and_then(|tracing| tracing["value"].as_str());
        let trace_id = tracing.and_then(|header| {
            let mut parts = header.split(';');
            parts.find_map(|part| part.trim().strip_prefix("Root="))
        });
        Some(Report {
            request_id: record["requestId"].as_str()?.to_owned(),
            duration: metrics["durationMs"].as_f64()?,
            is_cold: metrics.get("initDurationMs").is_some() || record.get("coldStart").is_some(),
            status,
            memory_used: metrics
                .get("maxMemoryUsedMB")
                .and_then(Value::as_u64)
                .and_then(bytes),
            trace_id: trace_id.map(str::to_owned),
        })
    }
}

fn memory(mib: &str) -> Option<u64> {
    bytes(mib.parse().ok()?)
}

fn bytes(mib: u64) -> Option<u64> {
    mib.checked_mul(1024 * 1024)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use pilotlight_core::ids::Qualifier;

    use super::*;

    fn entry(source: LogSource, text: &str) -> Entry {
        let function = "hello".to_owned().try_into();
        Entry {
            time: Timestamp::UNIX_EPOCH,
            namespace: "local".to_owned().try_into().expect("a namespace"),
            function: function.expect("a name"),
            qualifier: Qualifier::Latest,
            instance: "i1".to_owned(),
            sequence: 1,
            source,
            level: None,
            request_id: Some("r1".to_owned()),
            text: text.to_owned(),
        }
    }

    fn report(text: &str) -> Option<Report> {
        Report::of(&entry(LogSource::Platform, text))
    }

    #[test]
    fn both_forms_of_a_report_say_how_the_invocation_went() {
        let text = |rest: &str| {
            format!(
                "REPORT RequestId: r1\tDuration: 12.34 ms\tBilled Duration: 13 ms\t\
                 Memory Size: 128 MB\tMax Memory Used: 40 MB\t{rest}"
            )
        };
        let json = |metrics: &str, rest: &str| {
            format!(
                r#"{{"time":"2026-01-31T10:00:00.000Z","type":"platform.report","record":{{
                    "requestId":"r1","metrics":{{"durationMs":12.34,"maxMemoryUsedMB":40{metrics}}}{rest}}}}}"#
            )
        };
        let cases = [
            (text(""), false, Ending::Success, None),
            (
                text("Init Duration: 100.00 ms\t"),
                true,
                Ending::Success,
                None,
            ),
            (
                text("Cold Start: queue 0.21 ms\t"),
                true,
                Ending::Success,
                None,
            ),
            (text("Status: timeout"), false, Ending::Timeout, None),
            (
                text("Init Duration: 1.00 ms\tStatus: error\tError Type: Runtime.ExitError"),
                true,
                Ending::Error,
                None,
            ),
            (
                text("Function Error: Unhandled\t"),
                false,
                Ending::FunctionError,
                None,
            ),
            (
                // The original platform has this in a line of its own.
                text("\nXRAY TraceId: 1-5e1b4151-5ac6c58f\tSegmentId: 3fb3\tSampled: true\t"),
                false,
                Ending::Success,
                Some("1-5e1b4151-5ac6c58f"),
            ),
            (
                json("", r#","status":"success""#),
                false,
                Ending::Success,
                None,
            ),
            (
                json(
                    r#","initDurationMs":1.5"#,
                    r#","status":"error","errorType":"Runtime.ExitError""#,
                ),
                true,
                Ending::Error,
                None,
            ),
            (
                json("", r#","status":"timeout""#),
                false,
                Ending::Timeout,
                None,
            ),
            (
                json("", r#","status":"success","functionError":"Unhandled""#),
                false,
                Ending::FunctionError,
                None,
            ),
            (
                json(
                    "",
                    r#","status":"success","tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1-5e1b;Sampled=1"}"#,
                ),
                false,
                Ending::Success,
                Some("1-5e1b"),
            ),
        ];
        for (record, is_cold, status, trace_id) in cases {
            let read = report(&record).unwrap_or_else(|| panic!("a report: {record}"));
            assert_eq!((read.request_id.as_str(), read.duration), ("r1", 12.34));
            assert_eq!((read.is_cold, read.status), (is_cold, status), "{record}");
            assert_eq!(read.trace_id.as_deref(), trace_id, "{record}");
            assert_eq!(read.memory_used, Some(40 * 1024 * 1024), "{record}");
            let record = entry(LogSource::Platform, &record);
            assert_eq!(Report::memory_used_of(&record), read.memory_used);
        }
    }

    #[test]
    fn a_report_without_a_figure_of_memory_is_one() {
        for figure in [
            "",
            "Max Memory Used: -1 MB",
            "Max Memory Used: 99999999999999 MB",
        ] {
            let read = report(&format!(
                "REPORT RequestId: r1\tDuration: 1.00 ms\t{figure}\t"
            ));
            assert_eq!(read.expect("a report").memory_used, None, "{figure}");
        }
    }

    #[test]
    fn nothing_else_is_a_report() {
        for text in [
            "",
            "REPORT",
            "REPORT RequestId: r1",
            "REPORT RequestId: r1\tDuration: long ms",
            "START RequestId: r1 Version: $LATEST",
            "{",
            r#"{"type":"platform.start","record":{"requestId":"r1"}}"#,
            r#"{"type":"platform.start","record":{"metrics":{"durationMs":1},"a":"platform.report"}}"#,
            r#"{"type":"platform.report","record":5}"#,
            r#"{"type":"platform.report","record":{"requestId":"r1","metrics":{},"status":"success"}}"#,
        ] {
            assert_eq!(report(text), None, "{text}");
        }
        let forged = entry(
            LogSource::Stdout,
            "REPORT RequestId: r1\tDuration: 1.00 ms\t",
        );
        assert_eq!(Report::of(&forged), None);
    }
}
