//! The trace of a call, as its function, its caller and a collector see it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use axum::body::Body;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use pilotlight_core::traces::sampling::{Ratio, Sampling};
use pilotlight_otlp::{Endpoint, SpanExporter, SpanOrigin};
use prost::Message as _;

use super::events;
use super::peers::{two, two_with};
use super::stage::{Caller, Stage, function, invocation, on_stage, settled};
use crate::config::Config;
use crate::traces::Traces;

pub(super) const TRACE: &str = "5759e988bd862e3fe1be46a994272793";
const ROOT: &str = "Root=1-5759e988-bd862e3fe1be46a994272793";
/// The first call of `hello` in a chain.
const LINEAGE: &str = "Lineage=1:b86b5ecb:0";
pub(super) const PARENT: &str = "0f1b758a73ce5eaa";

/// Only a broken exporter reaches it.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

/// A call that is traced by OpenTelemetry.
pub(super) fn traced(stage: &Stage, flags: &str) -> Caller {
    let traceparent = format!("00-{TRACE}-{PARENT}-{flags}");
    let request = invocation("hello")
        .header("traceparent", traceparent)
        .header("tracestate", "vendor=1")
        .header("tracestate", "other=2")
        .body(Body::from("1"));
    stage.send(request)
}

/// A collector on a thread of its own, and the traces of a gateway that sends to it.
struct Collector {
    traces: Traces,
    received: mpsc::Receiver<Vec<Span>>,
}

impl Collector {
    fn start(ratio: Ratio) -> Self {
        let (endpoint, received) = receiver(|body| {
            let request = ExportTraceServiceRequest::decode(body).expect("a message");
            let scopes = request
                .resource_spans
                .into_iter()
                .flat_map(|of| of.scope_spans);
            scopes.flat_map(|of| of.spans).collect()
        });
        let origin = SpanOrigin {
            service: "test",
            version: "0",
            instance: "one".to_owned(),
        };
        let exporter =
            SpanExporter::start(Endpoint::traces(&endpoint).expect("an endpoint"), origin);
        let sampling = Sampling {
            ratio,
            errors: true,
            slow: Some(Duration::from_secs(1)),
        };
        Collector {
            traces: Traces {
                exporter: exporter.expect("a thread"),
                sampling,
                has_controller: true,
            },
            received,
        }
    }

    fn config(&self) -> Config {
        Config {
            traces: Some(self.traces.clone()),
            ..Config::default()
        }
    }

    /// All spans until now, at least one.
    fn spans(self) -> Vec<Span> {
        self.traces.exporter.end();
        let mut spans = self.received.recv_timeout(PATIENCE).expect("spans");
        spans.extend(self.received.try_iter().flatten());
        spans
    }
}

/// A receiver of OTLP on a thread of its own: its address, and what `read` makes of the body of each request.
pub(super) fn receiver<T: Send + 'static>(
    read: impl Fn(&[u8]) -> T + Send + 'static,
) -> (String, mpsc::Receiver<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    let (tell, received) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            while let Some(body) = request(&mut stream) {
                if tell.send(read(&body)).is_err() {
                    return;
                }
                answered(&mut stream);
            }
        }
    });
    (endpoint, received)
}

/// The body of a request; `None` at the end of the connection.
fn request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("a head").to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.expect("a length").parse().expect("a number")];
    stream.read_exact(&mut body).expect("a body");
    Some(body)
}

