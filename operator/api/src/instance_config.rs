//! The configuration of an instance: limits, log names, command and environment.
//!
//! Composes the environment of contract §2: the function's own variables override the defaults of
//! platform and runtime, and the reserved variables override both. Local mode passes the result to a
//! process, the controller to a pod.

use std::collections::{BTreeMap, BTreeSet};

use pilotlight_core::function::{EnvName, FunctionName, is_reserved_variable};
use pilotlight_core::ids::Qualifier;
use pilotlight_core::instance::launch::Launch;
use pilotlight_wire::config::{InstanceConfig, LogFormat};

use crate::function::{ErrorDetail, FunctionSpec};

/// What one instance has for itself.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The pool that it belongs to.
    pub qualifier: Qualifier,
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

pub fn compose(
    name: &FunctionName,
    spec: &FunctionSpec,
    launch: &Launch,
    place: Place<'_>,
) -> InstanceConfig {
    let log_group = format!("/aws/lambda/{name}");
    let log_stream = format!("{}/[{}]{}", place.date, place.qualifier, place.instance);
    let platform = [
        ("AWS_LAMBDA_FUNCTION_NAME", name.to_string()),
        ("AWS_LAMBDA_FUNCTION_VERSION", place.qualifier.to_string()),
        (
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
            spec.memory.get().to_string(),
        ),
        ("AWS_LAMBDA_LOG_GROUP_NAME", log_group.clone()),
        ("AWS_LAMBDA_LOG_STREAM_NAME", log_stream.clone()),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
        ("LAMBDA_TASK_ROOT", launch.task_root.display().to_string()),
        ("_HANDLER", launch.handler.to_string()),
    ];
    let environment = environment(spec, launch, place.region, platform);
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
        environment,
        between_events: spec.between_events,
    }
}

/// The names of the variables that secrets and config maps may override: what neither the manifest nor the platform
/// reserves.
pub fn suggested(config: &InstanceConfig, spec: &FunctionSpec) -> Vec<String> {
    let own: BTreeSet<&str> = spec.environment.keys().map(EnvName::as_str).collect();
    let names = config.environment.keys();
    let suggested =
        names.filter(|name| !own.contains(name.as_str()) && !is_reserved_variable(name));
    suggested.cloned().collect()
}

/// `platform`: the reserved variables.
fn environment<'a>(
    spec: &FunctionSpec,
    launch: &Launch,
    region: &str,
    platform: impl IntoIterator<Item = (&'a str, String)>,
) -> BTreeMap<String, String> {
    let own = spec
        .environment
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    let own: BTreeMap<String, String> = own.chain(launch.relocated.clone()).collect();
    // SDKs read either of the two.
    let region = |name, twin| {
        let own = own.get(name).or(own.get(twin));
        own.map_or(region, String::as_str).to_owned()
    };
    let mut defaults = vec![
        ("AWS_REGION", region("AWS_REGION", "AWS_DEFAULT_REGION")),
        (
            "AWS_DEFAULT_REGION",
            region("AWS_DEFAULT_REGION", "AWS_REGION"),
        ),
        (
            "AWS_LAMBDA_LOG_FORMAT",
            spec.logging.format.as_str().to_owned(),
        ),
    ];
    if spec.logging.format == LogFormat::Json {
        // As on the original platform, where a function with the JSON format logs from INFO on.
        let level = spec.logging.level.unwrap_or_default();
        defaults.push(("AWS_LAMBDA_LOG_LEVEL", level.as_str().to_owned()));
    }
    let heap = launch.heap.iter();
    let heap = heap.map(|(name, limit)| (name.clone(), limit.of(spec.memory)));
    let owned = |(name, value): (&str, String)| (name.to_owned(), value);
    defaults
        .into_iter()
        .map(owned)
        .chain(heap)
        .chain(launch.environment.clone())
        .chain(own)
        .chain(platform.into_iter().map(owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn composed(manifest_environment: &str, launch: Launch) -> BTreeMap<String, String> {
        let manifest = format!(
            "apiVersion: pilotlight.dev/v1alpha1\nkind: Function\nmetadata: {{name: hello}}\n\
             spec: {{runtime: custom, memory: 200, code: {{path: .}}, environment: {manifest_environment}}}\n"
        );
        let read = crate::read("f.yaml".as_ref(), &manifest).expect("a manifest");
        let function = &read[0].function;
        let place = Place {
            qualifier: Qualifier::Latest,
            instance: "0123",
            date: "2026/01/31",
            region: "us-east-1",
            listen: "127.0.0.1:0",
            ends_with_parent: false,
        };
        compose(&function.metadata.name, &function.spec, &launch, place).environment
    }

    fn launch(environment: &[(&str, &str)]) -> Launch {
        let environment = environment.iter();
        let environment =
            environment.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Launch {
            command: vec!["/bin/true".to_owned()],
            handler: "main".parse().expect("a handler"),
            task_root: "/var/task".into(),
            environment: environment.collect(),
            heap: BTreeMap::new(),
            relocated: BTreeMap::new(),
        }
    }

    #[test]
    fn the_functions_own_value_wins_over_what_runtime_and_platform_suggest() {
        let launch = launch(&[("PATH", "/bin"), ("LANG", "en_US.UTF-8"), ("TZ", ":UTC")]);
        let own = "{PATH: /mine, TZ: Europe/Budapest, AWS_REGION: eu-west-1, AWS_LAMBDA_LOG_FORMAT: JSON}";
        let found = composed(own, launch);
        for (name, value) in [
            ("PATH", "/mine"),
            ("LANG", "en_US.UTF-8"),
            ("TZ", "Europe/Budapest"),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_DEFAULT_REGION", "eu-west-1"),
            ("AWS_LAMBDA_LOG_FORMAT", "JSON"),
            ("AWS_LAMBDA_FUNCTION_NAME", "hello"),
        ] {
            assert_eq!(found[name], value, "{name}");
        }
    }

    #[test]
    fn a_heap_limit_follows_the_memory_unless_the_function_sets_it() {
        let limit = pilotlight_core::instance::launch::HeapLimit {
            percent: 50,
            leave: 0,
            value: "{mib}MiB".to_owned(),
        };
        let with_heap = || Launch {
            heap: [("GOMEMLIMIT".to_owned(), limit.clone())].into(),
            ..launch(&[])
        };
        assert_eq!(composed("{}", with_heap())["GOMEMLIMIT"], "100MiB");
        assert_eq!(
            composed("{GOMEMLIMIT: 'off'}", with_heap())["GOMEMLIMIT"],
            "off"
        );
    }

    #[test]
    fn a_value_that_names_a_layer_is_the_one_for_this_machine() {
        let wrapper = ("AWS_LAMBDA_EXEC_WRAPPER".to_owned(), "/cache/w".to_owned());
        let launch = Launch {
            relocated: [wrapper].into(),
            ..launch(&[])
        };
        let found = composed("{AWS_LAMBDA_EXEC_WRAPPER: /opt/w}", launch);
        assert_eq!(found["AWS_LAMBDA_EXEC_WRAPPER"], "/cache/w");
    }
}
