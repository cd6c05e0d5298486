//! The platform's own lines in a function's log: INIT_START, START, END, REPORT and failures.
//!
//! Owns their format as text and as JSON (contract §3). Fed by `worker` with core's `LogLine`s; never decides
//! when a line is due.

use std::time::Duration;

use pilotlight_core::instance::LogLine;
use pilotlight_core::instance::failure::Failure;
use pilotlight_core::instance::phases::Phases;
use pilotlight_wire::config::{InstanceConfig, LogFormat};
use serde_json::{Map, Value, json};

/// Pilotlight's own part of a REPORT, in the words of the header `X-Amz-Function-Error`: the original platform does not say
/// in its log whether a function answered with an error.
const FUNCTION_ERROR: &str = "Function Error: Unhandled\t";

#[derive(Debug)]
pub(crate) struct PlatformLog {
    log_format: LogFormat,
    runtime: String,
    function: String,
    version: String,
    memory_mib: u32,
}

#[derive(serde::Serialize)]
struct JsonLine {
    time: String,
    r#type: &'static str,
    record: Value,
}

impl PlatformLog {
    pub(crate) fn new(config: &InstanceConfig) -> Self {
        let version = config.environment.get("AWS_LAMBDA_FUNCTION_VERSION");
        PlatformLog {
            log_format: config.log_format,
            runtime: config.runtime.clone(),
            function: config.function.as_str().to_owned(),
            version: version.map_or("$LATEST", String::as_str).to_owned(),
            memory_mib: config.memory.get(),
        }
    }

    /// Formats a line; `None` if the format has no such line. `peak_mib` (the peak of the memory use) and
    /// `phases` (of a cold start) are for a REPORT.
    pub(crate) fn format(
        &self,
        line: &LogLine,
        peak_mib: u64,
        phases: Option<&Phases>,
    ) -> Option<String> {
        match self.log_format {
            LogFormat::Text => Some(self.text(line, peak_mib, phases)),
            LogFormat::Json => self.json(line, peak_mib, phases),
        }
    }

    /// Reports why a runtime process could not be started. `message`: the caller receives the same one.
    pub(crate) fn fault(&self, message: &str) -> String {
        let text = format!("{message}\n{}", Failure::InvalidEntrypoint.error_type());
        match self.log_format {
            LogFormat::Text => text,
            LogFormat::Json => json_line("platform.fault", text.into()),
        }
    }

    fn text(&self, line: &LogLine, peak_mib: u64, phases: Option<&Phases>) -> String {
        match line {
            LogLine::InitStart => format!("INIT_START Runtime Version: {}", self.runtime),
            LogLine::InitReport {
                duration,
                failure,
                in_invocation,
            } => format!(
                "INIT_REPORT Init Duration: {:.2} ms\tPhase: {}\t{}",
                millis(*duration),
                phase(*in_invocation),
                text_status(failure),
            ),
            LogLine::NotStarted { request_id } => {
                self.fault(&Failure::InvalidEntrypoint.message(request_id))
            }
            LogLine::Start { request_id } => {
                format!("START RequestId: {request_id} Version: {}", self.version)
            }
            LogLine::TimedOut { request_id, after } => timed_out(request_id, *after),
            LogLine::End { request_id } => format!("END RequestId: {request_id}"),
            LogLine::Report {
                request_id,
                duration,
                init,
                failure,
                function_error,
            } => {
                let init = init.map(|init| format!("Init Duration: {:.2} ms\t", millis(init)));
                format!(
                    "REPORT RequestId: {request_id}\tDuration: {:.2} ms\tBilled Duration: {} ms\t\
                     Memory Size: {} MB\tMax Memory Used: {peak_mib} MB\t{}{}{}{}",
                    millis(*duration),
                    billed_ms(*duration),
                    self.memory_mib,
                    init.unwrap_or_default(),
                    phases.map(text_phases).unwrap_or_default(),
                    if *function_error { FUNCTION_ERROR } else { "" },
                    failure.as_ref().map(text_status).unwrap_or_default(),
                )
            }
        }
    }

