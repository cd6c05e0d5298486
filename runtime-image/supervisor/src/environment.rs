//! The environment of the runtime process.
//!
//! Starts from the instance's configuration. This process was started with variables from secrets and config maps under a
//! prefix (`hardening`). They override the configuration's defaults, but not the manifest's values, and never a reserved name
//! (contract §2). Then the addresses of the Runtime API and of the door (`door`) are added.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;

use pilotlight_core::function::is_reserved_variable;
use pilotlight_wire::config::{DEFAULTS_VARIABLE, GIVEN_PREFIX};

use crate::process;

/// If the function sets one of these, its SDK does not use the door.
const ENDPOINTS: [&str; 2] = ["AWS_ENDPOINT_URL_LAMBDA", "AWS_ENDPOINT_URL"];

/// With any of these, an SDK would send its calls to a proxy, which cannot reach the door's loopback address.
const PROXIES: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
const NO_PROXIES: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Variables that a cluster's webhooks add to a pod whose service account has a cloud role.
const ROLE: [&str; 7] = [
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_STS_REGIONAL_ENDPOINTS",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
];

/// A function with one of these variables has credentials, or its own way to find them.
const CREDENTIALS: [&str; 11] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
];

/// Credentials of no account. SDKs refuse to sign without credentials, which the original platform always sets.
const PLACEHOLDERS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "pilotlight"),
    ("AWS_SECRET_ACCESS_KEY", "pilotlight"),
    ("AWS_SESSION_TOKEN", "pilotlight"),
];

/// Each variable, and the one that gets its value too unless that is set itself.
const REGION_VARIABLES: [(&str, &str); 2] = [
    ("AWS_REGION", "AWS_DEFAULT_REGION"),
    ("AWS_DEFAULT_REGION", "AWS_REGION"),
];

/// Completes the environment. `process`: the variables that this process was started with; `api`: the address of the Runtime API;
/// `door`: the address for calls of other functions; `daemon`: that for segments.
pub(crate) fn complete(
    mut environment: BTreeMap<String, String>,
    process: impl Iterator<Item = (OsString, OsString)>,
    api: SocketAddr,
    door: Option<SocketAddr>,
    daemon: Option<SocketAddr>,
) -> BTreeMap<String, String> {
    // Kubernetes passes UTF-8 only, so no variable of its is left out.
    let texts = process
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let (mut given, mut role, mut defaults) = (BTreeMap::new(), Vec::new(), String::new());
    for (name, value) in texts {
        if let Some(name) = name.strip_prefix(GIVEN_PREFIX) {
            if !name.is_empty() && !is_reserved_variable(name) {
                given.insert(name.to_owned(), value);
            }
        } else if ROLE.contains(&name.as_str()) {
            role.push((name, value));
        } else if name == DEFAULTS_VARIABLE {
            defaults = value;
        }
    }
    let is_default = |name: &str| defaults.split(',').any(|one| one == name);
    for (name, twin) in REGION_VARIABLES {
        if let Some(value) = given.get(name).cloned()
            && is_default(twin)
        {
            environment.insert(twin.to_owned(), value);
        }
    }
    for (name, value) in given {
        if is_default(&name) || !environment.contains_key(&name) {
            environment.insert(name, value);
        }
    }
    if !CREDENTIALS
        .iter()
        .any(|name| environment.contains_key(*name))
    {
        environment.extend(role);
    }
    if let Some(door) = door {
        add_door(&mut environment, door);
    }
    if let Some(daemon) = daemon {
        add_daemon(&mut environment, daemon);
    }
    add_own(&mut environment, api);
    environment
}

/// Adds what only this process knows: the address of the Runtime API and the descriptor for records.
pub(crate) fn add_own(environment: &mut BTreeMap<String, String>, api: SocketAddr) {
    environment.insert("AWS_LAMBDA_RUNTIME_API".to_owned(), api.to_string());
    if let Some(number) = process::records_descriptor() {
        environment.insert("_LAMBDA_TELEMETRY_LOG_FD".to_owned(), number.to_string());
    }
}

