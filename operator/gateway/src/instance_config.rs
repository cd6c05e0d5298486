//! What an instance is told at its start: limits, log names, command and environment.
//!
//! Composes the environment of contracts §2 in its order of precedence: the function's own
//! variables, then the runtime's, then the platform's, which always win.

use std::collections::BTreeMap;

use pilotlight_api::ErrorDetail;
use pilotlight_core::wire::InstanceConfig;

use crate::catalog::{Deployment, Launch};
use crate::function_ref::{LATEST, Scope};

pub(crate) fn compose(
    deployment: &Deployment,
    launch: &Launch,
    scope: &Scope,
    instance: &str,
) -> InstanceConfig {
    let spec = &deployment.spec;
    let date = jiff::Timestamp::now().strftime("%Y/%m/%d");
    let log_group = format!("/aws/lambda/{}", deployment.name);
    let log_stream = format!("{date}/[{LATEST}]{instance}");
    let platform = [
        ("AWS_LAMBDA_FUNCTION_NAME", deployment.name.to_string()),
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
        ("_HANDLER", spec.handler().to_string()),
    ];
    let own = spec
        .environment
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    let defaults = [
        ("AWS_REGION", &scope.region),
        ("AWS_DEFAULT_REGION", &scope.region),
    ];
    let defaults = defaults
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.clone()));
    let environment: BTreeMap<String, String> = defaults
        .chain(own)
        .chain(launch.environment.clone())
        .chain(platform.map(|(name, value)| (name.to_owned(), value)))
        .collect();
    InstanceConfig {
        listen: "127.0.0.1:0".to_owned(),
        ends_with_parent: true,
        function: deployment.name.clone(),
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
        environment,
    }
}
