//! Everything that decides which libraries are installed: files, folders and values.
//!
//! Filled by the readers of lists (`pyproject`, `package_json`, `gemfile`). Gives a hash of it all, the folders to
//! watch, and a mirror from which a tool installs. Runs no tool.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use sha2::Sha256;

use super::mirror;
use super::paths::{is_absent, relative};
use crate::local::hash;
use crate::local::tree::{self, Tree};

/// Everything that decides what is installed.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    /// The file that lists the libraries, for messages.
    pub(crate) list: String,
    /// Values for the placeholders of a description.
    pub(crate) values: BTreeMap<&'static str, String>,
    /// The directory where the tool runs: the code's, or the root of its workspace.
    pub(super) root: PathBuf,
    pub(super) code: PathBuf,
    /// The files by their original path, with the content that the tool gets.
    pub(super) files: BTreeMap<PathBuf, Vec<u8>>,
    /// Libraries in folders, whose whole content counts.
    pub(super) folders: BTreeSet<PathBuf>,
    /// The state of each of these folders. It is read only once, since that reads all their files.
    states: Vec<(PathBuf, io::Result<Tree>)>,
}

impl Inputs {
    pub(super) fn of(code: &Path, list: &str) -> Self {
        Self {
            list: list.to_owned(),
            root: code.to_owned(),
            code: code.to_owned(),
            ..Self::default()
        }
    }

    /// Reads the state of each folder, once all of them are known.
    pub(super) fn read_folders(&mut self) {
        let folders = self.folders.iter();
        let states = folders.map(|folder| (folder.clone(), tree::of_linked(folder)));
        self.states = states.collect();
    }

    /// # Errors
    /// If a folder cannot be read.
    pub(crate) fn hash(&self, hash: &mut Sha256) -> Result<()> {
        for (name, value) in &self.values {
            hash::update(hash, name.as_bytes());
            hash::update(hash, value.as_bytes());
        }
        for (path, content) in &self.files {
            let path = relative(&self.code, path);
            hash::update(hash, path.as_os_str().as_encoded_bytes());
            hash::update(hash, content);
        }
        for (folder, tree) in &self.states {
            let tree = tree.as_ref().map_err(|error| anyhow!("{error}"));
            let tree = tree.with_context(|| folder.display().to_string())?;
            let folder = relative(&self.code, folder);
            hash::update(hash, folder.as_os_str().as_encoded_bytes());
            hash::update(hash, tree.sha256.as_bytes());
        }
        Ok(())
    }

    /// The directories outside the code's where a change may change the libraries.
    pub(crate) fn directories(&self) -> BTreeSet<PathBuf> {
        let mut directories = BTreeSet::new();
        for parent in self.files.keys().filter_map(|file| file.parent()) {
            if !parent.starts_with(&self.code) && parent.is_dir() {
                directories.insert(parent.to_owned());
            }
        }
        let trees = self
            .states
            .iter()
            .filter_map(|(_, tree)| tree.as_ref().ok());
        directories.extend(trees.flat_map(|tree| tree.directories.iter().cloned()));
        directories
    }

    /// Copies everything below `place`, and returns the copies of the root and of the code's directory.
    ///
    /// # Errors
    /// If something cannot be read or written.
    pub(crate) fn mirror(&self, place: &Path, cache: &Path) -> Result<(PathBuf, PathBuf)> {
        for folder in &self.folders {
            let to = mirror::within(place, folder);
            mirror::folder(folder, &to, cache)
                .with_context(|| format!("{} cannot be copied", folder.display()))?;
        }
        for (path, content) in &self.files {
            mirror::file(content, &mirror::within(place, path))
                .with_context(|| format!("{} cannot be copied", path.display()))?;
        }
        let (root, code) = (
            mirror::within(place, &self.root),
            mirror::within(place, &self.code),
        );
        fs::create_dir_all(&code)?;
        Ok((root, code))
    }

    pub(super) fn file(&mut self, path: PathBuf, content: Vec<u8>) {
        self.files.insert(path, content);
    }

    /// Adds a file with its content; false if it does not exist.
    pub(super) fn file_if_there(&mut self, path: &Path) -> Result<bool> {
        let content = match fs::read(path) {
            Ok(content) => content,
            Err(error) if is_absent(&error) => return Ok(false),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        self.file(path.to_owned(), content);
        Ok(true)
    }

    /// Adds the file or folder with this path; false if there is none.
    pub(super) fn path(&mut self, path: &Path) -> Result<bool> {
        if path.is_dir() {
            self.folders.insert(path.to_owned());
            return Ok(true);
        }
        self.file_if_there(path)
    }
}
