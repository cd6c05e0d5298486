//! The machine's own programs that a runtime is made of: an interpreter, a compiler.
//!
//! Finds what a description's `local.tool` asks for, or fetches it into the `cache` where the
//! description says how; `runtime` fills the results in. Never installs anything on the machine.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use pilotlight_runtimes::{Fetch, Tool, Unknown, Values, fill};
use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::cache::Cache;
use super::print::Progress;
use super::steps;
use super::tool;
use super::{hash, tree};

const FETCHED: &str = "tools";

/// The path of the program: the first on the search path that has the wanted version, or a fetched one.
///
/// # Errors
/// The error says what was searched for, what was found, and what to do.
pub(crate) async fn find(
    tool: &Tool,
    values: &Values,
    search_path: &OsStr,
    cache: &Cache,
    progress: &Progress,
) -> Result<PathBuf> {
    let programs = tool.programs.iter().map(|program| fill(program, values));
    let programs: Vec<String> = programs.collect::<Result<_, _>>()?;
    let version = tool.version.as_ref().map(|text| fill(text, values));
    let version = version.transpose()?;
    let select = tool.select.iter();
    let select = select.map(|(name, text)| Ok((name.as_str(), fill(text, values)?)));
    let select: Vec<(&str, String)> = select.collect::<Result<_, Unknown>>()?;
    let mut found = BTreeSet::new();
    for program in &programs {
        for directory in std::env::split_paths(search_path) {
            let candidate = directory.join(program);
            let is_program = fs::metadata(&candidate).is_ok_and(|file| tree::is_executable(&file));
            if !is_program {
                continue;
            }
            let Some(wanted) = &version else {
                return Ok(candidate);
            };
            let mut answer = ask(&candidate, &tool.ask, &[]).await;
            if answer.is_none() && !select.is_empty() {
                // A version manager's shim for a version that is not selected.
                answer = ask(&candidate, &tool.ask, &select).await;
            }
            match answer {
                Some((its, program)) if is_version(&its, wanted) => return Ok(program),
                Some((its, _)) => found.insert(format!("{its} ({})", candidate.display())),
                // A shim for a version that is not installed, or another program of this name.
                None => found.insert(format!("{}, which does not run", candidate.display())),
            };
        }
    }
    if let Some(fetch) = &tool.fetch {
        return fetched(&tool.name, fetch, values, cache, progress).await;
    }
    let found = match found.is_empty() {
        true => "nothing".to_owned(),
        false => Vec::from_iter(found).join(", "),
    };
    let version = version.map_or_else(String::new, |version| format!(" of version {version}"));
    bail!(
        "spec.runtime: {}{version} was looked for on the PATH, and found: {found}. {}",
        programs.join(" or "),
        fill(&tool.missing, values)?
    )
}

/// The version that the program prints, and its real path.
async fn ask(
    candidate: &Path,
    question: &[String],
    variables: &[(&str, String)],
) -> Option<(String, PathBuf)> {
    let mut command = Command::new(candidate);
    command.args(question).envs(variables.iter().cloned());
    let answer = tool::output(&mut command).await;
    let answer = answer.ok().filter(|answer| answer.status.success())?;
    let text = String::from_utf8(answer.stdout).ok()?;
    let mut lines = text.lines();
    let version = lines.next()?.to_owned();
    let program = lines.next().filter(|line| line.starts_with('/'));
    Some((version, program.map_or(candidate.to_owned(), PathBuf::from)))
}