/// The receiver has taken the request.
fn answered(stream: &mut TcpStream) {
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .expect("written");
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let text = |value: Option<&Value>| match value {
        Some(Value::StringValue(text)) => text.clone(),
        other => format!("{other:?}"),
    };
    let pair = |pair: &opentelemetry_proto::tonic::common::v1::KeyValue| {
        text(pair.value.as_ref().and_then(|value| value.value.as_ref()))
    };
    let pairs = span.attributes.iter();
    pairs
        .map(|attribute| (attribute.key.as_str(), pair(attribute)))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_trace_of_w3c_reaches_the_function_as_one_of_x_ray_and_returns_as_both() {
    on_stage(async {
        let mut stage = Stage::of(function("")).await;
        let caller = traced(&stage, "01");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        let header = format!("{ROOT};Parent={PARENT};Sampled=1;{LINEAGE}");
        assert_eq!(event.headers["lambda-runtime-trace-id"], header);
        instance.answers(&event, "1").await;
        let answer = caller.answer().await;
        assert_eq!(answer.header("x-amzn-trace-id"), header);
        let response = format!("00-{TRACE}-{PARENT}-01");
        assert_eq!(answer.header("traceresponse"), response);

        let caller = stage.call("1");
        let event = instance.event().await;
        instance.answers(&event, "1").await;
        let answer = caller.answer().await;
        assert_eq!(answer.header("traceresponse"), "");
        let header = event.headers["lambda-runtime-trace-id"].to_str();
        assert_eq!(answer.header("x-amzn-trace-id"), header.expect("ASCII"));
        let undecided = format!(";Sampled=0;{LINEAGE}");
        assert!(answer.header("x-amzn-trace-id").ends_with(&undecided));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_state_of_a_trace_passes_every_hop() {
    on_stage(async {
        let ((mut first, _), (second, _)) = two("").await;
        let caller = traced(&second, "00");
        let mut instance = first.instance().await;
        let event = instance.event().await;
        assert_eq!(instance.trace_state().as_deref(), Some("vendor=1,other=2"));
        instance.answers(&event, "1").await;
        let header = format!("{ROOT};Parent={PARENT};Sampled=0;{LINEAGE}");
        assert_eq!(caller.answer().await.header("x-amzn-trace-id"), header);
    })
    .await;
}

/// A chain of calls in which `hello` was called sixteen times comes to it once more.
#[tokio::test(start_paused = true)]
async fn a_call_that_goes_round_in_a_circle_is_refused_unless_the_function_allows_it() {
    on_stage(async {
        let in_circle = |stage: &Stage, kind: &str| {
            let request = invocation("hello")
                .header("x-amzn-trace-id", format!("{ROOT};Lineage=16:b86b5ecb:15"))
                .header("x-amz-invocation-type", kind);
            stage.send(request.body(Body::from("1")))
        };
        let stage = Stage::of(function("")).await;
        for kind in ["RequestResponse", "Event"] {
            let refused = in_circle(&stage, kind).answer().await;
            assert_eq!(refused.error(), (400, "RecursiveInvocationException"));
            let message = refused.json()["Message"].to_string();
            assert!(message.contains("spec.recursiveLoop"), "{message}");
        }
        assert_eq!(in_circle(&stage, "DryRun").answer().await.status, 204);

        let mut stage = Stage::of(function("recursiveLoop: Allow")).await;
        let caller = in_circle(&stage, "RequestResponse");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        let header = event.headers["lambda-runtime-trace-id"].to_str();
        let header = header.expect("ASCII").to_owned();
        assert!(header.ends_with(";Lineage=17:b86b5ecb:16"), "{header}");
        instance.answers(&event, "1").await;
        assert_eq!(caller.answer().await.status, 200);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_has_one_span_below_its_callers_and_one_for_each_phase() {
    on_stage(async {
        let collector = Collector::start(Ratio::NONE);
        let mut stage = Stage::new(collector.config(), None);
        stage.gateway.deploy(vec![function("")]).await;
        let caller = traced(&stage, "01");
        let mut instance = stage.up().await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        instance.asks();
        let event = instance.event().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        instance.answers(&event, "1").await;
        let answer = caller.answer().await;
        let name = instance.name.clone();
        drop(stage);
        let spans = collector.spans();
        let names = Vec::from_iter(spans.iter().map(|span| span.name.as_str()));
        assert_eq!(names, ["hello", "queue", "start", "init", "run", "respond"]);
        let (call, run) = (&spans[0], &spans[4]);
        assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
        assert!(
            spans
                .iter()
                .all(|span| span.trace_state == "vendor=1,other=2")
        );
        assert_eq!(hex(&call.parent_span_id), PARENT);
        assert!(
            spans[1..]
                .iter()
                .all(|span| span.parent_span_id == call.span_id)
        );
        let seen = format!("{ROOT};Parent={};Sampled=1;{LINEAGE}", hex(&run.span_id));
        assert_eq!(event.headers["lambda-runtime-trace-id"], seen);
        assert_eq!(answer.header("x-amzn-trace-id"), seen);
        let took = |span: &Span| span.end_time_unix_nano - span.start_time_unix_nano;
        assert_eq!((took(&spans[3]), took(run)), (30_000_000, 20_000_000));
        assert_eq!(took(call), answer.took.as_nanos() as u64);
        let attributes = attributes(call);
        assert_eq!(attributes["faas.instance"], name);
        assert_eq!(attributes["faas.coldstart"], "Some(BoolValue(true))");
        assert_eq!(
            attributes["faas.invocation_id"],
            answer.header("x-amzn-requestid")
        );
        // The controller's trace about the pod of that instance.
        assert_eq!(hex(&spans[2].links[0].trace_id), name);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_event_has_a_span_for_its_call_and_one_below_it_for_each_attempt() {
    on_stage(async {
        let (collector, folder) = (Collector::start(Ratio::NONE), events::folder());
        let config = Config {
            traces: Some(collector.traces.clone()),
            ..events::config(&folder, 1024 * 1024)
        };
        let mut stage = Stage::new(config, None);
        stage
            .gateway
            .deploy(vec![function("keepAlive: 3600")])
            .await;
        let request = invocation("hello")
            .header("traceparent", format!("00-{TRACE}-{PARENT}-01"))
            .header("x-amz-invocation-type", "Event");
        let answer = stage.send(request.body(Body::from("1"))).answer().await;
        assert_eq!(answer.status, 202);
        let mut instance = stage.instance().await;
        let mut seen = Vec::new();
        for (kind, body) in [("error", "{}"), ("response", "1")] {
            let event = instance.event().await;
            let header = event.headers["lambda-runtime-trace-id"].to_str();
            seen.push(header.expect("ASCII").to_owned());
            instance.posts(&event, kind, body).await;
            instance.asks();
        }
        settled().await;
        drop(stage);
        let spans = collector.spans();
        assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
        let calls = Vec::from_iter(spans.iter().filter(|span| span.name == "hello"));
        let [call, first, second] = calls[..] else {
            panic!("{calls:?}");
        };
        assert_eq!(hex(&call.parent_span_id), PARENT);
        assert!(
            [first, second]
                .iter()
                .all(|one| one.parent_span_id == call.span_id)
        );
        let of = |span: &Span| {
            let attributes = attributes(span);
            let get = |name: &str| attributes[name].clone();
            (get("faas.trigger"), get("pilotlight.outcome"))
        };
        let pair = |one: &str, other: &str| (one.to_owned(), other.to_owned());
        assert_eq!(of(call), pair("http", "accepted"));
        assert_eq!(of(first), pair("pubsub", "function_error"));
        assert_eq!(of(second), pair("pubsub", "success"));
        let runs = Vec::from_iter(spans.iter().filter(|span| span.name == "run"));
        for (run, seen) in runs.iter().zip(&seen) {
            let parent = format!("Parent={};Sampled=1", hex(&run.span_id));
            assert!(seen.contains(&parent), "{seen}");
        }
        assert_eq!((runs.len(), seen.len()), (2, 2));
        let told = format!("Parent={};Sampled=1", hex(&call.span_id));
        assert!(answer.header("x-amzn-trace-id").contains(&told));
        let told = format!("00-{TRACE}-{}-01", hex(&call.span_id));
        assert_eq!(answer.header("traceresponse"), told);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_another_gateway_runs_has_the_phases_of_that_gateway_and_no_second_span() {
    on_stage(async {
        let (owner, asked) = (Collector::start(Ratio::ALL), Collector::start(Ratio::ALL));
        let ((mut first, _), (second, _)) = two_with("", (owner.config(), asked.config())).await;
        let caller = traced(&second, "01");
        let mut instance = first.up().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        let event = instance.event().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        instance.answers(&event, "1").await;
        caller.answer().await;
        let spans = asked.spans();
        let names = Vec::from_iter(spans.iter().map(|span| span.name.as_str()));
        assert_eq!(names, ["hello", "queue", "start", "init", "run", "respond"]);
        let seen = event.headers["lambda-runtime-trace-id"]
            .to_str()
            .expect("ASCII");
        assert!(seen.contains(&hex(&spans[4].span_id)), "{seen}");
        owner.traces.exporter.end();
        assert!(owner.received.try_recv().is_err());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn of_the_calls_that_are_not_sampled_only_errors_and_slow_ones_are_kept() {
    on_stage(async {
        let collector = Collector::start(Ratio::NONE);
        let mut stage = Stage::new(collector.config(), None);
        stage.gateway.deploy(vec![function("")]).await;
        let caller = stage.call("\"quick\"");
        let mut instance = stage.instance().await;
        instance.serves("1").await;
        let quick = caller.answer().await;
        let undecided = format!(";Sampled=0;{LINEAGE}");
        assert!(quick.header("x-amzn-trace-id").ends_with(&undecided));

        let caller = stage.call("\"fails\"");
        let event = instance.event().await;
        instance
            .posts(&event, "error", r#"{"errorType":"E","errorMessage":"m"}"#)
            .await;
        instance.asks();
        let failed = caller.answer().await;
        assert_eq!(failed.header("x-amz-function-error"), "Unhandled");

        let caller = stage.call("\"slow\"");
        let event = instance.event().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        instance.answers(&event, "1").await;
        let slow = caller.answer().await;

        // One whose caller goes is an error as well.
        let caller = stage.call("\"left\"");
        let event = instance.event().await;
        caller.goes().await;
        instance.answers(&event, "1").await;
        let spans = collector.spans();
        let calls = Vec::from_iter(spans.iter().filter(|span| span.name == "hello"));
        let kept = calls
            .iter()
            .map(|span| attributes(span)["faas.invocation_id"].clone());
        let kept = Vec::from_iter(kept);
        let expected = [
            failed.header("x-amzn-requestid"),
            slow.header("x-amzn-requestid"),
            &event.request_id,
        ];
        assert_eq!(kept, expected);
        let messages = calls
            .iter()
            .map(|span| span.status.as_ref().map(|status| status.message.as_str()));
        let expected = [
            Some("the function failed"),
            None,
            Some("the caller has gone"),
        ];
        assert_eq!(Vec::from_iter(messages), expected);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_the_collector_has_taken_is_a_metric() {
    on_stage(async {
        let collector = Collector::start(Ratio::ALL);
        let mut stage = Stage::new(collector.config(), None);
        stage.gateway.deploy(vec![function("")]).await;
        let caller = stage.call("1");
        stage.instance().await.serves("1").await;
        caller.answer().await;
        let counts = collector.traces.exporter.counts();
        let spans = collector.spans().len();
        // The thread counts after the answer.
        while counts.exported.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        let exported = stage.metric("pilotlight_spans_exported_total").await;
        assert_eq!(exported as usize, spans);
        let dropped = stage
            .metric("pilotlight_spans_dropped_total{reason=\"full\"}")
            .await;
        assert_eq!(dropped, 0.0);
        let text = stage.status("/metrics").await.text();
        assert!(
            text.contains("pilotlight_spans_dropped_total{reason=\"unsent\"} 0"),
            "{text}"
        );
    })
    .await;
}
