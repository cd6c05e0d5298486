//! What a function sends to the port of X-Ray's daemon, and what reaches the gateway of it.
//!
//! Whatever the datagram is, nothing of another trace is taken. What is taken is within the bounds, hangs below the
//! function's own invocation, and arrives with the answer as it was read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pilotlight_core::traces::ids::{SpanId, TraceId};
use pilotlight_core::traces::segments::{
    ANNOTATIONS_LIMIT, NAME_LIMIT, SEGMENTS_BYTES, SEGMENTS_LIMIT, Segments, VALUE_LIMIT,
};
use pilotlight_core::traces::spans::CallReport;
use pilotlight_wire::segments::read_datagram;
use pilotlight_wire::stream::StreamEnd;

fuzz_target!(|datagram: &[u8]| {
    let trace = TraceId::read("5759e988bd862e3fe1be46a994272793").expect("an id");
    let Ok((list, dropped)) = read_datagram(datagram, trace) else {
        return;
    };
    let text = String::from_utf8_lossy(datagram).to_lowercase();
    // Escapes of JSON can spell it differently.
    assert!(text.contains("5759e988") || text.contains("\\u"), "{text}");
    assert!(list.len() <= SEGMENTS_LIMIT);
    for segment in &list {
        assert!((1..=NAME_LIMIT).contains(&segment.name.len()));
        assert!(segment.annotations.len() <= ANNOTATIONS_LIMIT);
        for (key, value) in &segment.annotations {
            assert!(key.len() <= VALUE_LIMIT && value.len() <= VALUE_LIMIT);
        }
        assert!(
            segment
                .error
                .as_ref()
                .is_none_or(|error| error.len() <= VALUE_LIMIT)
        );
    }
    let all = list.len() as u64 + u64::from(dropped);
    let end = StreamEnd {
        error: None,
        log_tail: None,
        status: None,
        report: Some(Box::new(CallReport {
            segments: Segments {
                list: list.clone(),
                dropped,
            },
            ..CallReport::default()
        })),
        failure: None,
    };
    let trailers = end.into_trailers();
    let bytes = trailers.values().map(|value| value.len()).sum::<usize>();
    assert!(bytes <= SEGMENTS_BYTES.div_ceil(3) * 4 + 1024, "{bytes}");
    let read = StreamEnd::read(&trailers)
        .and_then(|end| end.report)
        .expect("a report");
    let mut sent = list.iter();
    assert!(
        read.segments
            .list
            .iter()
            .all(|segment| sent.any(|one| one == segment))
    );
    assert_eq!(
        read.segments.list.len() as u64 + u64::from(read.segments.dropped),
        all
    );
    let (call, run) = (SpanId::of_random(1), SpanId::of_random(2));
    let below = read.segments.below(run, &[call]);
    for segment in &below.list {
        assert!(segment.id != call && segment.id != run);
        let parent = segment.parent;
        assert!(
            parent == run
                || below
                    .list
                    .iter()
                    .any(|one| one.id == parent && one.id != segment.id)
        );
    }
});
