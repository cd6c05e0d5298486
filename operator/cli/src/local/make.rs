//! Makes a function's code runnable: installs its libraries, then builds it.
//!
//! Does what a description's `local.libraries` and `local.build` say; each result is an entry of the `cache`,
//! named for everything that it was made of. Fed by `prepare` with a runtime that is set up (`runtime`);
//! `package` packs the results. Never changes the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use pilotlight_core::function::Handler;
use pilotlight_runtimes::{Libraries, Reads, Values, fill};
use sha2::{Digest, Sha256};

use super::cache::Cache;
use super::libraries::inputs::Inputs;
use super::libraries::{self, modules};
use super::print::Progress;
use super::runtime::Ready;
use super::utf8::text;
use super::{custom, hash, steps, tree};

const LIBRARIES: &str = "libraries";
const BUILDS: &str = "builds";
/// A file in a folder of installed libraries: sentences for the user, shown at each start.
pub(crate) const WARNINGS: &str = ".warnings";
/// Digits of a hash in the name of a mirror: enough to tell two apart.
const DIGITS: usize = 12;

/// The inputs of one function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) function: &'a str,
    /// The directory of the code, and its hash.
    pub(crate) code: &'a Path,
    pub(crate) sha256: &'a str,
    pub(crate) handler: &'a Handler,
    /// The folder of its layers, if it has any.
    pub(crate) opt: Option<&'a Path>,
}

/// A function whose code can run.
#[derive(Debug)]
pub(crate) struct Made {
    /// The result of the build, or the code itself without one.
    pub(crate) task_root: PathBuf,
    pub(crate) is_built: bool,
    pub(crate) libraries: Option<PathBuf>,
    /// If the function's program cannot run: how to change that.
    pub(crate) advice: Option<String>,
    /// Problems with the libraries that did not stop the installation.
    pub(crate) warnings: Vec<String>,
    values: Values,
}

/// How a function is started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) command: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
}

impl Made {
    /// How the function is started on this machine.
    ///
    /// # Errors
    /// If the description leaves a placeholder without a value.
    pub(crate) fn start(&self, ready: &Ready) -> Result<Started> {
        let (command, environment) = ready.description.local.start.fill(&self.values)?;
        Ok(Started {
            command,
            environment,
        })
    }
}

impl Ready {
    /// Installs the function's libraries and builds its code. `watched` gets the directories outside the code whose
    /// changes concern the libraries, before anything can fail.
    ///
    /// # Errors
    /// If the code is not what the runtime runs, or cannot be built.
    pub(crate) async fn make(
        &self,
        parts: Parts<'_>,
        cache: &Cache,
        progress: &Progress,
        watched: &mut BTreeSet<PathBuf>,
    ) -> Result<Made> {
        let Parts { code, opt, .. } = parts;
        if code.as_os_str().as_encoded_bytes().contains(&b':') {
            bail!("spec.code.path: the directory's name must not contain a `:`");
        }
        let mut values = steps::with(&self.values, [("code", code)])?;
        values.insert("opt".to_owned(), opt.map(text).transpose()?);
        values.insert("handler".to_owned(), Some(parts.handler.to_string()));
        let libraries = self.libraries(parts, &values, cache, progress, watched);
        let libraries = libraries.await?;
        let warnings = libraries.as_ref().map(|place| place.join(WARNINGS));
        let warnings = warnings.and_then(|file| fs::read_to_string(file).ok());
        let warnings = warnings.unwrap_or_default();
        let shown = libraries.as_ref().map(text).transpose()?;
        values.insert("libraries".to_owned(), shown);
        let built = self.build(parts, &values, cache, progress).await?;
        let is_built = built.is_some();
        let task_root = built.unwrap_or_else(|| code.to_owned());
        values = steps::with(&values, [("code", task_root.as_path())])?;
        let mut advice = None;
        if self.description.local.start.uses("bootstrap") {
            let bootstrap = custom::bootstrap(&task_root, opt);
            values.insert("bootstrap".to_owned(), Some(text(bootstrap.path)?));
            advice = bootstrap.advice;
        }
        Ok(Made {
            task_root,
            is_built,
            libraries,
            advice,
            warnings: warnings.lines().map(str::to_owned).collect(),
            values,
        })
    }