    fn json(&self, line: &LogLine, peak_mib: u64, phases: Option<&Phases>) -> Option<String> {
        let (r#type, record) = match line {
            LogLine::InitStart => (
                "platform.initStart",
                json!({
                    "initializationType": "on-demand",
                    "phase": "init",
                    "runtimeVersion": self.runtime,
                    "functionName": self.function,
                    "functionVersion": self.version,
                }),
            ),
            LogLine::InitReport {
                duration,
                failure,
                in_invocation,
            } => {
                let mut record = json_status(Some(failure));
                record.insert("initializationType".to_owned(), json!("on-demand"));
                record.insert("phase".to_owned(), json!(phase(*in_invocation)));
                let metrics = json!({ "durationMs": rounded(*duration) });
                record.insert("metrics".to_owned(), metrics);
                ("platform.initReport", record.into())
            }
            LogLine::NotStarted { request_id } => {
                return Some(self.fault(&Failure::InvalidEntrypoint.message(request_id)));
            }
            LogLine::Start { request_id } => (
                "platform.start",
                json!({ "requestId": request_id.as_ref(), "version": self.version }),
            ),
            LogLine::TimedOut { request_id, after } => return Some(timed_out(request_id, *after)),
            LogLine::End { .. } => return None,
            LogLine::Report {
                request_id,
                duration,
                init,
                failure,
                function_error,
            } => {
                let mut metrics = json!({
                    "durationMs": rounded(*duration),
                    "billedDurationMs": billed_ms(*duration),
                    "memorySizeMB": self.memory_mib,
                    "maxMemoryUsedMB": peak_mib,
                });
                if let Some(init) = init {
                    metrics["initDurationMs"] = json!(rounded(*init));
                }
                let mut record = json_status(failure.as_ref());
                record.insert("requestId".to_owned(), json!(request_id.as_ref()));
                record.insert("metrics".to_owned(), metrics);
                if let Some(phases) = phases {
                    record.insert("coldStart".to_owned(), json_phases(phases));
                }
                if *function_error {
                    record.insert("functionError".to_owned(), json!("Unhandled"));
                }
                ("platform.report", record.into())
            }
        };
        Some(json_line(r#type, record))
    }
}

fn json_line(r#type: &'static str, record: Value) -> String {
    let line = JsonLine {
        time: iso_now(),
        r#type,
        record,
    };
    serde_json::to_string(&line).expect("strings and numbers are always JSON")
}

fn timed_out(request_id: &str, after: Duration) -> String {
    format!(
        "{} {request_id} Task timed out after {:.2} seconds",
        iso_now(),
        after.as_secs_f64()
    )
}

fn iso_now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

fn phase(in_invocation: bool) -> &'static str {
    if in_invocation { "invoke" } else { "init" }
}

fn text_phases(phases: &Phases) -> String {
    let parts = phases.iter();
    let parts =
        parts.map(|(phase, duration)| format!("{} {:.2} ms", phase.as_str(), millis(duration)));
    format!("Cold Start: {}\t", Vec::from_iter(parts).join(", "))
}

fn json_phases(phases: &Phases) -> Value {
    let parts = phases.iter();
    let parts = parts.map(|(phase, duration)| {
        let name = format!("{}Ms", phase.as_str());
        (name, json!(rounded(duration)))
    });
    Value::Object(parts.collect())
}

fn text_status(failure: &Failure) -> String {
    match failure {
        Failure::Timeout(_) => "Status: timeout".to_owned(),
        other => format!("Status: error\tError Type: {}", other.report_type()),
    }
}

fn json_status(failure: Option<&Failure>) -> Map<String, Value> {
    let status = match failure {
        None => "success",
        Some(Failure::Timeout(_)) => "timeout",
        Some(_) => "error",
    };
    let mut record = Map::new();
    record.insert("status".to_owned(), json!(status));
    if let (Some(failure), "error") = (failure, status) {
        record.insert("errorType".to_owned(), json!(failure.report_type()));
    }
    record
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Milliseconds with the three digits that the vendor's JSON has.
fn rounded(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn billed_ms(duration: Duration) -> u128 {
    duration.as_micros().div_ceil(1000)
}
