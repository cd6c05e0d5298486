//! Whether a process that was started before its function was known can become it.
//!
//! Fed by the supervisor at the claim, with the environment that it started the process with and
//! the one that the function has. Never sees the process: what that does with its new
//! environment is the matter of the runtime's own `prestart`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::instance::launch::EXEC_WRAPPER;

/// A runtime process that is started before it is known for which function.
///
/// It reads one `Begin` as JSON from its standard input, up to the end of that, and is from then
/// on what a process is that was started with it. If the input ends without one, it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prestart {
    pub command: Vec<String>,
    /// Its working directory.
    pub task_root: PathBuf,
    pub environment: BTreeMap<String, String>,
    /// Variables that such a process reads once, as it starts: names, or beginnings of names with
    /// `*` after them. A function that has other values of them gets a process of its own.
    pub reads: Vec<String>,
}

impl Prestart {
    /// The first variable that such a process reads as it starts, and that the function has another
    /// value of; absent is a value too. A function with a wrapper script always needs a fresh process.
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

/// `read`: a name, or the beginning of names with `*` after it.
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
    fn only_what_is_read_at_the_start_must_be_the_same() {
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