/// Has X-Ray's SDKs report to this instance, unless the function names another daemon.
fn add_daemon(environment: &mut BTreeMap<String, String>, daemon: SocketAddr) {
    let daemon = [
        ("AWS_XRAY_DAEMON_ADDRESS", daemon.to_string()),
        ("_AWS_XRAY_DAEMON_ADDRESS", daemon.ip().to_string()),
        ("_AWS_XRAY_DAEMON_PORT", daemon.port().to_string()),
        ("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR".to_owned()),
    ];
    for (name, value) in daemon {
        environment.entry(name.to_owned()).or_insert(value);
    }
}

fn add_door(environment: &mut BTreeMap<String, String>, door: SocketAddr) {
    let has = |names: &[&str]| names.iter().any(|name| environment.contains_key(*name));
    let (has_endpoint, has_credentials) = (has(&ENDPOINTS), has(&CREDENTIALS));
    let is_proxied = has(&PROXIES) && !has(&NO_PROXIES);
    if !has_endpoint {
        environment.insert(ENDPOINTS[0].to_owned(), format!("http://{door}"));
        if is_proxied {
            let own = NO_PROXIES.map(|name| (name.to_owned(), door.ip().to_string()));
            environment.extend(own);
        }
    }
    if !has_credentials {
        let placeholders = PLACEHOLDERS.map(|(name, value)| (name.to_owned(), value.to_owned()));
        environment.extend(placeholders);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const API: ([u8; 4], u16) = ([127, 0, 0, 1], 9001);
    const DOOR: ([u8; 4], u16) = ([127, 0, 0, 1], 9002);

    fn completed(
        own: &[(&str, &str)],
        process: &[(&str, &str)],
        door: Option<SocketAddr>,
    ) -> Vec<(String, String)> {
        let own = own.iter();
        let own = own.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let process = process.iter();
        let process = process.map(|(name, value)| (name.into(), value.into()));
        let environment = complete(own.collect(), process, API.into(), door, None);
        environment.into_iter().collect()
    }

    /// These pairs, and the descriptor for records, which every process has.
    fn expected(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let number = process::records_descriptor().expect("a descriptor");
        let number = number.to_string();
        let records = [("_LAMBDA_TELEMETRY_LOG_FD", number.as_str())];
        let pairs = pairs.iter().chain(&records);
        let pairs = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        pairs.collect::<BTreeMap<_, _>>().into_iter().collect()
    }

    const FROM_THE_API: (&str, &str) = ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001");

    #[test]
    fn a_secret_overrides_defaults_but_not_the_manifest() {
        let own = [
            ("A", "manifest"),
            ("PATH", "/bin"),
            ("TZ", "manifest"),
            ("_HANDLER", "a.b"),
        ];
        let process = [
            ("PILOTLIGHT_DEFAULTS", "LANG,PATH"),
            ("PILOTLIGHT_ENV_A", "secret"),
            ("PILOTLIGHT_ENV_B", "secret $(A)"),
            ("PILOTLIGHT_ENV_tls.crt", "text"),
            ("PILOTLIGHT_ENV_PATH", "/secret"),
            ("PILOTLIGHT_ENV_TZ", "secret"),
            ("PILOTLIGHT_ENV__HANDLER", "evil"),
            ("PILOTLIGHT_ENV__X_AMZN_TRACE_ID", "evil"),
            ("PILOTLIGHT_ENV_AWS_LAMBDA_RUNTIME_API", "evil"),
            ("PILOTLIGHT_ENV_AWS_LAMBDA_MAX_CONCURRENCY", "8"),
            ("PILOTLIGHT_ENV_AWS_LAMBDA_EXEC_WRAPPER", "/opt/wrapper"),
            ("PILOTLIGHT_ENV_LAMBDA_TASK_ROOT", "evil"),
            ("PILOTLIGHT_ENV__LAMBDA_TELEMETRY_LOG_FD", "0"),
            ("PILOTLIGHT_ENV_", "nameless"),
            ("PILOTLIGHT_INSTANCE", "{}"),
            ("HOME", "/root"),
        ];
        let found = [
            ("A", "manifest"),
            ("AWS_LAMBDA_EXEC_WRAPPER", "/opt/wrapper"),
            FROM_THE_API,
            ("B", "secret $(A)"),
            ("PATH", "/secret"),
            ("TZ", "manifest"),
            ("_HANDLER", "a.b"),
            ("tls.crt", "text"),
        ];
        assert_eq!(completed(&own, &process, None), expected(&found));
    }

    #[test]
    fn a_region_from_a_secret_applies_to_all_sdks() {
        let own = [("AWS_DEFAULT_REGION", "x"), ("AWS_REGION", "x")];
        let process = [
            ("PILOTLIGHT_DEFAULTS", "AWS_DEFAULT_REGION,AWS_REGION"),
            ("PILOTLIGHT_ENV_AWS_REGION", "eu-west-1"),
        ];
        let found = [
            ("AWS_DEFAULT_REGION", "eu-west-1"),
            FROM_THE_API,
            ("AWS_REGION", "eu-west-1"),
        ];
        assert_eq!(completed(&own, &process, None), expected(&found));
    }

    #[test]
    fn a_function_without_credentials_gets_placeholders_for_the_door() {
        let found = [
            ("AWS_ACCESS_KEY_ID", "pilotlight"),
            ("AWS_ENDPOINT_URL_LAMBDA", "http://127.0.0.1:9002"),
            FROM_THE_API,
            ("AWS_SECRET_ACCESS_KEY", "pilotlight"),
            ("AWS_SESSION_TOKEN", "pilotlight"),
        ];
        assert_eq!(completed(&[], &[], Some(DOOR.into())), expected(&found));
    }

    #[test]
    fn a_function_keeps_its_own_credentials_and_endpoints() {
        let role = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"), ("HOME", "/root")];
        let found = [
            ("AWS_ENDPOINT_URL_LAMBDA", "http://127.0.0.1:9002"),
            FROM_THE_API,
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"),
        ];
        assert_eq!(completed(&[], &role, Some(DOOR.into())), expected(&found));

        let own = [
            ("AWS_ACCESS_KEY_ID", "mine"),
            ("AWS_ENDPOINT_URL", "http://s3"),
        ];
        let found = [own[0], own[1], FROM_THE_API];
        assert_eq!(completed(&own, &role, Some(DOOR.into())), expected(&found));
    }

    #[test]
    fn calls_to_the_door_bypass_a_proxy_unless_the_function_sets_its_own_exceptions() {
        let with = |own: &[(&str, &str)]| {
            let found = completed(own, &[], Some(DOOR.into())).into_iter();
            let found = found.filter(|(name, _)| NO_PROXIES.contains(&name.as_str()));
            found.map(|(_, value)| value).collect::<Vec<_>>()
        };
        assert_eq!(with(&[("http_proxy", "http://proxy")]), ["127.0.0.1"; 2]);
        assert_eq!(
            with(&[("HTTP_PROXY", "http://proxy"), ("no_proxy", "here")]),
            ["here"]
        );
        let elsewhere = ("AWS_ENDPOINT_URL_LAMBDA", "http://elsewhere");
        assert!(with(&[("ALL_PROXY", "http://proxy"), elsewhere]).is_empty());
        assert!(with(&[]).is_empty());
    }

    #[test]
    fn segments_go_to_this_instance_unless_the_function_names_another_daemon() {
        let daemon = SocketAddr::from(([127, 0, 0, 1], 2000));
        let of = |own: BTreeMap<String, String>| {
            complete(own, [].into_iter(), API.into(), None, Some(daemon))
        };
        let environment = of(BTreeMap::new());
        for (name, value) in [
            ("AWS_XRAY_DAEMON_ADDRESS", "127.0.0.1:2000"),
            ("_AWS_XRAY_DAEMON_ADDRESS", "127.0.0.1"),
            ("_AWS_XRAY_DAEMON_PORT", "2000"),
            ("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR"),
        ] {
            assert_eq!(environment[name], value);
        }
        let own = (
            "AWS_XRAY_DAEMON_ADDRESS".to_owned(),
            "10.0.0.1:2000".to_owned(),
        );
        assert_eq!(
            of(BTreeMap::from([own]))["AWS_XRAY_DAEMON_ADDRESS"],
            "10.0.0.1:2000"
        );
    }
}
