//! A runtime on a laptop: its tools, what is set up once, a function's libraries and build.
//!
//! Does what a description's `local` table says; everything it makes is an entry of the `cache`
//! that is named for all it was made of. `prepare` starts functions with the result, `package`
//! packs it. Never changes the machine's tools or the code.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use pilotlight_core::function::Handler;
use pilotlight_core::instance::launch::HeapLimit;
use pilotlight_runtimes::{Description, Libraries, Package, Reads, Setup, Values, fill};
use sha2::{Digest, Sha256};

use super::cache::Cache;
use super::code;
use super::custom;
use super::libraries::{self, Inputs, modules};
use super::prepare::text;
use super::print::Progress;
use super::{steps, tool, tools, tree};

const SET_UP: &str = "runtimes";
const LIBRARIES: &str = "libraries";
const BUILDS: &str = "builds";
/// A file of what is installed: sentences for the person, told at each start.
pub(crate) const WARNINGS: &str = ".warnings";
/// Digits of a hash that tell two entries of one name apart.
const DIGITS: usize = 12;

/// A runtime whose tools are there and which is set up.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    description: Arc<Description>,
    values: Values,
    /// Names tools and set-up; what is made with them is made anew for others.
    key: String,
}

/// What one function brings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) function: &'a str,
    /// The directory of the code, and its hash.
    pub(crate) code: &'a Path,
    pub(crate) sha256: &'a str,
    pub(crate) handler: &'a Handler,
    /// Where its layers lie, if it has any.
    pub(crate) opt: Option<&'a Path>,
}

/// A function that can run.
#[derive(Debug)]
pub(crate) struct Made {
    /// What was built of the code, or the code itself.
    pub(crate) task_root: PathBuf,
    pub(crate) is_built: bool,
    pub(crate) libraries: Option<PathBuf>,
    /// How to make the function's program run, if it cannot.
    pub(crate) advice: Option<String>,
    /// What went wrong with the libraries without stopping them.
    pub(crate) warnings: Vec<String>,
    values: Values,
}

/// How a function is started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) command: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
}

/// Finds the tools and sets up what is not in the cache yet.
///
/// # Errors
/// If a tool is missing or fails.
pub(crate) async fn ready(
    description: &Arc<Description>,
    search_path: &OsStr,
    cache: &Cache,
    progress: &Progress,
) -> Result<Ready> {
    let name = description.name.as_str();
    let mut values = description.values();
    values.insert("arch".to_owned(), Some(arch().to_owned()));
    values.insert("cache".to_owned(), Some(text(cache.scratch(""))?));
    let mut hash = Sha256::new();
    for wanted in &description.local.tools {
        let found = tools::find(wanted, &values, search_path, cache, progress).await?;
        let found = text(found)?;
        code::update(&mut hash, found.as_bytes());
        values.insert(wanted.name.clone(), Some(found));
    }
    for (name, content) in &description.files {
        code::update(&mut hash, name.as_bytes());
        code::update(&mut hash, content);
    }
    let setup = description.local.setup.as_ref();
    // The same wherever it will lie.
    let anywhere = steps::with(&values, [("out", Path::new(""))])?;
    for word in setup.iter().flat_map(|setup| setup.run.iter().flatten()) {
        code::update(&mut hash, fill(word, &anywhere)?.as_bytes());
    }
    let key = format!("{name}-{}", &code::hex(hash)[..DIGITS]);
    let mut ready = Ready {
        description: description.clone(),
        values,
        key,
    };
    let runtime = ready.set_up(setup, cache, progress).await?;
    ready.values.insert("runtime".to_owned(), runtime);
    Ok(ready)
}

impl Ready {
    /// Makes the runtime's own directory, if it has one, or finds it in the cache.
    async fn set_up(
        &self,
        setup: Option<&Setup>,
        cache: &Cache,
        progress: &Progress,
    ) -> Result<Option<String>> {
        let files = &self.description.files;
        if setup.is_none() && files.is_empty() {
            return Ok(None);
        }
        let build = async |place: &Path| {
            for (name, content) in files {
                let path = place.join(name);
                fs::write(&path, content)?;
                let mode = if content.starts_with(b"#!") {
                    0o755
                } else {
                    0o644
                };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            }
            let Some(setup) = setup else {
                return Ok(());
            };
            let values = steps::with(&self.values, [("out", place)])?;
            self.say(self.description.name.as_str(), &setup.say, progress)?;
            steps::run(&setup.run, &values, place).await
        };
        let mut place = cache.entry(SET_UP, &self.key, build).await?;
        if let Some(check) = setup.map(|setup| &setup.check)
            && !self.works(check, &place).await?
        {
            // A tool was upgraded or moved since.
            cache.discard(SET_UP, &self.key).await?;
            place = cache.entry(SET_UP, &self.key, build).await?;
        }
        text(place).map(Some)
    }

