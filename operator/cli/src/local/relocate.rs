//! Values that name files of layers, for a machine that has the layers not in `/opt`.
//!
//! `prepare` asks for the variables by which a runtime or its loader finds files, a wrapper script above
//! all. Changes a path only if a layer has it, and no other variable: what a function means by its own,
//! it alone knows.

use std::collections::BTreeMap;
use std::path::Path;

use pilotlight_core::function::{EnvName, EnvValue};

/// What runtimes, loaders and shells read.
const READ_BY_RUNTIMES: [&str; 13] = [
    "AWS_LAMBDA_EXEC_WRAPPER",
    "BASH_ENV",
    "GEM_PATH",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PATH",
    "PYTHONPATH",
    "RUBYLIB",
    "RUBYOPT",
];
const OPT: &str = "/opt/";

/// The values of the function's own variables that are others here; `opt`: where its layers lie.
pub(crate) fn relocated(
    environment: &BTreeMap<EnvName, EnvValue>,
    opt: &str,
) -> BTreeMap<String, String> {
    let read = environment
        .iter()
        .filter(|(name, _)| READ_BY_RUNTIMES.contains(&name.as_str()));
    let moved = read.filter_map(|(name, value)| {
        let here = moved(value.as_str(), opt);
        (here != value.as_str()).then(|| (name.to_string(), here))
    });
    moved.collect()
}

fn moved(value: &str, opt: &str) -> String {
    let mut here = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find(OPT) {
        let (before, path) = rest.split_at(at);
        here.push_str(before);
        let end = path.find(is_between).unwrap_or(path.len());
        let (path, after) = path.split_at(end);
        let is_whole = here.is_empty() || here.ends_with(is_between) || here.ends_with("://");
        let inside = &path[OPT.len()..];
        if is_whole && Path::new(opt).join(inside).exists() {
            here.push_str(opt);
            here.push('/');
            here.push_str(inside);
        } else {
            here.push_str(path);
        }
        rest = after;
    }
    here + rest
}

/// What separates the paths of a list, and the words and options of a command line.
fn is_between(c: char) -> bool {
    c.is_whitespace() || matches!(c, ':' | ',' | ';' | '=' | '@' | '"' | '\'')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_layer_is_where_the_layer_lies() {
        let layers = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(layers.path().join("lib")).expect("made");
        std::fs::write(layers.path().join("wrapper"), "").expect("written");
        let opt = layers.path().to_str().expect("UTF-8");
        for (value, here) in [
            ("/opt/wrapper", "{opt}/wrapper"),
            ("/opt/absent", "/opt/absent"),
            ("/srv/opt/wrapper", "/srv/opt/wrapper"),
            ("wrapper", "wrapper"),
            (
                "/opt/lib:/usr/lib:/opt/none",
                "{opt}/lib:/usr/lib:/opt/none",
            ),
            ("--require /opt/wrapper -x", "--require {opt}/wrapper -x"),
            ("-javaagent:/opt/wrapper=a", "-javaagent:{opt}/wrapper=a"),
            (
                "--import=file:///opt/wrapper",
                "--import=file://{opt}/wrapper",
            ),
            ("/opt/", "{opt}/"),
        ] {
            assert_eq!(moved(value, opt), here.replace("{opt}", opt), "{value}");
        }
    }

    #[test]
    fn only_what_a_runtime_reads_is_changed() {
        let layers = tempfile::tempdir().expect("a directory");
        std::fs::write(layers.path().join("a"), "").expect("written");
        let opt = layers.path().to_str().expect("UTF-8");
        let variables = [("MINE", "/opt/a"), ("PATH", "/opt/a"), ("NODE_PATH", "/x")];
        let variables = variables.map(|(name, value)| {
            let (name, value) = (name.parse::<EnvName>(), value.parse::<EnvValue>());
            (name.expect("a name"), value.expect("a value"))
        });
        let changed = relocated(&variables.into(), opt);
        assert_eq!(changed, [("PATH".to_owned(), format!("{opt}/a"))].into());
    }
}
