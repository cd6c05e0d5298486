//! The descriptions of all runtimes in `runtimes/`, read and checked.
//!
//! ```text
//! runtimes/NAME/runtime.toml ─ build.rs ─┐
//! a user's own folders ──────────────────┴─ description ─► Runtimes ─► local mode, controller
//! ```
//!
//! Local mode and the controller ask this crate how a runtime is started. It starts nothing itself, and
//! knows neither manifests nor the cluster; `template` fills in the placeholders.

mod description;
mod invalid;
mod known;
mod local;
mod package;
mod pattern;
mod start;
mod template;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use pilotlight_core::function::Runtime;

use crate::known::Lacking;

pub use description::{IMAGE_TASK_ROOT, RuntimeDescription, parse};
pub use invalid::InvalidDescription;
pub use local::{Build, Fetch, Libraries, Local, Reads, Setup, Tool};
pub use package::PackageLayout;
pub use start::Start;
pub use template::{Unknown, Values, fill, fill_path};

/// The name of a description in a runtime's folder.
const DESCRIPTION: &str = "runtime.toml";

/// By folder: each file's name and content.
type Folders = &'static [(&'static str, &'static [(&'static str, &'static [u8])])];
const BUILT_IN: Folders = include!(concat!(env!("OUT_DIR"), "/built_in.rs"));

/// The known runtimes, by name.
#[derive(Clone, Debug)]
pub struct Runtimes {
    by_name: BTreeMap<Runtime, Arc<RuntimeDescription>>,
}

/// Why a folder has no runtime that can be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: {source}")]
    Invalid {
        path: PathBuf,
        source: InvalidDescription,
    },
    #[error("{0}: neither a folder with a runtime.toml nor a NAME.toml is in it")]
    Nothing(PathBuf),
}

impl Runtimes {
    /// The project's own runtimes.
    pub fn built_in() -> Self {
        let mut runtimes = Self {
            by_name: BTreeMap::new(),
        };
        for (folder, files) in BUILT_IN {
            let files = files.iter();
            let files = files.map(|(name, content)| ((*name).to_owned(), content.to_vec()));
            let path = Path::new(folder);
            let added = runtimes.add(path, files.collect());
            added.expect("a test reads the built-in descriptions");
        }
        runtimes
    }

    /// The project's own runtimes and, if a folder is named, the user's.
    ///
    /// # Errors
    /// As those of [`Runtimes::add_folder`].
    pub fn with(folder: Option<&Path>) -> Result<Self, LoadError> {
        let mut runtimes = Self::built_in();
        if let Some(folder) = folder {
            runtimes.add_folder(folder)?;
        }
        Ok(runtimes)
    }

    /// Adds the user's own: each folder in `folder` with a `runtime.toml`, and each `NAME.toml`. A description
    /// of a known name replaces the one before.
    ///
    /// # Errors
    /// If there is none, or one that cannot be read.
    pub fn add_folder(&mut self, folder: &Path) -> Result<(), LoadError> {
        let mut found = false;
        for path in entries(folder)? {
            let files = if path.join(DESCRIPTION).is_file() {
                let files = entries(&path)?.into_iter().filter(|path| path.is_file());
                let read = |path: PathBuf| {
                    let name = path.file_name().unwrap_or_default();
                    Ok((name.to_string_lossy().into_owned(), read(&path)?))
                };
                files.map(read).collect::<Result<_, _>>()?
            } else if path.is_file() && path.extension().is_some_and(|end| end == "toml") {
                vec![(DESCRIPTION.to_owned(), read(&path)?)]
            } else {
                continue;
            };
            self.add(&path, files)?;
            found = true;
        }
        if found {
            Ok(())
        } else {
            Err(LoadError::Nothing(folder.to_owned()))
        }
    }

    fn add(&mut self, path: &Path, mut files: Vec<(String, Vec<u8>)>) -> Result<(), LoadError> {
        let Some(at) = files.iter().position(|(name, _)| name == DESCRIPTION) else {
            // Folders beside the runtimes may hold documentation.
            return Ok(());
        };
        let (_, text) = files.remove(at);
        let text = String::from_utf8(text).map_err(|error| LoadError::Read {
            path: path.to_owned(),
            source: io::Error::other(error),
        })?;
        let descriptions = parse(&text, &files).map_err(|source| LoadError::Invalid {
            path: path.to_owned(),
            source,
        })?;
        let named = descriptions
            .into_iter()
            .map(|one| (one.name.canonical(), Arc::new(one)));
        self.by_name.extend(named);
        Ok(())
    }

    /// The runtime with this name, in any of its spellings.
    pub fn get(&self, name: &Runtime) -> Option<&Arc<RuntimeDescription>> {
        self.by_name.get(&name.canonical())
    }

    /// All names.
    pub fn names(&self) -> String {
        self.list().join(", ")
    }

    fn list(&self) -> Vec<&str> {
        self.by_name.keys().map(Runtime::as_str).collect()
    }

    /// Why there is no description of that name, and what to do.
    pub fn lacking(&self, name: &Runtime) -> String {
        let known = self.list();
        match known::lacking(name.as_str(), name.canonical().as_str(), &known) {
            Lacking::Elsewhere(advice) => format!("nothing here runs {name}: {advice}"),
            Lacking::Retired(advice) => format!("{name} is a retired runtime: {advice}"),
            Lacking::Unknown { near } => {
                let near =
                    near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                format!("must be one of {}, got `{name}`{near}", known.join(", "))
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<RuntimeDescription>> {
        self.by_name.values()
    }
}

impl Default for Runtimes {
    fn default() -> Self {
        Self::built_in()
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let paths = fs::read_dir(folder).and_then(|entries| {
        let paths = entries.map(|entry| Ok(entry?.path()));
        paths.collect::<io::Result<Vec<_>>>()
    });
    let mut paths = paths.map_err(|source| LoadError::Read {
        path: folder.to_owned(),
        source,
    })?;
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    fs::read(path).map_err(|source| LoadError::Read {
        path: path.to_owned(),
        source,
    })
}
