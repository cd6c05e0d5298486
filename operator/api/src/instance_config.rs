//! What an instance is told at its start: limits, log names, command and environment.
//!
//! Composes the environment of contracts §2 in its order of precedence: the function's own
//! variables, then the runtime's, then the platform's, which always win. Local mode hands it to a
//! process, the controller to a pod.

use std::collections::BTreeMap;

use pilotlight_core::function::FunctionName;
use pilotlight_core::launch::Launch;
use pilotlight_core::wire::{InstanceConfig, LogFormat};

use crate::function::{ErrorDetail, FunctionSpec};

/// The only version that exists until functions have published ones.
pub const LATEST: &str = "$LATEST";

/// What one instance has for itself.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its name, 32 hexadecimal digits.
    pub instance: &'a str,
    /// The day of its start, `2026/01/31`.
    pub date: &'a str,
    pub region: &'a str,
    /// Where it takes leases, `host:port`.
    pub listen: &'a str,
    /// It ends with the process that started it.
    pub ends_with_parent: bool,
}

/// As on the original platform, what logs JSON logs from INFO on, unless the function says otherwise.
fn with_log_level(
    mut environment: BTreeMap<String, String>,
    format: LogFormat,
) -> BTreeMap<String, String> {
    if format == LogFormat::Json {
        let level = environment.entry("AWS_LAMBDA_LOG_LEVEL".to_owned());
        level.or_insert_with(|| "INFO".to_owned());
    }
    environment
}

pub fn compose(
    name: &FunctionName,
    spec: &FunctionSpec,
    launch: &Launch,
    place: Place<'_>,
) -> InstanceConfig {
    let log_group = format!("/aws/lambda/{name}");
    let log_stream = format!("{}/[{LATEST}]{}", place.date, place.instance);
    let platform = [
        ("AWS_LAMBDA_FUNCTION_NAME", name.to_string()),
        ("AWS_LAMBDA_FUNCTION_VERSION", LATEST.to_owned()),
        (
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
            spec.memory.get().to_string(),
        ),
        ("AWS_LAMBDA_LOG_GROUP_NAME", log_group.clone()),
        ("AWS_LAMBDA_LOG_STREAM_NAME", log_stream.clone()),
        (
            "AWS_LAMBDA_LOG_FORMAT",
            spec.logging.format.as_str().to_owned(),
        ),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
        ("LAMBDA_TASK_ROOT", launch.task_root.display().to_string()),
        ("_HANDLER", launch.handler.to_string()),
    ];
    let own = spec
        .environment
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    let defaults = [
        ("AWS_REGION", place.region),
        ("AWS_DEFAULT_REGION", place.region),
    ];
    let defaults = defaults
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let environment: BTreeMap<String, String> = defaults
        .chain(own)
        .chain(launch.environment.clone())
        .chain(platform.map(|(name, value)| (name.to_owned(), value)))
        .collect();
    InstanceConfig {
        listen: place.listen.to_owned(),
        ends_with_parent: place.ends_with_parent,
        function: name.clone(),
        memory: spec.memory,
        timeout: spec.timeout,
        sanitize_errors: spec.errors == ErrorDetail::Sanitized,
        log_format: spec.logging.format,
        logs: spec.logging.enabled,
        log_group,
        log_stream,
        runtime: spec.runtime.to_string(),
        command: launch.command.clone(),
        task_root: launch.task_root.clone(),
        environment: with_log_level(environment, spec.logging.format),
    }
}