    async fn works(&self, check: &[String], place: &Path) -> Result<bool> {
        let values = steps::with(&self.values, [("runtime", place)])?;
        let words = steps::filled(check, &values)?;
        let Some((program, arguments)) = words.split_first() else {
            return Ok(true);
        };
        let answer = tool::output(tokio::process::Command::new(program).args(arguments)).await;
        Ok(answer.is_ok_and(|answer| answer.status.success()))
    }

    /// Installs the function's libraries and builds its code. `watched` gets the directories outside of
    /// the code where a change is a change of them, before anything can fail.
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
            bail!("spec.code.path: the directory's name must not hold a `:`");
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

    /// How what was made is started on this machine.
    ///
    /// # Errors
    /// If the description leaves a placeholder without a value.
    pub(crate) fn start(&self, made: &Made) -> Result<Started> {
        let (command, environment) = self.description.local.start.fill(&made.values)?;
        Ok(Started {
            command,
            environment,
        })
    }

    /// Where the runtime's own language lies: on the original platform the search path begins there, so that
    /// a program that a function starts by name is of the same version.
    pub(crate) fn languages(&self) -> impl Iterator<Item = &Path> {
        let tools = self.description.local.tools.iter();
        let versioned = tools.filter(|tool| tool.version.is_some());
        versioned.filter_map(|tool| Path::new(self.values.get(&tool.name)?.as_ref()?).parent())
    }

    /// The variables that bound its heap.
    pub(crate) fn heap(&self) -> &BTreeMap<String, HeapLimit> {
        &self.description.heap
    }

    /// What an archive of the function holds besides its code.
    pub(crate) fn package(&self) -> &Package {
        &self.description.package
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
        // A link too that leads to nothing here, as one to a layer's packages.
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
            code::update(&mut hash, name.as_bytes());
            code::update(&mut hash, &content);
        }
        code::update(&mut hash, self.key.as_bytes());
        let install = async |place: &Path| {
            self.say(parts.function, &libraries.say, progress)?;
            let values = steps::with(values, [("out", place)])?;
            // The code's directory is where the paths in the files begin.
            steps::run(&libraries.run, &values, parts.code).await
        };
        let made = cache.entry(LIBRARIES, &code::hex(hash), install).await;
        let made = made.with_context(|| parts.code.join(first).display().to_string())?;
        Ok(Some(made))
    }

    /// Installs what a list names, from copies of all that it refers to.
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
        code::update(&mut hash, self.key.as_bytes());
        for word in run.iter().flatten() {
            code::update(&mut hash, word.as_bytes());
        }
        let key = code::hex(hash);
        let mut values = values.clone();
        values.insert("list".to_owned(), Some(inputs.list.clone()));
        for (name, value) in &inputs.values {
            values.insert((*name).to_owned(), Some(value.clone()));
        }
        let install = async |place: &Path| {
            let said = fill(say, &values)?;
            progress.say(&format!("{}: {said}", parts.function));
            // By the same name each time: pip notes where a library came from.
            let (root, name) = (cache.scratch(""), format!(".mirror-{}", &key[..DIGITS]));
            // Left by one that was killed; the entry's lock is held.
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
            code::update(&mut hash, part.as_bytes());
        }
        // The same wherever it will lie, and for the handler that it is built for.
        let anywhere = steps::with(values, [("out", Path::new(""))])?;
        for word in build.run.iter().flatten() {
            code::update(&mut hash, fill(word, &anywhere)?.as_bytes());
        }
        let make = async |place: &Path| {
            self.say(parts.function, &build.say, progress)?;
            let values = steps::with(values, [("out", place)])?;
            steps::run(&build.run, &values, parts.code).await?;
            Ok(tree::relink(parts.code, place)?)
        };
        let built = cache.entry(BUILDS, &code::hex(hash), make).await;
        built.context("spec.code").map(Some)
    }

    fn say(&self, whose: &str, what: &str, progress: &Progress) -> Result<()> {
        progress.say(&format!("{whose}: {}", fill(what, &self.values)?));
        Ok(())
    }
}

/// The names in a directory; none if it is not there.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}

/// As npm's packages name it.
fn arch() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "x64"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A language whose set-up, libraries and builds note how often each was made.
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
    async fn each_step_is_done_when_what_it_depends_on_has_changed() {
        let fixture = Fixture::new();
        fixture.write("libs", "lib\n");
        let (tiny, plain) = fixture.made().await.expect("made");
        assert_eq!(plain.task_root, fixture.code, "nothing to build");
        let plain = tiny.start(&plain).expect("started");
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
    async fn a_build_that_fails_says_so_with_the_field() {
        let fixture = Fixture::new();
        fixture.write("a.src", "one");
        let error = fixture.made().await.expect_err("no libraries to read");
        let text = format!("{error:#}");
        assert!(text.starts_with("spec.code: `sh -c cat"), "{text}");
    }

    #[tokio::test]
    async fn a_directory_that_no_search_path_can_hold_is_refused() {
        let mut fixture = Fixture::new();
        fixture.code = fixture.root.path().join("a:b");
        fs::create_dir(&fixture.code).expect("made");
        let error = fixture.made().await.expect_err("a colon");
        assert!(error.to_string().contains("must not hold a `:`"), "{error}");
    }
}
