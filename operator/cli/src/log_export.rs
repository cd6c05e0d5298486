//! The options about the export of log records, which a gateway and local mode share.
//!
//! Makes the exporter that they ask for. What it sends, and what is dropped while the receiver is away, is the gateway's
//! (`logs::exports`) and `core::logs`'.

use anyhow::{Context, Result};
use pilotlight_gateway::{Config, ExportPlace, LogExports};
use pilotlight_otlp::{Endpoint, LogReceiver, ReceiverHeaders};

/// Where log records go beside their store.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LogExport {
    /// A receiver of log records that takes OTLP over HTTP, such as http://127.0.0.1:4318. It gets each record besides the
    /// store [default: there is none].
    #[arg(
        long,
        env = "PILOTLIGHT_LOGS_OTLP",
        value_parser = Endpoint::logs,
        value_name = "URL"
    )]
    logs_otlp: Option<Endpoint>,
    /// Headers that it wants, in the form of OTEL_EXPORTER_OTLP_HEADERS: `authorization=Bearer%20KEY,x-scope=1`. Other users
    /// of the machine can read a command line: set the variable instead.
    #[arg(
        long,
        env = "PILOTLIGHT_LOGS_OTLP_HEADERS",
        hide_env_values = true,
        value_name = "NAME=VALUE,…",
        requires = "logs_otlp"
    )]
    logs_otlp_headers: Option<ReceiverHeaders>,
}

impl LogExport {
    /// Has the gateway of this configuration export its records. `is_cluster`: whether namespaces are those of a cluster.
    pub(crate) fn start(self, config: &mut Config, is_cluster: bool) -> Result<Option<LogExports>> {
        let Some(endpoint) = self.logs_otlp else {
            return Ok(None);
        };
        let to = LogReceiver {
            endpoint,
            headers: self.logs_otlp_headers.unwrap_or_default(),
            limit: config.limits.log_export_bytes,
        };
        let place = ExportPlace {
            region: config.region.clone(),
            account: config.account.clone(),
            is_cluster,
        };
        let exports = LogExports::start(to, place);
        let exports = exports.context("--logs-otlp: no thread for log records")?;
        config.log_exports = Some(exports.clone());
        Ok(Some(exports))
    }
}

/// Sends what is left at the end of the process.
pub(crate) async fn end(exports: Option<LogExports>) {
    if let Some(exports) = exports {
        // A panic of the thread loses records, and nothing else.
        let _ = tokio::task::spawn_blocking(move || exports.end()).await;
    }
}
