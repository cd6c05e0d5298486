//! Messages between gateways, controllers and supervisors, as a text or as its parts.
//!
//! An accepted message can be written and read again as the same.

#![no_main]

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderMap;
use http::{HeaderName, Response, StatusCode};
use libfuzzer_sys::fuzz_target;
use pilotlight_core::instance::phases::{Phase, Phases};
use pilotlight_core::instance::prestart::Prestart;
use pilotlight_core::traces::spans::CallReport;
use pilotlight_wire::answer::LeaseAnswer;
use pilotlight_wire::claim::{Claim, ClaimAnswer};
use pilotlight_wire::config::{DoorConfig, InstanceConfig, Unclaimed};
use pilotlight_wire::demand::{self, DemandLine};
use pilotlight_wire::invoke::{Answer, InvokeRequest, Outcome};
use pilotlight_wire::lease::{LeaseHead, LeaseRequest};
use pilotlight_wire::log_record::{LogRecord, LogSource};
use pilotlight_wire::logs::LogsRequest;
use pilotlight_wire::prestart::Begin;
use pilotlight_wire::records::{self, StatusLine};
use pilotlight_wire::state::State;
use pilotlight_wire::status;
use pilotlight_wire::stream::StreamEnd;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Headers as two lines each: name and value. They decide how a lease, its answer, a claim and an invocation
/// between gateways are read.
fn written_headers(text: &str) {
    let mut lines = text.lines();
    let mut headers = HeaderMap::new();
    while let (Some(name), Some(value)) = (lines.next(), lines.next()) {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
            headers.append(name, value);
        }
    }
    if let Ok(lease) = LeaseRequest::read(&headers, Bytes::new()) {
        let request = lease.clone().into_request();
        let read = LeaseRequest::read(request.headers(), Bytes::new()).expect("it was understood");
        // Phases are rounded when they are written.
        let unphased = |lease| LeaseRequest {
            phases: None,
            ..lease
        };
        assert_eq!(unphased(read), unphased(lease));
    }
    if let Ok(invoke) = InvokeRequest::read(&headers, Bytes::new()) {
        let request = invoke.clone().into_request();
        let read = InvokeRequest::read(request.headers(), Bytes::new());
        assert_eq!(read, Ok(invoke));
    }
    written_outcome(&headers, text);
    if let Some(end) = StreamEnd::read(&headers) {
        let read = StreamEnd::read(&end.clone().into_trailers()).expect("it was understood");
        let unphased = |end: StreamEnd| StreamEnd {
            report: unphased(end.report),
            ..end
        };
        assert_eq!(unphased(read), unphased(end));
    }
    for status in [StatusCode::OK, StatusCode::CONFLICT] {
        let mut head = Response::new(()).into_parts().0;
        (head.status, head.headers) = (status, headers.clone());
        let written = match LeaseHead::read(&head) {
            LeaseHead::Answered(answer) => answer.into_response(),
            LeaseHead::Streamed(stream) => stream.into_response(Bytes::new()),
            LeaseHead::Refused(refusal) => refusal.into_response(),
            LeaseHead::Unreadable => continue,
        };
        let (written, _) = written.into_parts();
        let same = match (LeaseHead::read(&head), LeaseHead::read(&written)) {
            (LeaseHead::Answered(one), LeaseHead::Answered(other)) => {
                let unphased = |answer: LeaseAnswer| LeaseAnswer {
                    phases: Phases::default(),
                    report: unphased(answer.report),
                    ..answer
                };
                unphased(one) == unphased(other)
            }
            (LeaseHead::Streamed(one), LeaseHead::Streamed(other)) => {
                one.content_type == other.content_type
            }
            (one, other) => one == other,
        };
        assert!(same, "{head:?} {written:?}");
        let claimed = ClaimAnswer::read(&head, b"").into_response().into_parts().0;
        assert_eq!(claimed.status, status);
    }
}

/// The report without its phases, which are rounded when they are written.
fn unphased(report: Option<Box<CallReport>>) -> Option<Box<CallReport>> {
    report.map(|report| {
        Box::new(CallReport {
            phases: Phases::default(),
            ..*report
        })
    })
}

/// What the headers say of an invocation that another gateway ran or refused.
fn written_outcome(headers: &HeaderMap, body: &str) {
    for status in [
        StatusCode::OK,
        StatusCode::BAD_REQUEST,
        StatusCode::SERVICE_UNAVAILABLE,
    ] {
        let mut head = Response::new(()).into_parts().0;
        (head.status, head.headers) = (status, headers.clone());
        let outcome = Outcome::read(&head, Bytes::copy_from_slice(body.as_bytes()));
        let (written, body) = outcome.clone().into_response().into_parts();
        // Phases are rounded when they are written.
        let unphased = |outcome| match outcome {
            Outcome::Answered(answer) => Outcome::Answered(Answer {
                phases: answer.phases.map(|_| Phases::default()),
                report: unphased(answer.report),
                ..answer
            }),
            other => other,
        };
        assert_eq!(unphased(Outcome::read(&written, body)), unphased(outcome));
    }
}

