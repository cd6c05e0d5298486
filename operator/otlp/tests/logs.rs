//! An exporter of log records and a receiver: one that takes records, one that rejects some or all, one that is away for a
//! while, and one that stalls.

mod stub;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use pilotlight_otlp::{Endpoint, LogExporter, LogReceiver, OtlpLogs, OtlpRecord};
use prost::Message as _;
use stub::{PATIENCE, Reply, receiver};

type Exporter = LogExporter<&'static str, u32>;

/// What a record takes of the bound.
const SIZE: usize = 1000;

fn write(number: &u32, batch: &mut OtlpLogs) {
    let body = number.to_string();
    let record = OtlpRecord {
        time: Duration::from_secs(1),
        severity: None,
        body: &body,
        attributes: &[],
        trace: None,
    };
    batch.add(&[("service.name", "hello")], &record);
}

fn exporter(address: SocketAddr, limit: usize, headers: &str) -> Exporter {
    let to = LogReceiver {
        endpoint: Endpoint::logs(&format!("http://{address}")).expect("an endpoint"),
        headers: headers.parse().expect("headers"),
        limit,
    };
    LogExporter::start(to, "0", write).expect("a thread")
}

fn submit(exporter: &Exporter, source: &'static str, records: std::ops::Range<u32>) {
    records.for_each(|record| exporter.submit(&source, record, SIZE));
}

/// The records of the next request, and its head.
fn next(told: &std::sync::mpsc::Receiver<(String, Vec<u8>)>) -> (String, Vec<u32>) {
    let (head, body) = told.recv_timeout(PATIENCE).expect("a request");
    let request = ExportLogsServiceRequest::decode(&*body).expect("a message");
    let scopes = request
        .resource_logs
        .into_iter()
        .flat_map(|of| of.scope_logs);
    let records = scopes.flat_map(|of| of.log_records);
    let number = |value: Option<Value>| match value {
        Some(Value::StringValue(text)) => text.parse().expect("a number"),
        other => panic!("a text: {other:?}"),
    };
    let numbers = records.map(|record| number(record.body.and_then(|body| body.value)));
    (head, numbers.collect())
}

/// Exported, and dropped as full, refused and unsent.
fn counted(exporter: &Exporter) -> [u64; 4] {
    let counts = exporter.counts();
    [
        &counts.exported,
        &counts.dropped_full,
        &counts.dropped_refused,
        &counts.dropped_unsent,
    ]
    .map(|count| count.load(Ordering::Relaxed))
}

fn until(exporter: &Exporter, expected: [u64; 4]) {
    let begun = Instant::now();
    while counted(exporter) != expected {
        assert!(begun.elapsed() < PATIENCE, "{:?}", counted(exporter));
        thread::yield_now();
    }
}

#[test]
fn records_arrive_together_with_the_headers_that_the_receiver_wants() {
    let (address, told) = receiver(vec![200.into(), 200.into()]);
    let exporter = exporter(address, 1 << 20, "authorization=Bearer%20key");
    submit(&exporter, "a", 0..2);
    submit(&exporter, "b", 2..3);
    let (head, records) = next(&told);
    assert!(head.starts_with("post /v1/logs http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nauthorization: bearer key\r\n"), "{head}");
    assert_eq!(records, [0, 1, 2]);
    submit(&exporter, "a", 3..4);
    exporter.end();
    assert_eq!(next(&told).1, [3]);
    until(&exporter, [4, 0, 0, 0]);
    submit(&exporter, "a", 4..5);
    assert_eq!(
        counted(&exporter),
        [4, 0, 0, 1],
        "nothing is sent after the end"
    );
}

#[test]
fn a_batch_is_sent_until_it_is_taken_and_then_the_next_one() {
    let reply = |headers| Reply {
        headers,
        ..503.into()
    };
    let replies = vec![
        reply(""),
        reply("retry-after: 2\r\n"),
        200.into(),
        200.into(),
    ];
    let (address, told) = receiver(replies);
    let exporter = exporter(address, 1 << 20, "");
    submit(&exporter, "a", 0..2);
    assert_eq!(next(&told).1, [0, 1]);
    submit(&exporter, "a", 2..3);
    assert_eq!(next(&told).1, [0, 1]);
    assert_eq!(next(&told).1, [0, 1]);
    assert_eq!(next(&told).1, [2]);
    exporter.end();
    until(&exporter, [3, 0, 0, 0]);
    assert_eq!(exporter.counts().waiting.load(Ordering::Relaxed), 0);
}

#[test]
fn what_the_receiver_refuses_or_rejects_is_not_sent_again_and_is_counted() {
    let partial_success = ExportLogsPartialSuccess {
        rejected_log_records: 2,
        error_message: "too old".to_owned(),
    };
    let partial = ExportLogsServiceResponse {
        partial_success: Some(partial_success),
    };
    let partial = Reply {
        body: partial.encode_to_vec(),
        ..200.into()
    };
    let (address, told) = receiver(vec![400.into(), partial, 200.into()]);
    let exporter = exporter(address, 1 << 20, "");
    submit(&exporter, "a", 0..3);
    assert_eq!(next(&told).1, [0, 1, 2]);
    until(&exporter, [0, 0, 3, 0]);
    submit(&exporter, "a", 3..8);
    assert_eq!(next(&told).1, [3, 4, 5, 6, 7]);
    until(&exporter, [3, 0, 5, 0]);
    submit(&exporter, "a", 8..9);
    assert_eq!(next(&told).1, [8]);
    exporter.end();
    until(&exporter, [4, 0, 5, 0]);
}

#[test]
fn while_the_receiver_stalls_records_wait_within_a_bound_and_a_loud_function_takes_nothing_from_a_quiet_one()
 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    // Nobody accepts.
    let exporter = exporter(listener.local_addr().expect("bound"), 100 * SIZE, "");
    submit(&exporter, "quiet", 0..10);
    submit(&exporter, "loud", 100..10_100);
    let counts = exporter.counts();
    assert!(counts.waiting.load(Ordering::Relaxed) <= 100 * SIZE as u64);
    exporter.end();
    // Whatever was on its way when it had to make room is counted when it has not arrived.
    let begun = Instant::now();
    while counted(&exporter).iter().sum::<u64>() < 10_010 {
        assert!(begun.elapsed() < PATIENCE, "{:?}", counted(&exporter));
        thread::yield_now();
    }
    let [exported, full, refused, unsent] = counted(&exporter);
    assert_eq!((exported, refused), (0, 0));
    assert!((90..=100).contains(&unsent), "{unsent} of {full}");
}

#[test]
fn what_the_end_cannot_send_is_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let exporter = exporter(address, 1 << 20, "");
    submit(&exporter, "a", 0..3);
    exporter.end();
    until(&exporter, [0, 0, 0, 3]);
}
