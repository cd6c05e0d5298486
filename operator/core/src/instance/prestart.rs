//! Whether a runtime process that started before its function was known can run that function.
//!
//! Fed by the supervisor at the claim, with the environment of the process and that of the function.
//! Never sees the process; the runtime's own `prestart` program applies the function's environment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::instance::launch::EXEC_WRAPPER;

/// A runtime process that starts before its function is known.
///
/// It reads one `Begin` as JSON from its standard input, up to the end of the input, and from then on
/// behaves like a process that was started with these values. If the input ends without one, it exits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prestart {
    pub command: Vec<String>,
    /// Its working directory.
    pub task_root: PathBuf,
    pub environment: BTreeMap<String, String>,
    /// Variables that such a process reads once, at its start: names, or prefixes of names followed by `*`.
    /// A function that has other values of them gets a new process.
    pub reads: Vec<String>,
}

impl Prestart {
    /// The first variable that such a process reads at its start and that has another value for the
    /// function, or is missing on one side. A function with a wrapper script always needs a new process.
    pub fn differs_in<'a>(
        &'a self,
        environment: &'a BTreeMap<String, String>,
    ) -> Option<&'a String> {
        let names = self.environment.keys().chain(environment.keys());
        names
            .filter(|name| self.environment.get(*name) != environment.get(*name))
            .filter(|name| {
                let is_read = self.reads.iter().any(|read| covers(read, name));
                is_read || *name == EXEC_WRAPPER
            })
            .min()
    }
}

/// `read`: a name, or a prefix of names followed by `*`.
fn covers(read: &str, name: &str) -> bool {
    match read.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => read == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn only_variables_that_are_read_at_the_start_must_be_equal() {
        let prestart = Prestart {
            command: vec!["python".to_owned()],
            task_root: "/var/task".into(),
            environment: variables(&[("LANG", "C"), ("PYTHONPATH", "/a"), ("TZ", ":UTC")]),
            reads: ["PYTHON*", "LANG"].map(str::to_owned).into(),
        };
        let differs = |pairs: &[(&str, &str)]| {
            let environment = variables(pairs);
            prestart.differs_in(&environment).cloned()
        };
        let own = [("LANG", "C"), ("PYTHONPATH", "/a")];
        assert_eq!(differs(&own), None, "TZ is not read");
        let more = [own[0], own[1], ("LANGUAGE", "de"), ("TABLE", "orders")];
        assert_eq!(differs(&more), None, "LANG is a whole name");
        let hashes = [own[0], own[1], ("PYTHONHASHSEED", "1")];
        assert_eq!(differs(&hashes).as_deref(), Some("PYTHONHASHSEED"));
        assert_eq!(differs(&own[..1]).as_deref(), Some("PYTHONPATH"));
        let wrapped = [own[0], own[1], (EXEC_WRAPPER, "/opt/wrapper")];
        assert_eq!(differs(&wrapped).as_deref(), Some(EXEC_WRAPPER));
        let other = [("LANG", "de_DE"), ("PYTHONPATH", "/b")];
        assert_eq!(differs(&other).as_deref(), Some("LANG"), "the first");
    }
}
