//! Python on a laptop: the interpreter, its virtual environment, a function's libraries.
//!
//! Finds the machine's own interpreter of the version that a manifest asks for, puts the vendor's
//! client beside it (contracts §1, §9) and installs `requirements.txt`, all into the `cache`.
//! `prepare` starts functions with the result. Never changes the interpreter or the code.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use pilotlight_core::function::Runtime;
use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::cache::Cache;
use super::code;
use super::print::Progress;
use super::tool;

/// The vendor's runtime client, the version the contracts were recorded with.
const CLIENT: &str = "awslambdaric==4.2.2";

/// Prints the version and the interpreter itself: `PATH` may lead to a shim that picks one.
const ASK: &str = "import os, sys; print('%d.%d' % sys.version_info[:2]); \
                   print(os.path.realpath(getattr(sys, '_base_executable', sys.executable)))";

const ENVIRONMENTS: &str = "python";
const LIBRARIES: &str = "libraries";

/// A virtual environment that holds the client.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    /// Such as `3.11`.
    version: &'static str,
    /// Names interpreter and client; libraries are built for it.
    key: String,
    pub(crate) directory: PathBuf,
}

/// Makes the environment of a Python runtime, or finds it in the cache.
pub(crate) async fn environment(
    runtime: Runtime,
    search_path: &OsStr,
    cache: &Cache,
    progress: &Progress,
) -> Result<Environment> {
    let name = runtime.as_str();
    let version = name
        .strip_prefix("python")
        .expect("only Python runtimes are asked for");
    let interpreter = interpreter(name, version, search_path).await?;
    let mut hash = Sha256::new();
    code::update(&mut hash, interpreter.as_os_str().as_encoded_bytes());
    code::update(&mut hash, CLIENT.as_bytes());
    let key = format!("{version}-{}", &code::hex(hash)[..12]);

    let build = async |place: &Path| {
        progress.say(&format!("{name}: installing {CLIENT} (once)"));
        let mut venv = Command::new(&interpreter);
        tool::run(venv.args(["-m", "venv"]).arg(place))
            .await
            .with_context(|| format!("a virtual environment of {}", interpreter.display()))?;
        tool::run(pip(place).args(["install", CLIENT])).await
    };
    let mut directory = cache.entry(ENVIRONMENTS, &key, build).await?;
    if !imports_client(&directory).await? {
        // The interpreter was upgraded or moved since; environments only link to theirs.
        cache.discard(ENVIRONMENTS, &key).await?;
        directory = cache.entry(ENVIRONMENTS, &key, build).await?;
    }
    Ok(Environment {
        version,
        key,
        directory,
    })
}

impl Environment {
    /// The program that runs functions.
    pub(crate) fn python(&self) -> PathBuf {
        self.directory.join("bin/python")
    }

    /// `AWS_EXECUTION_ENV`. At least 3.12's, whatever runs: under an older name the client waits
    /// for events with signals blocked, and escapes all that is not ASCII (contracts §1).
    pub(crate) fn execution_environment(&self) -> String {
        let version = match self.version {
            "3.10" | "3.11" => "3.12",
            version => version,
        };
        format!("AWS_Lambda_python{version}")
    }

    /// Installs what the code's `requirements.txt` asks for; `None` if there is none.
    pub(crate) async fn libraries(
        &self,
        function: &str,
        code: &Path,
        cache: &Cache,
        progress: &Progress,
    ) -> Result<Option<PathBuf>> {
        let requirements = code.join("requirements.txt");
        if !requirements.is_file() {
            return Ok(None);
        }
        let text = fs::read(&requirements).context("requirements.txt")?;
        let mut hash = Sha256::new();
        code::update(&mut hash, &text);
        code::update(&mut hash, self.key.as_bytes());
        let install = async |place: &Path| {
            progress.say(&format!("{function}: installing requirements.txt (once)"));
            let mut pip = pip(&self.directory);
            // The code's directory is where the paths in the file begin.
            let install = pip
                .args(["install", "--target"])
                .arg(place)
                .arg("--requirement");
            tool::run(install.arg(&requirements).current_dir(code)).await
        };
        let libraries = cache.entry(LIBRARIES, &code::hex(hash), install).await;
        libraries
            .map(Some)
            .with_context(|| format!("{}", requirements.display()))
    }
}

/// The interpreter of exactly this version: the first on the search path that says so itself.
async fn interpreter(name: &str, version: &str, search_path: &OsStr) -> Result<PathBuf> {
    let mut found = BTreeSet::new();
    for program in [name, "python3"] {
        for directory in std::env::split_paths(search_path) {
            let candidate = directory.join(program);
            let is_program = fs::metadata(&candidate).is_ok_and(|file| code::is_executable(&file));
            if !is_program {
                continue;
            }
            match ask(&candidate).await {
                Some((its, interpreter)) if its == version => return Ok(interpreter),
                Some((its, _)) => found.insert(format!("python{its} ({})", candidate.display())),
                // A shim for a version that is not switched on, or no Python at all.
                None => found.insert(format!("{}, which does not run", candidate.display())),
            };
        }
    }
    let found = match found.is_empty() {
        true => "no Python".to_owned(),
        false => Vec::from_iter(found).join(", "),
    };
    bail!(
        "spec.runtime: {name} and python3 of version {version} were looked for on the PATH, and \
         found: {found}. Install Python {version}, put it on the PATH, or change the runtime"
    )
}

