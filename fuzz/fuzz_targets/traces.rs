//! What callers say of their traces.
//!
//! Whatever the headers are, what the next hop gets is short, printable, and read there as the same trace. The forms of X-Ray
//! and of W3C name the same ids.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pilotlight_core::traces::context::{Fresh, LIMIT, STATE_LIMIT, TraceContext, TraceHeaders};
use pilotlight_core::traces::ids::SpanId;

fn read(xray: Option<&str>, traceparent: Option<&str>, tracestate: Option<&str>) -> TraceContext {
    let headers = TraceHeaders {
        xray,
        traceparent,
        tracestate,
    };
    let random = |_| 7;
    let fresh = Fresh {
        seconds: 1,
        random: &random,
    };
    TraceContext::of_call(headers, fresh)
}

fuzz_target!(|text: &str| {
    let mut lines = text
        .split('\n')
        .map(|line| Some(line).filter(|line| !line.is_empty()));
    let mut line = || lines.next().flatten();
    let context = read(line(), line(), line());
    let (parent, is_sampled) = (
        context.parent.unwrap_or(SpanId::of_random(0)),
        context.decision == Some(true),
    );
    let xray = context.to_xray(parent, is_sampled);
    let traceparent = context.to_traceparent(parent, is_sampled);
    for header in [&xray, &traceparent] {
        assert!(header.len() <= LIMIT + 80 && header.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    let state = context.state.as_deref();
    assert!(state.is_none_or(|state| state.len() <= STATE_LIMIT
        && state.bytes().all(|byte| (0x20..0x7f).contains(&byte))));
    let mut expected = context.clone();
    (expected.parent, expected.decision) = (Some(parent), Some(is_sampled));
    if xray.len() <= LIMIT {
        let again = read(Some(&xray), Some(&traceparent), state);
        assert_eq!(again, expected, "{xray}");
        assert_eq!(
            read(Some(&xray), None, None).to_traceparent(parent, is_sampled),
            traceparent
        );
    }
    let again = read(None, Some(&traceparent), state);
    assert_eq!(
        (again.trace, again.parent, again.decision),
        (expected.trace, expected.parent, expected.decision)
    );
});