/// A line of a gateway's demand, without its end.
fn demand_line(data: &[u8]) {
    let Ok(line) = DemandLine::read(data) else {
        return;
    };
    let mut written = Vec::new();
    match &line {
        DemandLine::Demand(demand) => demand::write(demand, &mut written),
        DemandLine::Alive => demand::write_alive(&mut written),
    }
    assert_eq!(written.pop(), Some(b'\n'));
    assert!(!written.contains(&b'\n'), "it is one line");
    assert_eq!(DemandLine::read(&written).expect("a line"), line);
}

/// The state of a gateway, which is merged with that of others.
fn state(data: &[u8]) {
    // The last digit of a bound may change when it is read again.
    let without_bounds = |mut state: State| {
        for function in &mut state.functions {
            function.durations.bounds.clear();
        }
        for durations in state.phases.values_mut() {
            durations.bounds.clear();
        }
        state
    };
    if let Ok(read) = serde_json::from_slice::<State>(data) {
        let written = serde_json::to_vec(&read).expect("plain data");
        let again = serde_json::from_slice::<State>(&written).expect("a state");
        assert_eq!(without_bounds(again.clone()), without_bounds(read.clone()));
        let mut all = State::default();
        all.merge(read);
        all.merge(again);
        assert!(
            all.functions
                .is_sorted_by(|one, other| one.key() < other.key())
        );
    }
}

fuzz_target!(|data: &[u8]| {
    demand_line(data);
    state(data);
    json::<InstanceConfig>(data);
    json::<Claim>(data);
    json::<Unclaimed>(data);
    json::<Prestart>(data);
    json::<Begin>(data);
    json::<DoorConfig>(data);
    written_phases(data);
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(status) = status::read(text) {
        assert_eq!(status::read(&status::write(status)), Ok(status));
    }
    read_phases(text);
    for line in text.lines() {
        if let Some(record) = LogRecord::parse(line) {
            assert_eq!(record.to_string(), line);
        }
        status_line(line);
    }
    written_record(text);
    written_headers(text);
});

/// A line that a gateway reads from a supervisor, one that a supervisor reads from a gateway, and what a gateway asks
/// another one for.
fn status_line(line: &str) {
    if let Some(read) = records::read(line.as_bytes()) {
        let mut written = Vec::new();
        match &read {
            StatusLine::Status(status) => {
                written.extend_from_slice(status::write(*status).as_bytes());
                written.push(b'\n');
            }
            StatusLine::Record { sequence, line } => {
                records::write_record(&mut written, *sequence, line);
            }
            StatusLine::Mark(mark) => records::write_mark(&mut written, mark),
        }
        assert_eq!(written.pop(), Some(b'\n'));
        assert_eq!(records::read(&written), Some(read));
    }
    if let Some(sequence) = records::read_acknowledgement(line.as_bytes()) {
        let written = records::acknowledgement(sequence);
        let again = records::read_acknowledgement(written.trim_end().as_bytes());
        assert_eq!(again, Some(sequence));
    }
    if let Ok(request) = LogsRequest::read(line) {
        let target = request.target();
        let (_, query) = target.split_once('?').expect("a query");
        assert_eq!(LogsRequest::read(query), Ok(request));
    }
}

fn json<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(text) {
        let written = serde_json::to_vec(&value).expect("plain data");
        assert!(!written.contains(&b'\n'), "it is one line");
        assert_eq!(serde_json::from_slice::<T>(&written).expect("JSON"), value);
    }
}

/// The source, the request id and the text of a record: one line each, and the text has all further lines.
fn written_record(text: &str) {
    let mut lines = text.lines();
    let (Some(source), Some(id)) = (lines.next(), lines.next()) else {
        return;
    };
    let text = Vec::from_iter(lines).join("\n");
    let source = match source.len() % 3 {
        0 => LogSource::Stdout,
        1 => LogSource::Stderr,
        _ => LogSource::Platform,
    };
    // Read as a supervisor reads it.
    let is_id = !id.is_empty() && id != "-" && id.bytes().all(|byte| byte.is_ascii_graphic());
    let record = LogRecord {
        time: "2026-01-31T10:00:00.000001Z",
        source,
        request_id: is_id.then_some(id),
        text: text.into(),
    };
    assert_eq!(LogRecord::parse(&record.to_string()), Some(record));
}

fn read_phases(text: &str) {
    let written = Phases::read(text).to_string();
    let read = Phases::read(&written);
    assert_eq!(read.to_string(), written);
    assert_eq!(read.is_empty(), written.is_empty());
    assert!(
        written.is_ascii() && !written.contains(char::is_control),
        "{written:?}"
    );
}

/// Durations of eight bytes each, in nanoseconds.
fn written_phases(data: &[u8]) {
    let nanos = data
        .chunks_exact(8)
        .map(|bytes| bytes.try_into().expect("eight"));
    let durations = nanos.map(|nanos| Duration::from_nanos(u64::from_le_bytes(nanos) >> 8));
    let phases = Phases::of(Phase::ALL.into_iter().zip(durations));
    let read = Phases::read(&phases.to_string());
    assert_eq!(read.iter().count(), phases.iter().count());
    for ((phase, duration), (written, exact)) in read.iter().zip(phases.iter()) {
        assert_eq!(phase, written);
        assert!(
            duration.abs_diff(exact) <= Duration::from_micros(6),
            "{duration:?} {exact:?}"
        );
    }
}
