//! How the runtime process of a function is started, on a laptop or in an image.
//!
//! Local mode and `pilotlight-runtimes` make a [`Launch`] from a runtime's description; `pilotlight-api`
//! composes an instance's configuration from it. The supervisor calls [`wrapped`], which inserts a
//! function's wrapper script into the command.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::function::{Handler, MemoryMiB};

/// The variable with the path of a script that starts instead of the runtime, with the runtime's command as
/// its arguments.
pub const EXEC_WRAPPER: &str = "AWS_LAMBDA_EXEC_WRAPPER";
/// The descriptions of all runtimes set this variable, except those whose process is the function's program.
const EXECUTION_ENV: &str = "AWS_EXECUTION_ENV";
/// The description of a runtime sets this variable if the runtime's start script runs the wrapper, because
/// only that script knows the program and options that a wrapper expects. The supervisor removes it before
/// it starts the runtime process.
const STARTS_WRAPPER: &str = "PILOTLIGHT_STARTS_WRAPPER";

/// Starts the wrapper `$0`, with the exit statuses and messages of the original platform. The shell also runs
/// a script without an interpreter line.
const START_WRAPPED: &str = r#"if [ ! -f "$0" ]; then echo "$0: does not exist" >&2; exit 127; fi
if [ ! -x "$0" ]; then echo "$0: is not an executable" >&2; exit 126; fi
exec "$0" "$@""#;

/// Everything that starting a runtime process needs. See the module's text.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The function's entry point, or the runtime's default.
    pub handler: Handler,
    /// The working directory, which contains the function's code.
    pub task_root: PathBuf,
    /// The runtime's variables, such as search paths and its name. The function's values override them,
    /// except for reserved names.
    pub environment: BTreeMap<String, String>,
    /// The runtime's variables that depend on the function's memory.
    pub heap: BTreeMap<String, HeapLimit>,
    /// The function's variables that have other values in local mode, where code and layers are in other
    /// folders than in an image.
    pub relocated: BTreeMap<String, String>,
}

/// The value of a variable that bounds a heap: a share of the function's memory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeapLimit {
    pub percent: u32,
    /// The least memory, in MiB, that the limit leaves for everything except the heap.
    #[serde(default)]
    pub leave: u32,
    /// The variable's value: `{mib}` stands for the limit in MiB, `{hex}` for the limit in bytes, hexadecimal.
    pub value: String,
}

impl HeapLimit {
    pub fn of(&self, memory: MemoryMiB) -> String {
        let memory = memory.get();
        let limit = (memory * self.percent / 100).min(memory.saturating_sub(self.leave));
        let bytes = u64::from(limit) * 1024 * 1024;
        let value = self.value.replace("{mib}", &limit.to_string());
        value.replace("{hex}", &format!("{bytes:x}"))
    }
}

/// The command with the function's wrapper script in front, if the environment has one. Functions that
/// bring their own runtime have no wrapper, as on the original platform.
pub fn wrapped(command: Vec<String>, environment: &mut BTreeMap<String, String>) -> Vec<String> {
    let starts_wrapper_itself = environment.remove(STARTS_WRAPPER).is_some();
    let may_have_one = !starts_wrapper_itself && environment.contains_key(EXECUTION_ENV);
    let wrapper = environment.get(EXEC_WRAPPER).filter(|_| may_have_one);
    let Some(wrapper) = wrapper.filter(|wrapper| !wrapper.is_empty()) else {
        return command;
    };
    let start = ["/bin/sh", "-c", START_WRAPPED, wrapper];
    start
        .map(str::to_owned)
        .into_iter()
        .chain(command)
        .collect()
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
    fn a_heap_limit_is_a_share_of_the_memory_and_leaves_the_rest_its_least() {
        let heap = |percent, leave, value: &str, memory: i128| {
            let value = value.to_owned();
            let limit = HeapLimit {
                percent,
                leave,
                value,
            };
            limit.of(memory.try_into().expect("a memory"))
        };
        assert_eq!(heap(90, 0, "{mib}MiB", 128), "115MiB");
        assert_eq!(
            heap(85, 64, "max-heap-size={mib}m", 128),
            "max-heap-size=64m"
        );
        assert_eq!(
            heap(85, 64, "max-heap-size={mib}m", 1024),
            "max-heap-size=870m"
        );
        assert_eq!(heap(75, 0, "{hex}", 128), "6000000");
    }

    #[test]
    fn a_wrapper_starts_instead_of_the_runtime() {
        let command = vec!["/var/lang/bin/python".to_owned(), "-m".to_owned()];
        let python = ("AWS_EXECUTION_ENV", "AWS_Lambda_python3.11");
        let wrapper = (EXEC_WRAPPER, "/opt/wrapper");
        let with = wrapped(command.clone(), &mut variables(&[python, wrapper]));
        assert_eq!(with[..2], ["/bin/sh", "-c"]);
        assert_eq!(with[3..], ["/opt/wrapper", "/var/lang/bin/python", "-m"]);
        for mut without in [
            variables(&[python]),
            variables(&[python, (EXEC_WRAPPER, "")]),
            variables(&[wrapper]),
            variables(&[python, wrapper, (STARTS_WRAPPER, "1")]),
        ] {
            let as_it_was = wrapped(command.clone(), &mut without);
            assert_eq!(as_it_was, command, "{without:?}");
            assert!(!without.contains_key(STARTS_WRAPPER));
        }
    }
}
