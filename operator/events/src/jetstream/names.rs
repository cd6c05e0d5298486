//! How streams and subjects are called, and what their names mean.
//!
//! ```text
//! stream  PREFIX_NAMESPACE            subjects  PREFIX.events.NAMESPACE.FUNCTION
//! stream  PREFIX_NAMESPACE_progress   subjects  PREFIX.progress.NAMESPACE.FUNCTION.SEQUENCE
//!                                               PREFIX.progress.NAMESPACE._schedules.UID
//! stream  PREFIX_NAMESPACE_dead       subjects  PREFIX.dead.NAMESPACE.FUNCTION.SEQUENCE
//!                                               PREFIX.rings.NAMESPACE.FUNCTION    in no stream
//! ```
//!
//! Namespaces and functions are labels (a-z, A-Z, 0-9 and `-`), and every such text is a token of a subject as it is. No label
//! has the `_` that separates the parts of a stream's name, so two namespaces never share a stream.

use std::fmt;

use pilotlight_core::ids::{FunctionKey, Namespace};
use thiserror::Error;

/// The longest prefix, in bytes.
const PREFIX_MAX: usize = 32;

/// What the names of a release's streams and subjects begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePrefix(String);

/// A text cannot be a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("must be 1 to {PREFIX_MAX} letters, digits and `-`, got `{0}`")]
pub struct InvalidPrefix(String);

impl NamePrefix {
    pub(super) fn events_stream(&self, namespace: &Namespace) -> String {
        format!("{self}_{namespace}")
    }

    pub(super) fn progress_stream(&self, namespace: &Namespace) -> String {
        format!("{self}_{namespace}_progress")
    }

    /// All events of all namespaces.
    pub(super) fn all_events(&self) -> String {
        format!("{self}.events.>")
    }

    pub(super) fn events_of(&self, namespace: &Namespace) -> String {
        format!("{self}.events.{namespace}.*")
    }

    pub(super) fn events(&self, function: &FunctionKey) -> String {
        format!("{self}.events.{}.{}", function.namespace, function.name)
    }

    /// The function whose events a subject has. `None`: it is no such subject.
    pub(super) fn function_of_events(&self, subject: &str) -> Option<FunctionKey> {
        self.function(subject, "events")
    }

    pub(super) fn progress_of_namespace(&self, namespace: &Namespace) -> String {
        format!("{self}.progress.{namespace}.>")
    }

    pub(super) fn progress_of(&self, function: &FunctionKey) -> String {
        format!("{self}.progress.{}.{}.*", function.namespace, function.name)
    }

    /// `sequence`: that of the event in its stream.
    pub(super) fn progress(&self, function: &FunctionKey, sequence: u64) -> String {
        format!(
            "{self}.progress.{}.{}.{sequence}",
            function.namespace, function.name
        )
    }

    pub(super) fn dead_stream(&self, namespace: &Namespace) -> String {
        format!("{self}_{namespace}_dead")
    }

    pub(super) fn dead_of_namespace(&self, namespace: &Namespace) -> String {
        format!("{self}.dead.{namespace}.>")
    }

    pub(super) fn dead_of(&self, function: &FunctionKey) -> String {
        format!("{self}.dead.{}.{}.*", function.namespace, function.name)
    }

    /// `sequence`: that which the event had in its stream.
    pub(super) fn dead(&self, function: &FunctionKey, sequence: u64) -> String {
        format!(
            "{self}.dead.{}.{}.{sequence}",
            function.namespace, function.name
        )
    }

    /// Where the record of a schedule is. No function is called so.
    #[cfg(feature = "schedule")]
    pub(super) fn schedule(&self, namespace: &Namespace, uid: &str) -> String {
        format!("{self}.progress.{namespace}._schedules.{uid}")
    }

    pub(super) fn all_rings(&self) -> String {
        format!("{self}.rings.>")
    }

    /// Where the server repeats the heads of the events of [`NamePrefix::events_of`], in its notation.
    pub(super) fn rings_of(&self, namespace: &Namespace) -> String {
        format!("{self}.rings.{namespace}.{{{{wildcard(1)}}}}")
    }

    pub(super) fn function_of_ring(&self, subject: &str) -> Option<FunctionKey> {
        self.function(subject, "rings")
    }

    fn function(&self, subject: &str, kind: &str) -> Option<FunctionKey> {
        let rest = subject.strip_prefix(&self.0)?.strip_prefix('.')?;
        let rest = rest.strip_prefix(kind)?.strip_prefix('.')?;
        let (namespace, name) = rest.split_once('.')?;
        Some(FunctionKey {
            name: name.parse().ok()?,
            namespace: namespace.parse().ok()?,
        })
    }
}

impl std::str::FromStr for NamePrefix {
    type Err = InvalidPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidPrefix> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        match (1..=PREFIX_MAX).contains(&text.len()) && text.bytes().all(is_allowed) {
            true => Ok(NamePrefix(text.to_owned())),
            false => Err(InvalidPrefix(text.to_owned())),
        }
    }
}

impl fmt::Display for NamePrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_read_back_from_its_subjects() {
        let prefix: NamePrefix = "pilotlight".parse().expect("a prefix");
        let function: FunctionKey = "team-1/a-1".parse().expect("a key");
        let subject = prefix.events(&function);
        assert_eq!(subject, "pilotlight.events.team-1.a-1");
        assert_eq!(prefix.function_of_events(&subject), Some(function.clone()));
        assert_eq!(prefix.function_of_ring(&subject), None);
        let ring = prefix.rings_of(&function.namespace);
        let ring = ring.replace("{{wildcard(1)}}", "a-1");
        assert_eq!(prefix.function_of_ring(&ring), Some(function));
        for odd in [
            "",
            "pilotlight",
            "pilotlight.events.team-1",
            "pilotlight.events.team-1.a.b",
            "other.events.team-1.a",
            "pilotlight.events.team_1.a",
        ] {
            assert_eq!(prefix.function_of_events(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_prefix_is_one_token() {
        for odd in ["", "a.b", "a b", "a*", "a>", "a_b", &"x".repeat(33)] {
            assert!(odd.parse::<NamePrefix>().is_err(), "{odd}");
        }
    }
}
