//! The names of groups and streams, and whose logs they are.
//!
//! The group `/aws/lambda/NAME` is the log of the function in the gateway's namespace, and the stream
//! `YYYY/MM/DD/[$LATEST]ID` that of an instance, as contract §2 has them. An instance's id is in no other stream's name,
//! so the id alone tells which stream is meant.

use jiff::Timestamp;
use pilotlight_core::function::FunctionName;
use pilotlight_core::ids::{FunctionKey, Qualifier};

use crate::config::Scope;

/// What the names of all groups begin with.
pub(super) const GROUPS: &str = "/aws/lambda/";

pub(super) fn group(function: &FunctionName) -> String {
    format!("{GROUPS}{function}")
}

/// Without `:*` at its end.
pub(super) fn group_arn(scope: &Scope, function: &FunctionName) -> String {
    let Scope {
        region, account, ..
    } = scope;
    format!("arn:aws:logs:{region}:{account}:log-group:{GROUPS}{function}")
}

pub(super) fn stream_arn(scope: &Scope, function: &FunctionName, stream: &str) -> String {
    format!("{}:log-stream:{stream}", group_arn(scope, function))
}

/// The function whose group has this name. `None`: no function can have it.
pub(super) fn function_of(group: &str, scope: &Scope) -> Option<FunctionKey> {
    Some(FunctionKey {
        name: group.strip_prefix(GROUPS)?.parse().ok()?,
        namespace: scope.namespace.clone(),
    })
}

/// The name in an identifier: a name, or an ARN with or without `:*`.
pub(super) fn of_identifier(identifier: &str) -> &str {
    if !identifier.starts_with("arn:") {
        return identifier;
    }
    let name = identifier
        .split_once(":log-group:")
        .map_or("", |(_, name)| name);
    name.strip_suffix(":*").unwrap_or(name)
}

/// `started`: when the instance logged for the first time, as far as anybody knows.
pub(super) fn stream(started: Timestamp, qualifier: Qualifier, instance: &str) -> String {
    let day = started.strftime("%Y/%m/%d");
    format!("{day}/[{qualifier}]{instance}")
}

/// The instance whose stream has this name.
pub(super) fn instance_of(stream: &str) -> Option<&str> {
    let (_, instance) = stream.split_once(']')?;
    (!instance.is_empty()).then_some(instance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_group_is_named_as_its_function_and_by_arns() {
        let scope = Config::default().scope();
        let key: FunctionKey = "local/hello".parse().expect("a key");
        let arn = group_arn(&scope, &key.name);
        assert_eq!(
            arn,
            "arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/hello"
        );
        for identifier in [&group(&key.name), &arn, &format!("{arn}:*")] {
            assert_eq!(of_identifier(identifier), "/aws/lambda/hello");
        }
        assert_eq!(function_of("/aws/lambda/hello", &scope), Some(key));
        for other in [
            "hello",
            "/aws/lambda/",
            "/aws/lambda/Hello_1",
            "/aws/lambda/a/b",
            "",
        ] {
            assert_eq!(function_of(other, &scope), None, "{other}");
        }
    }

    #[test]
    fn a_stream_is_named_by_day_qualifier_and_instance() {
        let at = "2026-01-31T23:59:59.999Z".parse().expect("a time");
        let name = stream(at, Qualifier::Latest, "8f3c4a1e");
        assert_eq!(name, "2026/01/31/[$LATEST]8f3c4a1e");
        assert_eq!(instance_of(&name), Some("8f3c4a1e"));
        assert_eq!(instance_of("2026/01/31/[$LATEST]"), None);
        assert_eq!(instance_of("x"), None);
    }
}