/// Whether a word of the line is the version or one below it: `v22.1.0` is 22, `3.11` not 3.1.
fn is_version(line: &str, wanted: &str) -> bool {
    line.split_whitespace().any(|word| {
        let number = word.trim_start_matches(|c: char| !c.is_ascii_digit());
        let rest = number.strip_prefix(wanted);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

async fn fetched(
    name: &str,
    fetch: &Fetch,
    values: &Values,
    cache: &Cache,
    progress: &Progress,
) -> Result<PathBuf> {
    let mut hash = Sha256::new();
    // The key must not depend on where the result will be.
    let anywhere = steps::with(values, [("out", Path::new(""))])?;
    for word in fetch.run.iter().flatten() {
        hash::update(&mut hash, fill(word, &anywhere)?.as_bytes());
    }
    let key = format!("{name}-{}", &hash::hex(hash)[..12]);
    let build = async |place: &Path| {
        progress.say(&fill(&fetch.say, values)?);
        let values = steps::with(values, [("out", place)])?;
        steps::run(&fetch.run, &values, place).await
    };
    let place = cache.entry(FETCHED, &key, build).await?;
    let values = steps::with(values, [("out", place.as_path())])?;
    Ok(PathBuf::from(fill(&fetch.program, &values)?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsString;

    use pilotlight_runtimes::Runtimes;

    use super::*;

    /// Another process writes it. Did this one, then a process that another test starts meanwhile could inherit the
    /// descriptor for writing, and the kernel executes no file that is open for writing.
    fn write_script(path: &Path, script: &str) {
        use std::io::Write;
        let mut install = std::process::Command::new("install");
        install.args(["-m", "755", "/dev/stdin"]).arg(path);
        let mut install = install
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("install runs");
        let mut stdin = install.stdin.take().expect("a pipe");
        write!(stdin, "#!/bin/sh\n{script}\n").expect("it reads");
        drop(stdin);
        assert!(install.wait().expect("it ends").success());
    }

    fn program(directory: &Path, name: &str, script: &str) {
        write_script(&directory.join(name), script);
    }

    fn search_path(directories: &[&tempfile::TempDir]) -> OsString {
        std::env::join_paths(directories.iter().map(|directory| directory.path())).expect("a path")
    }

    /// Finds Python as its description asks for it.
    async fn python(version: &str, search_path: &OsStr) -> Result<PathBuf> {
        let runtimes = Runtimes::built_in();
        let name = format!("python{version}").parse().expect("a name");
        let python = runtimes.get(&name).expect("a known runtime");
        let root = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(root.path()).expect("a cache");
        let tool = &python.local.tools[0];
        find(
            tool,
            &python.values(),
            search_path,
            &cache,
            &Progress::new(),
        )
        .await
    }

    #[tokio::test]
    async fn a_shim_that_does_not_run_is_skipped() {
        let (shims, real) = (tempfile::tempdir(), tempfile::tempdir());
        let (shims, real) = (shims.expect("a directory"), real.expect("a directory"));
        program(
            shims.path(),
            "python3.13",
            "echo not switched on >&2; exit 127",
        );
        program(real.path(), "python3.13", "echo 3.13; echo /opt/python");
        let found = python("3.13", &search_path(&[&shims, &real])).await;
        assert_eq!(found.expect("found"), Path::new("/opt/python"));
    }

    #[tokio::test]
    async fn a_shim_is_asked_with_the_version_selected() {
        let shims = tempfile::tempdir().expect("a directory");
        let script = "[ \"$PYENV_VERSION\" = 3.13 ] && echo 3.13 && echo /opt/python";
        program(shims.path(), "python3.13", script);
        let found = python("3.13", &search_path(&[&shims])).await;
        assert_eq!(found.expect("found"), Path::new("/opt/python"));
    }

    #[tokio::test]
    async fn a_plain_python3_of_the_version_will_do() {
        let real = tempfile::tempdir().expect("a directory");
        program(real.path(), "python3", "echo 3.12; echo /opt/python");
        let found = python("3.12", &search_path(&[&real])).await;
        assert_eq!(found.expect("found"), Path::new("/opt/python"));
    }

    #[tokio::test]
    async fn a_missing_version_is_reported_with_what_was_found_and_what_to_do() {
        let real = tempfile::tempdir().expect("a directory");
        program(real.path(), "python3", "echo 3.9; echo /opt/python");
        let error = python("3.14", &search_path(&[&real])).await;
        let text = error.expect_err("another version").to_string();
        let found = format!("found: 3.9 ({})", real.path().join("python3").display());
        assert!(
            text.starts_with("spec.runtime: python3.14 or python3 of version 3.14")
                && text.contains(&found),
            "{text}"
        );
        assert!(text.contains("Install Python 3.14"), "{text}");

        let error = python("3.14", OsStr::new("")).await;
        let text = error.expect_err("nothing").to_string();
        assert!(text.contains("found: nothing"), "{text}");
    }

    #[test]
    fn a_version_matches_by_whole_numbers() {
        for (line, wanted) in [
            ("3.11", "3.11"),
            ("v22.23.3", "22"),
            ("openjdk 17.0.15 2025-04-15", "17"),
            ("ruby 3.1.2p20 (2022-04-12)", "3.1"),
        ] {
            assert!(is_version(line, wanted), "{line} is {wanted}");
        }
        for (line, wanted) in [
            ("3.11", "3.1"),
            ("v22", "2"),
            ("openjdk 21", "17"),
            ("", "3"),
        ] {
            assert!(!is_version(line, wanted), "{line} is not {wanted}");
        }
    }

    #[tokio::test]
    async fn a_missing_tool_is_fetched_once() {
        let root = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(root.path()).expect("a cache");
        let run = "echo made >>{out}/tool; echo made >>$0";
        let count = root.path().join("count");
        let tool = Tool {
            name: "tool".to_owned(),
            programs: vec!["tool".to_owned()],
            ask: Vec::new(),
            version: None,
            select: BTreeMap::new(),
            fetch: Some(Fetch {
                say: "fetching".to_owned(),
                run: vec![
                    ["sh", "-c", run, &count.display().to_string()]
                        .map(str::to_owned)
                        .to_vec(),
                ],
                program: "{out}/tool".to_owned(),
            }),
            missing: String::new(),
        };
        for _ in 0..2 {
            let (values, progress) = (Values::new(), Progress::new());
            let found = find(&tool, &values, OsStr::new(""), &cache, &progress).await;
            let found = found.expect("fetched");
            assert_eq!(fs::read_to_string(found).expect("there"), "made\n");
        }
        assert_eq!(fs::read_to_string(count).expect("counted"), "made\n");
    }
}
