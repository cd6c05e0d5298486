//! From manifests to deployments: code, runtime and environment of each function.
//!
//! Fed by `manifests`, at the start and after each change. The gateway takes the deployments, and `package` takes
//! the results for each function's code. A function that cannot be prepared does not stop the others. Everything
//! that outlives a run is in the `cache`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow, bail};
use jiff::Timestamp;
use pilotlight_api::{Code, FunctionSpec, Manifest};
use pilotlight_core::function::{Handler, Runtime};
use pilotlight_core::ids::{Namespace, PoolId};
use pilotlight_core::instance::launch::Launch;
use pilotlight_gateway::{Deployment, Source};
use pilotlight_runtimes::{IMAGE_TASK_ROOT, RuntimeDescription, Runtimes};
use sha2::{Digest, Sha256};

use super::advice;
use super::cache::Cache;
use super::code;
use super::hash;
use super::layers;
use super::make::{Made, Parts};
use super::print::{self, Progress};
use super::relocate;
use super::runtime::{self, Ready};
use super::tree;
use super::utf8::text;

/// The result of preparing a set of manifests.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) deployments: Vec<Deployment>,
    /// The functions that could not be prepared, each with the reason.
    pub(crate) failures: Vec<(Manifest, anyhow::Error)>,
    /// Directories in which a change may change a function's code.
    pub(crate) directories: BTreeSet<PathBuf>,
}

/// Prepares functions, and remembers the runtimes it has prepared.
#[derive(Debug)]
pub(crate) struct Preparer {
    runtimes: Runtimes,
    cache: Cache,
    /// The machine's `PATH`.
    search_path: OsString,
    ready: HashMap<Runtime, Ready>,
    /// Advice that was printed, by function: each sentence is printed once.
    advised: BTreeSet<(String, String)>,
    /// Runtimes that failed, and why. Each is tried once for all its functions, since a failure may take long.
    broken: HashMap<Runtime, String>,
}

/// A function whose code can run.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) code: code::Prepared,
    pub(crate) ready: Ready,
    pub(crate) made: Made,
    handler: Handler,
    /// The folder of its layers, if it has any.
    opt: Option<PathBuf>,
}

impl Preparer {
    pub(crate) fn new(runtimes: Runtimes, cache: Cache, search_path: OsString) -> Self {
        Self {
            runtimes,
            cache,
            search_path,
            ready: HashMap::new(),
            advised: BTreeSet::new(),
            broken: HashMap::new(),
        }
    }

    pub(crate) fn runtimes(&self) -> &Runtimes {
        &self.runtimes
    }

    pub(crate) async fn prepare(
        &mut self,
        manifests: Vec<Manifest>,
        progress: &Progress,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        self.broken.clear();
        for manifest in manifests {
            progress.at(manifest.function.metadata.name.as_str());
            let directories = &mut outcome.directories;
            match self.deployment(&manifest, progress, directories).await {
                Ok(deployment) => outcome.deployments.push(deployment),
                Err(error) => outcome.failures.push((manifest, error)),
            }
        }
        progress.done();
        outcome
    }

    async fn deployment(
        &mut self,
        manifest: &Manifest,
        progress: &Progress,
        directories: &mut BTreeSet<PathBuf>,
    ) -> Result<Deployment> {
        if !manifest.function.spec.environment_from.is_empty() {
            bail!(
                "spec.environmentFrom: secrets and config maps need a cluster; use `environment` here"
            );
        }
        let Prepared {
            code,
            handler,
            opt,
            ready,
            made,
        } = self.function(manifest, progress, directories).await?;
        if let Some(advice) = &made.advice {
            let function = &manifest.function.metadata.name;
            print::note(&format!("warning: {function}: {advice}"));
        }
        let started = made.start(&ready)?;
        let command = self.absolute(started.command);
        let mut environment = self.shared(&made.task_root, opt.as_deref(), &ready)?;
        environment.extend(started.environment);
        let own = &manifest.function.spec.environment;
        let mut places = vec![(IMAGE_TASK_ROOT, text(&made.task_root)?)];
        if let Some(opt) = &opt {
            places.push(("/opt", text(opt)?));
        }
        let relocated = relocate::relocated(own, &places);

        let revision = revision(manifest, &code.tree.sha256, &command, &environment)?;
        Ok(Deployment {
            pool: PoolId::latest(Namespace::local(), manifest.function.metadata.name.clone()),
            spec: FunctionSpec {
                handler: Some(handler.clone()),
                ..manifest.function.spec.clone()
            },
            revision: revision.into(),
            code_sha256: code.tree.sha256,
            code_size: code.tree.size,
            modified: modified(&manifest.file, code.tree.modified),
            source: Source::Local(Launch {
                command,
                handler,
                task_root: made.task_root,
                environment,
                heap: ready.heap().clone(),
                relocated,
            }),
        })
    }

