//! What a receiver of OTLP gets of a function's log, and what the metrics say of it.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::ResourceLogs;
use pilotlight_otlp::{Endpoint, LogReceiver};
use prost::Message as _;

use super::stage::{Stage, function, on_stage};
use super::traces::{PARENT, PATIENCE, TRACE, hex, receiver, traced};
use crate::config::Config;
use crate::logs::{ExportPlace, LogExports};

/// A receiver on a thread of its own, and the gateway's way to it.
struct Receiver {
    exports: LogExports,
    received: mpsc::Receiver<Vec<ResourceLogs>>,
}

impl Receiver {
    fn start() -> Self {
        let (endpoint, received) = receiver(|body| {
            let request = ExportLogsServiceRequest::decode(body).expect("a message");
            request.resource_logs
        });
        let to = LogReceiver {
            endpoint: Endpoint::logs(&endpoint).expect("an endpoint"),
            headers: "".parse().expect("none"),
            limit: 1024 * 1024,
        };
        let place = ExportPlace {
            region: "us-east-1".to_owned(),
            account: "000000000000".to_owned(),
            is_cluster: true,
        };
        let exports = LogExports::start(to, place).expect("a thread");
        Receiver { exports, received }
    }

    fn config(&self) -> Config {
        Config {
            log_exports: Some(self.exports.clone()),
            ..Config::default()
        }
    }

    /// All that has come until now, at least one request.
    fn all(&self) -> Vec<ResourceLogs> {
        self.exports.end();
        let mut all = self.received.recv_timeout(PATIENCE).expect("records");
        all.extend(self.received.try_iter().flatten());
        all
    }
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        other => format!("{other:?}"),
    }
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<&str, String> {
    let pairs = pairs.iter();
    pairs
        .map(|pair| (pair.key.as_str(), text(pair.value.as_ref())))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_receiver_gets_each_record_with_its_function_its_call_and_its_trace() {
    on_stage(async {
        let receiver = Receiver::start();
        let mut stage = Stage::new(receiver.config(), None);
        stage.gateway.deploy(vec![function("")]).await;
        let caller = traced(&stage, "01");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        instance.prints("[ERROR]\tbroken");
        instance.answers(&event, "1").await;
        caller.answer().await;
        // Its answer has everything that the call has logged, so all of it has been taken.
        stage.get("/pilotlight/v1/functions/hello/logs").await;
        let all = receiver.all();
        let [of] = &all[..] else {
            panic!("one resource: {all:?}")
        };
        let resource = of.resource.as_ref().expect("a resource");
        let instance = instance.name.to_string();
        let expected = [
            ("service.name", "hello"),
            ("service.namespace", "local"),
            ("service.instance.id", &instance),
            ("faas.name", "hello"),
            ("faas.version", "$LATEST"),
            ("faas.instance", &instance),
            ("cloud.region", "us-east-1"),
            ("cloud.account.id", "000000000000"),
            (
                "cloud.resource_id",
                "arn:aws:lambda:us-east-1:000000000000:function:hello",
            ),
            ("k8s.namespace.name", "local"),
        ];
        let expected = expected.map(|(key, value)| (key, value.to_owned()));
        assert_eq!(attributes(&resource.attributes), BTreeMap::from(expected));

        let records = &of.scope_logs[0].log_records;
        let texts = records.iter().map(|record| text(record.body.as_ref()));
        let texts = Vec::from_iter(texts);
        let beginnings = ["INIT_START", "START", "[ERROR]\tbroken", "END", "REPORT"];
        assert_eq!(texts.len(), beginnings.len(), "{texts:?}");
        for (text, beginning) in texts.iter().zip(beginnings) {
            assert!(text.starts_with(beginning), "{texts:?}");
        }
        let said = attributes(&records[2].attributes);
        assert_eq!(said["faas.invocation_id"], event.request_id);
        assert_eq!(said["log.iostream"], "stdout");
        assert_eq!(said["log.record.uid"], format!("{instance}/3"));
        assert_eq!(
            (records[2].severity_number, &*records[2].severity_text),
            (17, "ERROR")
        );
        let platform = attributes(&records[0].attributes);
        assert_eq!(platform["pilotlight.source"], "platform");
        assert!(!platform.contains_key("faas.invocation_id"));
        assert!(records[0].trace_id.is_empty(), "an init has no trace");
        for record in &records[1..] {
            assert_eq!(hex(&record.trace_id), TRACE);
            assert_eq!((hex(&record.span_id).as_str(), record.flags), (PARENT, 1));
        }

        let counts = receiver.exports.counts();
        // The thread counts after the answer.
        while counts.exported.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        let exported = stage.metric("pilotlight_log_records_exported_total").await;
        assert_eq!(exported, 5.0);
        let metrics = stage.status("/metrics").await.text();
        for reason in ["full", "refused", "unsent"] {
            let none =
                format!("pilotlight_log_records_not_exported_total{{reason=\"{reason}\"}} 0");
            assert!(metrics.contains(&none), "{metrics}");
        }
        assert!(metrics.contains("pilotlight_log_export_backlog_bytes 0"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_trace_that_is_not_sampled_has_no_span() {
    on_stage(async {
        let receiver = Receiver::start();
        let mut stage = Stage::new(receiver.config(), None);
        stage.gateway.deploy(vec![function("")]).await;
        let caller = traced(&stage, "00");
        stage.instance().await.serves("1").await;
        caller.answer().await;
        stage.get("/pilotlight/v1/functions/hello/logs").await;
        let all = receiver.all();
        let start = &all[0].scope_logs[0].log_records[1];
        assert_eq!(hex(&start.trace_id), TRACE);
        assert!(start.span_id.is_empty() && start.flags == 0, "{start:?}");
    })
    .await;
}
