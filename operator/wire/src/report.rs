//! What an answer says of its invocation for the trace: how long each phase took, and what the function has added.
//!
//! A gateway asks for it on a lease, and on an invocation that it passes on; the answer has it in its head, or in the trailers
//! of a stream. Parts of an earlier release ignore the question, and then the gateway knows less.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use pilotlight_core::instance::phases::Phases;
use pilotlight_core::traces::segments::{SEGMENTS_BYTES, SEGMENTS_LIMIT, Segments};
use pilotlight_core::traces::spans::CallReport;

use crate::segments;

/// On a request: `1` if the answer must carry a report.
const WANTED: HeaderName = HeaderName::from_static("pilotlight-traced");
/// The phases, in the form of `Server-Timing`. An answer without it has no report.
const TIMING: HeaderName = HeaderName::from_static("pilotlight-timing");
/// A list of segments in JSON and base64.
const SEGMENTS: HeaderName = HeaderName::from_static("pilotlight-segments");
/// How many segments were left out.
const DROPPED: HeaderName = HeaderName::from_static("pilotlight-segments-dropped");
/// The name of the instance.
const INSTANCE: HeaderName = HeaderName::from_static("pilotlight-ran-in");

pub(crate) fn want(headers: &mut HeaderMap) {
    headers.insert(WANTED, HeaderValue::from_static("1"));
}

pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    headers.contains_key(WANTED)
}

pub(crate) fn write(report: &CallReport, headers: &mut HeaderMap) {
    let timing = HeaderValue::try_from(report.phases.to_string());
    headers.insert(TIMING, timing.expect("names and numbers are ASCII"));
    let Segments { list, dropped } = &report.segments;
    let (mut json, mut dropped) = (String::from("["), *dropped);
    for segment in list {
        let segment = segments::write(segment);
        if json.len() + segment.len() + 2 > SEGMENTS_BYTES {
            dropped = dropped.saturating_add(1);
            continue;
        }
        if json.len() > 1 {
            json.push(',');
        }
        json.push_str(&segment);
    }
    if json.len() > 1 {
        json.push(']');
        let encoded = HeaderValue::try_from(BASE64_STANDARD.encode(json));
        headers.insert(SEGMENTS, encoded.expect("base64 is ASCII"));
    }
    if dropped > 0 {
        headers.insert(DROPPED, dropped.into());
    }
    let instance = report.instance.as_deref();
    if let Some(instance) = instance.and_then(|name| HeaderValue::from_str(name).ok()) {
        headers.insert(INSTANCE, instance);
    }
}

pub(crate) fn read(headers: &HeaderMap) -> Option<CallReport> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let phases = Phases::read(text(TIMING)?);
    let encoded = text(SEGMENTS).filter(|text| text.len() <= SEGMENTS_BYTES.div_ceil(3) * 4);
    let json = encoded.and_then(|text| BASE64_STANDARD.decode(text).ok());
    let mut list = json
        .and_then(|json| segments::read_list(&json))
        .unwrap_or_default();
    list.truncate(SEGMENTS_LIMIT);
    let dropped = text(DROPPED).and_then(|text| text.parse().ok());
    Some(CallReport {
        phases,
        segments: Segments {
            list,
            dropped: dropped.unwrap_or(0),
        },
        instance: text(INSTANCE).map(str::to_owned),
        is_forwarded: false,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pilotlight_core::instance::phases::Phase;
    use pilotlight_core::traces::ids::SpanId;
    use pilotlight_core::traces::segments::{NAME_LIMIT, Segment};

    use super::*;

    fn report(segments: usize) -> CallReport {
        let segment = |number: usize| Segment {
            id: SpanId::of_random(number as u64 + 1),
            parent: SpanId::of_random(9),
            name: "n".repeat(NAME_LIMIT),
            start: 1,
            end: 2,
            is_remote: true,
            error: Some("grün".to_owned()),
            annotations: vec![
                ("key".to_owned(), "v".repeat(256)),
                ("two".to_owned(), "v".repeat(256)),
            ],
        };
        CallReport {
            phases: Phases::of([(Phase::Run, Duration::from_millis(3))]),
            segments: Segments {
                list: (0..segments).map(segment).collect(),
                dropped: 2,
            },
            instance: Some("8f3c".to_owned()),
            is_forwarded: false,
        }
    }

    #[test]
    fn a_report_reads_back_as_written() {
        let mut headers = HeaderMap::new();
        assert_eq!(read(&headers), None);
        write(&report(3), &mut headers);
        assert_eq!(read(&headers), Some(report(3)));
        let mut headers = HeaderMap::new();
        write(&CallReport::default(), &mut headers);
        assert_eq!(read(&headers), Some(CallReport::default()));
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn the_bytes_of_segments_are_bounded_and_those_beyond_are_counted() {
        let mut headers = HeaderMap::new();
        write(&report(SEGMENTS_LIMIT), &mut headers);
        let read = read(&headers).expect("a report").segments;
        assert!(read.list.len() < SEGMENTS_LIMIT);
        assert_eq!(
            read.list.len() as u32 + read.dropped,
            SEGMENTS_LIMIT as u32 + 2
        );
        assert!(headers[SEGMENTS].len() <= SEGMENTS_BYTES.div_ceil(3) * 4);
    }
}
