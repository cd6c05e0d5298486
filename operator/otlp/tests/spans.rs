//! An exporter and a collector: one that takes spans, one that refuses them, one that is away, and one that stalls.

mod stub;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use pilotlight_core::traces::ids::{SpanId, TraceId};
use pilotlight_core::traces::spans::{Span, SpanKind};
use pilotlight_otlp::{Endpoint, SpanBatch, SpanCounts, SpanExporter, SpanOrigin};
use prost::Message as _;
use stub::{PATIENCE, Reply, receiver};

fn spans(count: u64, name: &str) -> SpanBatch {
    let trace = TraceId::read("5759e988bd862e3fe1be46a994272793").expect("an id");
    let mut batch = SpanBatch::default();
    for number in 1..=count {
        let span = Span {
            id: SpanId::of_random(number),
            parent: None,
            name: name.to_owned().into(),
            kind: SpanKind::Server,
            start: Duration::from_secs(1),
            end: Duration::from_secs(2),
            attributes: Vec::new(),
            error: None,
            link: None,
        };
        batch.add(trace, None, &span);
    }
    batch
}

fn exporter(address: SocketAddr) -> SpanExporter {
    let origin = SpanOrigin {
        service: "test",
        version: "0",
        instance: "one".to_owned(),
    };
    let endpoint = Endpoint::traces(&format!("http://{address}")).expect("an endpoint");
    SpanExporter::start(endpoint, origin).expect("a thread")
}

/// A collector with these statuses, one for each request. The receiver gets the number of spans of each.
fn collector(statuses: Vec<u16>) -> (SocketAddr, impl Fn() -> usize) {
    let (address, told) = receiver(statuses.into_iter().map(Reply::from).collect());
    let spans = move || {
        let (head, body) = told.recv_timeout(PATIENCE).expect("a request");
        assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        let request = ExportTraceServiceRequest::decode(&*body).expect("a message");
        let scopes = request.resource_spans.iter().flat_map(|of| &of.scope_spans);
        scopes.map(|of| of.spans.len()).sum()
    };
    (address, spans)
}

fn counted(counts: &SpanCounts) -> [u64; 3] {
    [
        &counts.exported,
        &counts.dropped_full,
        &counts.dropped_unsent,
    ]
    .map(|count| count.load(Ordering::Relaxed))
}

/// Waits until the counts are these.
fn until(exporter: &SpanExporter, expected: [u64; 3]) {
    let begun = Instant::now();
    while counted(&exporter.counts()) != expected {
        let counts = exporter.counts();
        assert!(begun.elapsed() < PATIENCE, "{:?}", counted(&counts));
        thread::yield_now();
    }
}

#[test]
fn spans_arrive_together_and_the_rest_at_the_end() {
    let (address, told) = collector(vec![200, 200]);
    let exporter = exporter(address);
    exporter.submit(spans(2, "a"));
    exporter.submit(spans(3, "b"));
    assert_eq!(told(), 5);
    exporter.submit(spans(1, "c"));
    exporter.end();
    assert_eq!(told(), 1);
    until(&exporter, [6, 0, 0]);
    exporter.submit(spans(1, "late"));
    assert_eq!(counted(&exporter.counts()), [6, 1, 0]);
}

#[test]
fn a_batch_that_the_collector_cannot_take_now_is_sent_again_and_a_refused_one_is_not() {
    let (address, told) = collector(vec![503, 200, 400, 200]);
    let exporter = exporter(address);
    exporter.submit(spans(2, "again"));
    assert_eq!(told(), 2);
    assert_eq!(told(), 2);
    exporter.submit(spans(3, "refused"));
    assert_eq!(told(), 3);
    exporter.submit(spans(4, "next"));
    assert_eq!(told(), 4);
    exporter.end();
    until(&exporter, [6, 0, 3]);
}

#[test]
fn while_the_collector_stalls_spans_wait_within_a_bound_and_nobody_waits_for_it() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let exporter = exporter(listener.local_addr().expect("bound"));
    // Nobody accepts; the first batch is on its way.
    let name = "x".repeat(1000);
    let mut handed_in = 0;
    while counted(&exporter.counts())[1] == 0 {
        exporter.submit(spans(100, &name));
        handed_in += 100;
        assert!(handed_in <= 100_000, "the buffer has a bound");
    }
    assert_eq!(counted(&exporter.counts())[1], 100);
    // What waits and what is on its way, at most twice the limit.
    assert!(handed_in < 2 * 4 * 1024 + 1000, "{handed_in}");
}

#[test]
fn a_collector_that_is_away_costs_the_end_of_the_process_little() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let exporter = exporter(address);
    exporter.submit(spans(2, "lost"));
    exporter.end();
    until(&exporter, [0, 0, 2]);
}
