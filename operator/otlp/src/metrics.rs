//! The exporters as metrics: what the receivers have taken, and what was dropped, and why.
//!
//! Gateways register both, controllers those of spans, each under a prefix of its own. Without a receiver they do not exist.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::log_exporter::LogCounts;
use crate::span_exporter::SpanCounts;

#[derive(Debug)]
struct Spans(Arc<SpanCounts>);

#[derive(Debug)]
struct Logs(Arc<LogCounts>);

/// Adds the metrics of an exporter of spans to a registry.
pub fn register_spans(counts: Arc<SpanCounts>, registry: &mut Registry) {
    registry.register_collector(Box::new(Spans(counts)));
}

/// Adds the metrics of an exporter of log records to a registry.
pub fn register_logs(counts: Arc<LogCounts>, registry: &mut Registry) {
    registry.register_collector(Box::new(Logs(counts)));
}

fn counter(count: &AtomicU64) -> ConstCounter<u64> {
    ConstCounter::new(count.load(Ordering::Relaxed))
}

/// One counter with a series for each reason.
fn by_reason(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    reasons: &[(&str, &AtomicU64)],
) -> fmt::Result {
    let kind = ConstCounter::new(0_u64).metric_type();
    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
    for (reason, dropped) in reasons {
        let labels = [("reason", *reason)];
        counter(dropped).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

impl Collector for Spans {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let exported = counter(&self.0.exported);
        let help = "Spans that the collector of traces has taken";
        let metric =
            encoder.encode_descriptor("spans_exported", help, None, exported.metric_type())?;
        exported.encode(metric)?;
        let help =
            "Spans that were dropped: the buffer was full, or the collector did not take them";
        let reasons = [
            ("full", &self.0.dropped_full),
            ("unsent", &self.0.dropped_unsent),
        ];
        by_reason(&mut encoder, ("spans_dropped", help), &reasons)
    }
}

impl Collector for Logs {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let exported = counter(&self.0.exported);
        let (name, help) = (
            "log_records_exported",
            "Log records that the receiver of logs has taken",
        );
        let metric = encoder.encode_descriptor(name, help, None, exported.metric_type())?;
        exported.encode(metric)?;
        let (name, help) = (
            "log_records_not_exported",
            "Log records that the receiver of logs did not get, by reason",
        );
        let reasons = [
            ("full", &self.0.dropped_full),
            ("refused", &self.0.dropped_refused),
            ("unsent", &self.0.dropped_unsent),
        ];
        by_reason(&mut encoder, (name, help), &reasons)?;
        let waiting = ConstGauge::new(self.0.waiting.load(Ordering::Relaxed));
        let (name, help) = (
            "log_export_backlog",
            "Memory of log records that wait for the receiver of logs",
        );
        let kind = waiting.metric_type();
        let metric = encoder.encode_descriptor(name, help, Some(&Unit::Bytes), kind)?;
        waiting.encode(metric)
    }
}
