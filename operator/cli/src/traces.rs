//! The options about traces, which a gateway, a controller and local mode share.
//!
//! Makes the exporter that they ask for. What is kept, and what spans there are, is decided in `core::traces`.

use std::time::Duration;

use anyhow::{Context, Result};
use pilotlight_core::traces::sampling::{Ratio, Sampling};
use pilotlight_gateway::Traces;
use pilotlight_otlp::{Endpoint, SpanExporter, SpanOrigin};

/// Where spans go.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Collector {
    /// A collector of traces that takes OTLP over HTTP, such as http://127.0.0.1:4318 [default: spans go nowhere].
    #[arg(
        long,
        env = "PILOTLIGHT_OTLP",
        value_parser = Endpoint::traces,
        value_name = "URL"
    )]
    otlp: Option<Endpoint>,
}

/// Which spans of invocations are kept.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TraceOptions {
    #[command(flatten)]
    collector: Collector,
    /// The share of traces that are kept, from 0 to 1, unless the caller has decided.
    #[arg(
        long,
        env = "PILOTLIGHT_TRACE_RATIO",
        default_value = "1",
        value_name = "RATIO",
        requires = "otlp"
    )]
    trace_ratio: Ratio,
    /// Keep the spans of each call that ends in an error, whatever its trace.
    #[arg(
        long,
        env = "PILOTLIGHT_TRACE_ERRORS",
        default_value_t = true,
        action = clap::ArgAction::Set,
        value_name = "true|false",
        requires = "otlp"
    )]
    trace_errors: bool,
    /// Keep the spans of each call that takes at least so many milliseconds, whatever its trace; 0: of none.
    #[arg(
        long,
        env = "PILOTLIGHT_TRACE_SLOW",
        default_value_t = 1000,
        value_name = "MS",
        requires = "otlp"
    )]
    trace_slow: u32,
}

impl Collector {
    /// `instance`: which of several processes this is.
    pub(crate) fn exporter(
        self,
        service: &'static str,
        instance: String,
    ) -> Result<Option<SpanExporter>> {
        let origin = SpanOrigin {
            service,
            version: env!("CARGO_PKG_VERSION"),
            instance,
        };
        let exporter = self
            .otlp
            .map(|endpoint| SpanExporter::start(endpoint, origin));
        exporter.transpose().context("--otlp: no thread for spans")
    }
}

impl TraceOptions {
    /// The traces of a gateway. `address`: which of several it is, in a cluster.
    pub(crate) fn start(self, address: Option<String>) -> Result<Option<Traces>> {
        let slow = Duration::from_millis(self.trace_slow.into());
        let sampling = Sampling {
            ratio: self.trace_ratio,
            errors: self.trace_errors,
            slow: (!slow.is_zero()).then_some(slow),
        };
        let has_controller = address.is_some();
        let instance = address.unwrap_or_else(|| "local".to_owned());
        let exporter = self.collector.exporter("pilotlight-gateway", instance)?;
        Ok(exporter.map(|exporter| Traces {
            exporter,
            sampling,
            has_controller,
        }))
    }
}

/// Sends what is left at the end of the process.
pub(crate) async fn end(traces: Option<SpanExporter>) {
    if let Some(exporter) = traces {
        // A panic of the thread loses spans, and nothing else.
        let _ = tokio::task::spawn_blocking(move || exporter.end()).await;
    }
}