    /// Fetches the function's code, installs its libraries and builds it. `directories` gets the directories in which a
    /// change may change any of this, also if something fails.
    ///
    /// # Errors
    /// Name the field of the manifest.
    pub(crate) async fn function(
        &mut self,
        manifest: &Manifest,
        progress: &Progress,
        directories: &mut BTreeSet<PathBuf>,
    ) -> Result<Prepared> {
        let code = code::prepare(manifest, &self.cache).await?;
        if code.is_live {
            directories.extend(code.tree.directories.iter().cloned());
        }
        let spec = &manifest.function.spec;
        let runtime = self.runtimes.get(&spec.runtime);
        let runtime = runtime
            .expect("`manifests` lets only known runtimes through")
            .clone();
        let handler = spec.handler.clone();
        let handler = handler.unwrap_or_else(|| runtime.default_handler.clone());
        self.advise(manifest, &code, &handler);
        let opt = layers::unpacked(&spec.layers, &self.cache).await?;
        let parts = Parts {
            function: manifest.function.metadata.name.as_str(),
            code: &code.directory,
            sha256: &code.tree.sha256,
            handler: &handler,
            opt: opt.as_deref(),
        };
        let ready = self.ready(&runtime, progress).await?;
        let made = ready.make(parts, &self.cache, progress, directories);
        let made = made.await?;
        let name = manifest.function.metadata.name.as_str();
        self.warn(name, made.warnings.clone());
        Ok(Prepared {
            code,
            handler,
            opt,
            ready,
            made,
        })
    }

    fn advise(&mut self, manifest: &Manifest, code: &code::Prepared, handler: &Handler) {
        let name = manifest.function.metadata.name.as_str();
        let is_archive = matches!(manifest.function.spec.code, Code::Archive(_));
        let layout = advice::on_layout(&code.directory, handler).filter(|_| is_archive);
        let sentences = advice::on_scripts(&code.directory);
        self.warn(name, sentences.into_iter().chain(layout));
    }

    /// Prints each sentence once, however often the code is prepared.
    fn warn(&mut self, name: &str, sentences: impl IntoIterator<Item = String>) {
        for sentence in sentences {
            if self.advised.insert((name.to_owned(), sentence.clone())) {
                print::note(&format!("warning: {name}: {sentence}"));
            }
        }
    }

    async fn ready(
        &mut self,
        runtime: &Arc<RuntimeDescription>,
        progress: &Progress,
    ) -> Result<Ready> {
        if let Some(ready) = self.ready.get(&runtime.name) {
            return Ok(ready.clone());
        }
        if let Some(reason) = self.broken.get(&runtime.name) {
            return Err(anyhow!("{reason}"));
        }
        match runtime::ready(runtime, &self.search_path, &self.cache, progress).await {
            Ok(ready) => {
                self.ready.insert(runtime.name.clone(), ready.clone());
                Ok(ready)
            }
            Err(error) => {
                let reason = format!("{error:#}");
                self.broken.insert(runtime.name.clone(), reason);
                Err(error)
            }
        }
    }

    /// The command with the absolute path of its program, since the function's `PATH` may not contain it.
    fn absolute(&self, mut command: Vec<String>) -> Vec<String> {
        if let Some(program) = command.first_mut()
            && !program.contains('/')
        {
            let folders = std::env::split_paths(&self.search_path);
            let mut candidates = folders.map(|folder| folder.join(&program));
            let is_program =
                |file: &PathBuf| fs::metadata(file).is_ok_and(|found| tree::is_executable(&found));
            let found = candidates.find(is_program);
            if let Some(found) = found.and_then(|found| text(found).ok()) {
                *program = found;
            }
        }
        command
    }

    /// The variables of every runtime (contract §2), with this machine's paths instead of the image's.
    fn shared(
        &self,
        code: &Path,
        opt: Option<&Path>,
        ready: &Ready,
    ) -> Result<BTreeMap<String, String>> {
        let (programs, layers) = (
            opt.map(|opt| opt.join("bin")),
            opt.map(|opt| opt.join("lib")),
        );
        let libraries = [code.to_owned(), code.join("lib")]
            .into_iter()
            .chain(layers);
        let libraries = libraries.filter(|directory| directory.is_dir());
        // A path with a `:` cannot be in a search path. Few functions load libraries from there, so none is set then.
        let libraries = std::env::join_paths(libraries).unwrap_or_default();
        let programs = programs.filter(|directory| directory.is_dir());
        let machine: Vec<_> = std::env::split_paths(&self.search_path).collect();
        let languages = ready.languages().map(Path::to_owned);
        // If the machine's PATH already has the language, its order stays.
        let languages: Vec<_> = languages.filter(|one| !machine.contains(one)).collect();
        let programs = languages.into_iter().chain(machine).chain(programs);
        let path = std::env::join_paths(programs).unwrap_or_else(|_| self.search_path.clone());
        let variables = [
            ("PATH", path),
            ("LD_LIBRARY_PATH", libraries),
            ("LANG", "en_US.UTF-8".into()),
            ("TZ", ":UTC".into()),
        ];
        let variables = variables.map(|(name, value)| Ok((name.to_owned(), text(value)?)));
        variables.into_iter().collect()
    }
}

/// A hash that changes whenever a new instance would behave differently from an old one.
fn revision(
    manifest: &Manifest,
    code_sha256: &str,
    command: &[String],
    environment: &BTreeMap<String, String>,
) -> Result<String> {
    let spec = serde_json::to_vec(&manifest.function.spec).context("spec")?;
    let mut hash = Sha256::new();
    hash::update(&mut hash, &spec);
    hash::update(&mut hash, code_sha256.as_bytes());
    for word in command {
        hash::update(&mut hash, word.as_bytes());
    }
    for (name, value) in environment {
        hash::update(&mut hash, name.as_bytes());
        hash::update(&mut hash, value.as_bytes());
    }
    Ok(hash::hex(hash))
}

fn modified(manifest: &Path, code: SystemTime) -> Timestamp {
    let manifest = manifest.metadata().and_then(|file| file.modified());
    let newest = manifest.map_or(code, |manifest| manifest.max(code));
    Timestamp::try_from(newest).unwrap_or(Timestamp::UNIX_EPOCH)
}
