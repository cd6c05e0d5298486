//! The way of log records to a receiver of OTLP, beside the store.
//!
//! `records` hands over each record that it takes, once; `pilotlight_otlp` has the bound, the thread and the encoding. Says
//! what a record's resource and attributes are, and which trace it belongs to: the task of an instance makes that known
//! before it runs an invocation. It never waits, and the store knows nothing of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pilotlight_core::ids::FunctionKey;
use pilotlight_core::logs::recent::Recent;
use pilotlight_core::traces::context;
use pilotlight_logs::entry::Entry;
use pilotlight_logs::level::Level;
use pilotlight_otlp::{
    LogCounts, LogExporter, LogReceiver, OtlpLogs, OtlpRecord, RecordTrace, Severity,
};
use pilotlight_wire::log_record::LogSource;

/// How many invocations' traces are remembered. Records of older ones have none.
const TRACES_MAX: usize = 8192;

/// See the module. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct LogExports {
    exporter: LogExporter<FunctionKey, Exported>,
    /// By request id.
    traces: Arc<Mutex<Recent<String, RecordTrace>>>,
}

/// What the resources of all records have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportPlace {
    /// The region of the functions' ARNs.
    pub region: String,
    /// Their account number.
    pub account: String,
    /// Whether namespaces are those of a cluster.
    pub is_cluster: bool,
}

/// A record on its way.
#[derive(Clone, Debug)]
struct Exported {
    record: Arc<Entry>,
    trace: Option<RecordTrace>,
}

impl LogExports {
    /// Starts the thread that sends.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn start(to: LogReceiver, place: ExportPlace) -> std::io::Result<Self> {
        let write = move |exported: &Exported, batch: &mut OtlpLogs| exported.write(&place, batch);
        let exporter = LogExporter::start(to, env!("CARGO_PKG_VERSION"), write)?;
        Ok(LogExports {
            exporter,
            traces: Arc::new(Mutex::new(Recent::new(TRACES_MAX))),
        })
    }

    /// Sends what is left, once, and ends; returns when that is done, or after 2 s. Blocks.
    pub fn end(&self) {
        self.exporter.end();
    }

    pub fn counts(&self) -> Arc<LogCounts> {
        self.exporter.counts()
    }

    /// The records of this invocation belong to a trace. `header`: X-Ray's, as the function gets it.
    pub(super) fn begin(&self, request_id: &str, header: &str) {
        let Some(context) = context::of_xray(header) else {
            return;
        };
        let trace = RecordTrace {
            trace: context.trace,
            span: context.parent.filter(|_| context.decision == Some(true)),
        };
        self.traces().insert(request_id.to_owned(), trace);
    }

    pub(super) fn submit(&self, source: &FunctionKey, record: &Arc<Entry>) {
        let id = record.request_id.as_deref();
        let exported = Exported {
            trace: id.and_then(|id| self.traces().get(id).copied()),
            record: record.clone(),
        };
        self.exporter.submit(source, exported, record.size());
    }

    fn traces(&self) -> MutexGuard<'_, Recent<String, RecordTrace>> {
        self.traces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exported {
    fn write(&self, place: &ExportPlace, batch: &mut OtlpLogs) {
        let record = &*self.record;
        let (function, namespace) = (record.function.as_str(), record.namespace.as_str());
        let arn = format!(
            "arn:aws:lambda:{}:{}:function:{function}",
            place.region, place.account
        );
        let resource = [
            ("service.name", function),
            ("service.namespace", namespace),
            ("service.instance.id", &record.instance),
            ("faas.name", function),
            ("faas.version", record.qualifier.as_str()),
            ("faas.instance", &record.instance),
            ("cloud.region", &place.region),
            ("cloud.account.id", &place.account),
            ("cloud.resource_id", &arn),
            // In a cluster alone.
            ("k8s.namespace.name", namespace),
        ];
        let common = resource.len() - usize::from(!place.is_cluster);
        // The same for each copy of a record, so that a receiver can drop what came twice.
        let uid = format!("{}/{}", record.instance, record.sequence);
        let source = match record.source {
            LogSource::Stdout => ("log.iostream", "stdout"),
            LogSource::Stderr => ("log.iostream", "stderr"),
            LogSource::Platform => ("pilotlight.source", "platform"),
        };
        let id = record.request_id.as_deref().unwrap_or_default();
        let attributes = [
            ("log.record.uid", uid.as_str()),
            source,
            ("faas.invocation_id", id),
        ];
        let known = attributes.len() - usize::from(id.is_empty());
        let record = OtlpRecord {
            time: Duration::try_from(record.time.as_duration()).unwrap_or_default(),
            severity: record.level.map(severity),
            body: &record.text,
            attributes: &attributes[..known],
            trace: self.trace,
        };
        batch.add(&resource[..common], &record);
    }
}

/// Numbers: <https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber>.
fn severity(level: Level) -> Severity {
    let number = match level {
        Level::Trace => 1,
        Level::Debug => 5,
        Level::Info => 9,
        Level::Warn => 13,
        Level::Error => 17,
        Level::Fatal => 21,
    };
    let text = level.as_str();
    Severity { number, text }
}