    async fn libraries(
        &self,
        parts: Parts<'_>,
        values: &Values,
        cache: &Cache,
        progress: &Progress,
        watched: &mut BTreeSet<PathBuf>,
    ) -> Result<Option<PathBuf>> {
        let Some(libraries) = &self.description.local.libraries else {
            return Ok(None);
        };
        // A dangling link counts too: it may lead to a layer's packages.
        let is_there = |name: &String| parts.code.join(name).symlink_metadata().is_ok();
        if libraries.unless.iter().any(is_there) {
            return Ok(None);
        }
        if let Some(reads) = libraries.read {
            let Some(inputs) = libraries::read(reads, parts.code).context("spec.code")? else {
                return Ok(None);
            };
            watched.extend(inputs.directories());
            let made = self.installed(libraries, &inputs, parts, values, cache, progress);
            return made.await.map(Some);
        }
        let Some(first) = libraries.files.first().filter(|name| is_there(name)) else {
            return Ok(None);
        };
        let mut hash = Sha256::new();
        for name in libraries.files.iter().filter(|name| is_there(name)) {
            let content = fs::read(parts.code.join(name)).with_context(|| name.clone())?;
            hash::update(&mut hash, name.as_bytes());
            hash::update(&mut hash, &content);
        }
        hash::update(&mut hash, self.key.as_bytes());
        let install = async |place: &Path| {
            self.say(parts.function, &libraries.say, progress)?;
            let values = steps::with(values, [("out", place)])?;
            // Paths in the files are relative to the code's directory.
            steps::run(&libraries.run, &values, parts.code).await
        };
        let made = cache.entry(LIBRARIES, &hash::hex(hash), install).await;
        let made = made.with_context(|| parts.code.join(first).display().to_string())?;
        Ok(Some(made))
    }

    /// Installs the libraries of a list, from copies of everything that it refers to.
    async fn installed(
        &self,
        libraries: &Libraries,
        inputs: &Inputs,
        parts: Parts<'_>,
        values: &Values,
        cache: &Cache,
        progress: &Progress,
    ) -> Result<PathBuf> {
        let Libraries { read, say, run, .. } = libraries;
        let mut hash = Sha256::new();
        inputs.hash(&mut hash)?;
        hash::update(&mut hash, self.key.as_bytes());
        for word in run.iter().flatten() {
            hash::update(&mut hash, word.as_bytes());
        }
        let key = hash::hex(hash);
        let mut values = values.clone();
        values.insert("list".to_owned(), Some(inputs.list.clone()));
        for (name, value) in &inputs.values {
            values.insert((*name).to_owned(), Some(value.clone()));
        }
        let install = async |place: &Path| {
            let said = fill(say, &values)?;
            progress.say(&format!("{}: {said}", parts.function));
            // The same name each time, since pip records where a library came from.
            let (root, name) = (cache.scratch(""), format!(".mirror-{}", &key[..DIGITS]));
            // A killed process may have left it. No other process uses it, since we hold the entry's lock.
            let _ = fs::remove_dir_all(root.join(&name));
            let mut mirror = tempfile::Builder::new();
            let mirror = mirror.prefix(&name).rand_bytes(0).tempdir_in(&root)?;
            let (root, project) = inputs.mirror(mirror.path(), &root)?;
            let places = [("out", place), ("root", &root), ("project", &project)];
            let values = steps::with(&values, places)?;
            steps::run(run, &values, &project).await?;
            if *read == Some(Reads::Node) {
                modules::collect(&root, &project, place)?;
            }
            Ok(())
        };
        let made = cache.entry(LIBRARIES, &key, install).await;
        made.with_context(|| parts.code.join(&inputs.list).display().to_string())
    }

    async fn build(
        &self,
        parts: Parts<'_>,
        values: &Values,
        cache: &Cache,
        progress: &Progress,
    ) -> Result<Option<PathBuf>> {
        let Some(build) = &self.description.local.build else {
            return Ok(None);
        };
        if !build.is_needed(|folder| names(&parts.code.join(folder))) {
            return Ok(None);
        }
        let mut hash = Sha256::new();
        let libraries = values.get("libraries").cloned().flatten();
        for part in [&self.key, parts.sha256, &libraries.unwrap_or_default()] {
            hash::update(&mut hash, part.as_bytes());
        }
        // The key must not depend on where the result will be, but on the handler that it is built for.
        let anywhere = steps::with(values, [("out", Path::new(""))])?;
        for word in build.run.iter().flatten() {
            hash::update(&mut hash, fill(word, &anywhere)?.as_bytes());
        }
        let make = async |place: &Path| {
            self.say(parts.function, &build.say, progress)?;
            let values = steps::with(values, [("out", place)])?;
            steps::run(&build.run, &values, parts.code).await?;
            Ok(tree::relink(parts.code, place)?)
        };
        let built = cache.entry(BUILDS, &hash::hex(hash), make).await;
        built.context("spec.code").map(Some)
    }
}

