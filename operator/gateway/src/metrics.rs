//! The gateway's metrics: in Prometheus' text formats at `/metrics`, and for the state API.
//!
//! `function` counts for one function, `functions` writes all of them, within a bound. Everything else is of the gateway
//! as a whole, with labels that have fixed sets of values. docs/metrics.md has a row for each metric.

mod access;
mod function;
mod functions;
pub(crate) mod intake;
pub(crate) mod logs;
mod text;
pub(crate) mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;

use pilotlight_core::ids::PoolId;
use pilotlight_core::instance::phases::{Phase, Phases};
use pilotlight_logs::entry::Entry;
use pilotlight_otlp::{LogCounts, SpanCounts};
use pilotlight_wire::exposition::Format;
use pilotlight_wire::state::Durations;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

pub(crate) use self::access::AccessMetrics;
pub(crate) use self::function::{FunctionMetrics, OutcomeLabel, Tally};
use self::functions::Functions;
use self::intake::IntakeMetrics;
use self::logs::LogMetrics;
use self::tls::TlsMetrics;
use crate::histogram::Histogram;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPhase {
    phase: &'static str,
}

/// All metrics of this gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    functions: Functions,
    phases: Family<OfPhase, Histogram>,
    forwarded: Counter,
    unreadable: Gauge,
    pub(crate) intake: IntakeMetrics,
    pub(crate) access: AccessMetrics,
    pub(crate) tls: TlsMetrics,
}

impl Metrics {
    /// `own_series`: how many functions have series of their own (`Config::own_series`). `logs`: the counts of the hub, if
    /// there is one. `(spans, records)`: those of the exporters of spans and of log records, if there are any.
    pub(crate) fn new(
        own_series: usize,
        logs: Option<&LogMetrics>,
        (spans, records): (Option<Arc<SpanCounts>>, Option<Arc<LogCounts>>),
    ) -> Self {
        let mut registry = Registry::with_prefix("pilotlight");
        let phases = Family::default();
        registry.register_with_unit(
            "cold_start_phase",
            "How long cold starts took, by phase",
            Unit::Seconds,
            phases.clone(),
        );
        let forwarded = Counter::default();
        registry.register(
            "forwarded",
            "Calls sent on to the gateway that owns the function",
            forwarded.clone(),
        );
        let unreadable = Gauge::default();
        registry.register(
            "unreadable_functions",
            "Functions with a spec that this version cannot read",
            unreadable.clone(),
        );
        let intake = IntakeMetrics::register(&mut registry);
        let access = AccessMetrics::register(&mut registry);
        let tls = TlsMetrics::register(&mut registry);
        if let Some(logs) = logs {
            logs.register(&mut registry);
        }
        if let Some(spans) = spans {
            pilotlight_otlp::metrics::register_spans(spans, &mut registry);
        }
        if let Some(records) = records {
            pilotlight_otlp::metrics::register_logs(records, &mut registry);
        }
        Metrics {
            registry: Arc::new(registry),
            functions: Functions::new(own_series),
            phases,
            forwarded,
            unreadable,
            intake,
            access,
            tls,
        }
    }

    pub(crate) fn unreadable(&self, functions: usize) {
        self.unreadable.set(functions as i64);
    }

    /// The counts of a pool, which stay until [`Metrics::forget`].
    pub(crate) fn function(&self, pool: &PoolId) -> Arc<FunctionMetrics> {
        self.functions.get(pool)
    }

    pub(crate) fn forget(&self, pool: &PoolId) {
        self.functions.forget(pool);
    }

    /// Counts what a record of a function's log says in figures: metrics that the function writes itself, and the
    /// memory that the platform's REPORT has. Each record has to come once. `pool` is asked for few of them.
    pub(crate) fn observe(&self, record: &Entry) {
        self.functions.observe(record);
    }

    pub(crate) fn cold_start(&self, phases: &Phases) {
        for (phase, duration) in phases.iter() {
            let phase = phase.as_str();
            let histogram = self.phases.get_or_create(&OfPhase { phase });
            histogram.observe(duration);
        }
    }

    /// How long cold starts took, by phase.
    pub(crate) fn phases(&self) -> BTreeMap<String, Durations> {
        let phases = Phase::ALL.into_iter().filter_map(|phase| {
            let phase = phase.as_str();
            let histogram = self.phases.get(&OfPhase { phase })?;
            Some((phase.to_owned(), histogram.durations()))
        });
        phases.collect()
    }

    pub(crate) fn forwarded(&self) {
        self.forwarded.inc();
    }

    /// Makes a series of each metric that has none before something happens to callers' TLS.
    #[cfg(test)]
    pub(crate) fn every_metric(&self) {
        self.tls.renewed("secret", 0);
    }

    pub(crate) fn encode(&self, format: Format) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        let mut text = format.of(text);
        text.push_str(&self.functions.encode(format));
        text.push_str(format.end());
        Ok(text)
    }
}