async fn ask(candidate: &Path) -> Option<(String, PathBuf)> {
    let answer = tool::output(Command::new(candidate).args(["-I", "-c", ASK]))
        .await
        .ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    let mut lines = text.lines();
    let (version, interpreter) = (lines.next()?, lines.next()?);
    answer
        .status
        .success()
        .then(|| (version.to_owned(), PathBuf::from(interpreter)))
}

async fn imports_client(environment: &Path) -> Result<bool> {
    let mut python = Command::new(environment.join("bin/python"));
    let answer = tool::output(python.args(["-I", "-c", "import awslambdaric.__main__"])).await;
    Ok(answer.is_ok_and(|answer| answer.status.success()))
}

/// `python -m pip`: the script beside it names the directory the environment was built in.
fn pip(environment: &Path) -> Command {
    let mut pip = Command::new(environment.join("bin/python"));
    pip.args(["-m", "pip", "--no-input", "--disable-pip-version-check"]);
    pip
}

/// What a Python runtime adds to its process's environment (contracts §2).
pub(crate) fn variables(
    environment: &Environment,
    code: &Path,
    libraries: Option<&Path>,
    cache: &Cache,
) -> Result<Vec<(&'static str, OsString)>> {
    // The working directory leads `sys.path` already; processes a handler starts need it here.
    let search = std::env::join_paths([code].into_iter().chain(libraries));
    let search = search.context("spec.code.path: the directory's name must not hold a `:`")?;
    Ok(vec![
        (
            "AWS_EXECUTION_ENV",
            environment.execution_environment().into(),
        ),
        ("LAMBDA_RUNTIME_DIR", environment.directory.clone().into()),
        ("PYTHONPATH", search),
        // Byte code makes later starts quick, and must not litter the code's directory.
        ("PYTHONPYCACHEPREFIX", cache.scratch("bytecode").into()),
    ])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn program(directory: &Path, name: &str, script: &str) {
        let path = directory.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    }

    fn search_path(directories: &[&tempfile::TempDir]) -> OsString {
        std::env::join_paths(directories.iter().map(|directory| directory.path())).expect("a path")
    }

    #[tokio::test]
    async fn a_shim_that_does_not_run_is_passed_over() {
        let (shims, real) = (tempfile::tempdir(), tempfile::tempdir());
        let (shims, real) = (shims.expect("a directory"), real.expect("a directory"));
        program(
            shims.path(),
            "python3.13",
            "echo not switched on >&2; exit 127",
        );
        program(real.path(), "python3.13", "echo 3.13; echo /opt/python");
        let path = search_path(&[&shims, &real]);
        let found = interpreter("python3.13", "3.13", &path)
            .await
            .expect("found");
        assert_eq!(found, Path::new("/opt/python"));
    }

    #[tokio::test]
    async fn a_plain_python3_of_the_version_will_do() {
        let real = tempfile::tempdir().expect("a directory");
        program(real.path(), "python3", "echo 3.12; echo /opt/python");
        let found = interpreter("python3.12", "3.12", &search_path(&[&real])).await;
        assert_eq!(found.expect("found"), Path::new("/opt/python"));
    }

    #[tokio::test]
    async fn a_missing_version_is_told_what_was_found_and_what_to_do() {
        let real = tempfile::tempdir().expect("a directory");
        program(real.path(), "python3", "echo 3.9; echo /opt/python");
        let error = interpreter("python3.14", "3.14", &search_path(&[&real])).await;
        let text = error.expect_err("another version").to_string();
        let found = format!(
            "found: python3.9 ({})",
            real.path().join("python3").display()
        );
        assert!(
            text.starts_with("spec.runtime: python3.14") && text.contains(&found),
            "{text}"
        );
        assert!(text.contains("Install Python 3.14"), "{text}");

        let error = interpreter("python3.14", "3.14", OsStr::new("")).await;
        assert!(
            error
                .expect_err("nothing")
                .to_string()
                .contains("found: no Python")
        );
    }

    #[test]
    fn old_versions_run_under_a_name_that_keeps_signals_and_text_whole() {
        for (version, name) in [
            ("3.10", "3.12"),
            ("3.11", "3.12"),
            ("3.12", "3.12"),
            ("3.14", "3.14"),
        ] {
            let environment = Environment {
                version,
                key: String::new(),
                directory: PathBuf::new(),
            };
            let expected = format!("AWS_Lambda_python{name}");
            assert_eq!(environment.execution_environment(), expected);
        }
    }
}