/// The names in a directory; none if it does not exist.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::sync::Arc;

    use super::super::runtime::ready;
    use super::*;

    /// A language whose set-up, libraries and builds record how often each was made.
    const TINY: &str = r#"
handler = "main"
[runtime.tiny]
[image]
command = ["/bin/tiny"]
[local]
command = ["{sh}", "{runtime}/boot", "{handler}"]
environment = { FOUND = ["{code}", "{libraries}", "{opt}/lib"] }
tool = [{ name = "sh", programs = ["sh"], missing = "install a shell" }]
setup = { say = "once", run = [["sh", "-c", "echo made >>{cache}/set-up; cp {out}/boot {out}/copy"]] }
libraries = { files = ["libs"], say = "libs", run = [["sh", "-c", "echo made >>{cache}/libs; cp libs {out}"]] }
build = { when = ["*.src"], unless = ["done"], say = "build", run = [["sh", "-c", "cat *.src {libraries}/libs >{out}/built"]] }
"#;

    struct Fixture {
        root: tempfile::TempDir,
        cache: Cache,
        code: PathBuf,
    }

    impl Fixture {
        fn new() -> Self {
            let root = tempfile::tempdir().expect("a directory");
            let cache = Cache::open(&root.path().join("cache")).expect("a cache");
            let code = root.path().join("code");
            fs::create_dir(&code).expect("made");
            Self { root, cache, code }
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.code.join(name), text).expect("written");
        }

        async fn made(&self) -> Result<(Ready, Made)> {
            let files = [("boot".to_owned(), b"#!/bin/sh".to_vec())];
            let tiny = pilotlight_runtimes::parse(TINY, &files)
                .expect("valid")
                .remove(0);
            let (path, progress) = (OsStr::new("/usr/bin:/bin"), Progress::new());
            let tiny = ready(&Arc::new(tiny), path, &self.cache, &progress).await?;
            let sha256 = tree::of(&self.code)?.sha256;
            let parts = Parts {
                function: "f",
                code: &self.code,
                sha256: &sha256,
                handler: &"main".parse()?,
                opt: None,
            };
            let watched = &mut BTreeSet::new();
            let made = tiny.make(parts, &self.cache, &progress, watched).await?;
            Ok((tiny, made))
        }

        async fn task_root(&self) -> PathBuf {
            self.made().await.expect("made").1.task_root
        }

        fn times(&self, what: &str) -> usize {
            let text = fs::read_to_string(self.root.path().join("cache").join(what));
            text.expect("made").lines().count()
        }
    }

    #[tokio::test]
    async fn each_step_is_repeated_only_when_its_inputs_have_changed() {
        let fixture = Fixture::new();
        fixture.write("libs", "lib\n");
        let (tiny, plain) = fixture.made().await.expect("made");
        assert_eq!(plain.task_root, fixture.code, "nothing to build");
        let plain = plain.start(&tiny).expect("started");
        let boot = Path::new(&plain.command[1]);
        assert!(boot.exists() && boot.with_file_name("copy").exists());
        assert_eq!(plain.command[2], "main");
        let found: Vec<_> = plain.environment["FOUND"].split(':').collect();
        assert_eq!(found.len(), 2, "no layer: {found:?}");

        fixture.write("a.src", "one\n");
        let built = fixture.task_root().await;
        assert_eq!(
            fs::read_to_string(built.join("built")).expect("built"),
            "one\nlib\n"
        );
        fixture.write("a.src", "two\n");
        let again = fixture.task_root().await;
        assert_eq!(
            fs::read_to_string(again.join("built")).expect("built"),
            "two\nlib\n"
        );
        assert_eq!((fixture.times("set-up"), fixture.times("libs")), (1, 1));
        fixture.write("libs", "other\n");
        fixture.task_root().await;
        assert_eq!((fixture.times("set-up"), fixture.times("libs")), (1, 2));
        fixture.write("done", "");
        let ready = fixture.task_root().await;
        assert_eq!(ready, fixture.code, "built already");
    }

    #[tokio::test]
    async fn a_failed_build_is_reported_with_the_field() {
        let fixture = Fixture::new();
        fixture.write("a.src", "one");
        let error = fixture.made().await.expect_err("no libraries to read");
        let text = format!("{error:#}");
        assert!(text.starts_with("spec.code: `sh -c cat"), "{text}");
    }

    #[tokio::test]
    async fn a_directory_with_a_colon_is_refused() {
        let mut fixture = Fixture::new();
        fixture.code = fixture.root.path().join("a:b");
        fs::create_dir(&fixture.code).expect("made");
        let error = fixture.made().await.expect_err("a colon");
        assert!(
            error.to_string().contains("must not contain a `:`"),
            "{error}"
        );
    }
}
