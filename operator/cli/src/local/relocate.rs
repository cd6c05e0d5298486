//! Rewrites paths below `/var/task` and `/opt` in a function's variables to this machine's paths.
//!
//! Fed by `prepare`. Only variables by which a runtime, its loader or a shell finds files are changed, such
//! as the one of a wrapper script, and only paths that exist here. Only the function knows what other
//! variables mean.

use std::collections::BTreeMap;
use std::path::Path;

use pilotlight_core::function::{EnvName, EnvValue};

/// Variables that runtimes, loaders and shells read.
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

/// The function's variables whose values change. `places`: folders of an image with this machine's paths.
pub(crate) fn relocated(
    environment: &BTreeMap<EnvName, EnvValue>,
    places: &[(&str, String)],
) -> BTreeMap<String, String> {
    let read = environment
        .iter()
        .filter(|(name, _)| READ_BY_RUNTIMES.contains(&name.as_str()));
    let moved = read.filter_map(|(name, value)| {
        let here = moved(value.as_str(), places);
        (here != value.as_str()).then(|| (name.to_string(), here))
    });
    moved.collect()
}

fn moved(value: &str, places: &[(&str, String)]) -> String {
    let words = value.split_inclusive(is_between).map(|word| {
        let end = word.find(is_between).unwrap_or(word.len());
        let (path, after) = word.split_at(end);
        // In `file:///opt/a.js` this is `///opt/a.js`.
        let (before, path) = match path.strip_prefix("//") {
            Some(path) if path.starts_with('/') => ("//", path),
            _ => ("", path),
        };
        let here = places.iter().find_map(|(place, here)| {
            let inside = path.strip_prefix(place)?;
            let is_inside = inside.is_empty() || inside.starts_with('/');
            let here = format!("{here}{inside}");
            (is_inside && Path::new(&here).exists()).then_some(here)
        });
        let path = here.as_deref().unwrap_or(path);
        format!("{before}{path}{after}")
    });
    words.collect()
}

/// Whether a character separates the paths of a list, or words and options of a command line.
fn is_between(c: char) -> bool {
    c.is_whitespace() || matches!(c, ':' | ',' | ';' | '=' | '@' | '"' | '\'')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(folder.path().join("lib")).expect("made");
        std::fs::write(folder.path().join("wrapper"), "").expect("written");
        let path = folder.path().to_str().expect("UTF-8").to_owned();
        (folder, path)
    }

    #[test]
    fn a_path_of_an_image_becomes_the_path_on_this_machine() {
        let (_layers, opt) = folder();
        let (_code, task) = folder();
        let places = [("/opt", opt.clone()), ("/var/task", task.clone())];
        for (value, here) in [
            ("/opt/wrapper", "{opt}/wrapper"),
            ("/var/task/wrapper", "{task}/wrapper"),
            ("/opt/absent", "/opt/absent"),
            ("/srv/opt/wrapper", "/srv/opt/wrapper"),
            ("/optical/lib", "/optical/lib"),
            ("wrapper", "wrapper"),
            (
                "/opt/lib:/usr/lib:/opt/none",
                "{opt}/lib:/usr/lib:/opt/none",
            ),
            ("/var/task:/opt", "{task}:{opt}"),
            ("--require /opt/wrapper -x", "--require {opt}/wrapper -x"),
            ("-javaagent:/opt/wrapper=a", "-javaagent:{opt}/wrapper=a"),
            (
                "--import=file:///opt/wrapper",
                "--import=file://{opt}/wrapper",
            ),
            ("http://host/opt/wrapper", "http://host/opt/wrapper"),
            ("/opt/", "{opt}/"),
            ("é /opt/lib é", "é {opt}/lib é"),
            ("", ""),
        ] {
            let here = here.replace("{opt}", &opt).replace("{task}", &task);
            assert_eq!(moved(value, &places), here, "{value}");
        }
    }

    #[test]
    fn only_variables_that_a_runtime_reads_are_changed() {
        let (_layers, opt) = folder();
        let variables = [
            ("MINE", "/opt/lib"),
            ("PATH", "/opt/lib"),
            ("NODE_PATH", "/x"),
        ];
        let variables = variables.map(|(name, value)| {
            let (name, value) = (name.parse::<EnvName>(), value.parse::<EnvValue>());
            (name.expect("a name"), value.expect("a value"))
        });
        let changed = relocated(&variables.into(), &[("/opt", opt.clone())]);
        assert_eq!(changed, [("PATH".to_owned(), format!("{opt}/lib"))].into());
    }
}
