//! Sends spans and log records to receivers of OpenTelemetry's protocol, OTLP over HTTP.
//!
//! ```text
//! gateway, controller ─ spans ─► span_exporter ─┐
//!                                               ├─► worker (a bound, a thread) ─► receiver ─ HTTP ─► collector
//! gateway ─ log records ─► log_exporter ────────┘
//! ```
//!
//! `core::traces` says which spans there are, and `core::logs` what a full backlog drops; `spans` and `logs` have their encoding
//! (`protobuf`), and `worker` what happens while a receiver is away. Whoever hands something in never waits. Nothing here
//! knows an invocation.

mod log_exporter;
mod logs;
pub mod metrics;
mod protobuf;
mod receiver;
mod span_exporter;
mod spans;
mod worker;

pub use log_exporter::{LogCounts, LogExporter, LogReceiver};
pub use logs::{OtlpLogs, OtlpRecord, RecordTrace, Severity};
pub use receiver::{Endpoint, InvalidEndpoint, InvalidHeaders, ReceiverHeaders};
pub use span_exporter::{SpanCounts, SpanExporter};
pub use spans::{SpanBatch, SpanOrigin};

/// Reads an answer of a receiver, for `fuzz/`.
#[cfg(fuzzing)]
pub fn rejected(answer: &[u8]) -> u64 {
    protobuf::rejected(answer)
}
