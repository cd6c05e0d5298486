//! The environment of the runtime process.
//!
//! What the instance's configuration names wins: the platform's and the runtime's variables, and
//! those of the manifest. Under it lies what this process was given with a prefix, from secrets and
//! config maps. Names that belong to the platform are not taken from there (contracts §2).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;

use pilotlight_core::function::{EnvName, InvalidEnvName};
use pilotlight_core::wire::GIVEN_PREFIX;

use crate::process;

/// `process`: this process's own variables; `api`: where the Runtime API is.
pub(crate) fn complete(
    environment: BTreeMap<String, String>,
    process: impl Iterator<Item = (OsString, OsString)>,
    api: SocketAddr,
) -> BTreeMap<String, String> {
    // Kubernetes hands over UTF-8 only.
    let texts = process.filter_map(|(name, value)| {
        let name = name.to_str()?.strip_prefix(GIVEN_PREFIX)?.to_owned();
        Some((name, value.into_string().ok()?))
    });
    let given = texts.filter(|(name, _)| {
        let reserved = matches!(
            name.parse::<EnvName>(),
            Err(InvalidEnvName::Reserved { .. })
        );
        !name.is_empty() && !reserved
    });
    let mut environment = given.chain(environment).collect();
    add_own(&mut environment, api);
    environment
}

/// What is this process's to say: where its Runtime API is, and the descriptor for records.
pub(crate) fn add_own(environment: &mut BTreeMap<String, String>, api: SocketAddr) {
    environment.insert("AWS_LAMBDA_RUNTIME_API".to_owned(), api.to_string());
    if let Some(number) = process::records_descriptor() {
        environment.insert("_LAMBDA_TELEMETRY_LOG_FD".to_owned(), number.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_lies_under_what_is_configured_and_never_is_the_platforms() {
        let own = [("PATH", "/bin"), ("A", "manifest"), ("_HANDLER", "a.b")];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let process = [
            ("PILOTLIGHT_ENV_A", "secret"),
            ("PILOTLIGHT_ENV_B", "secret $(A)"),
            ("PILOTLIGHT_ENV_tls.crt", "text"),
            ("PILOTLIGHT_ENV_PATH", "/evil"),
            ("PILOTLIGHT_ENV__HANDLER", "evil"),
            ("PILOTLIGHT_ENV__X_AMZN_TRACE_ID", "evil"),
            ("PILOTLIGHT_ENV_AWS_LAMBDA_RUNTIME_API", "evil"),
            ("PILOTLIGHT_ENV_LAMBDA_TASK_ROOT", "evil"),
            ("PILOTLIGHT_ENV__LAMBDA_TELEMETRY_LOG_FD", "0"),
            ("PILOTLIGHT_ENV_", "nameless"),
            ("PILOTLIGHT_INSTANCE", "{}"),
            ("HOME", "/root"),
        ];
        let process = process.map(|(name, value)| (name.into(), value.into()));
        let api = SocketAddr::from(([127, 0, 0, 1], 9001));
        let environment = complete(own.into(), process.into_iter(), api);
        let number = process::records_descriptor().expect("a descriptor");
        let number = number.to_string();
        let expected = [
            ("A", "manifest"),
            ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001"),
            ("B", "secret $(A)"),
            ("PATH", "/bin"),
            ("_HANDLER", "a.b"),
            ("_LAMBDA_TELEMETRY_LOG_FD", number.as_str()),
            ("tls.crt", "text"),
        ];
        let found: Vec<(&str, &str)> = environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(found, expected);
    }
}
