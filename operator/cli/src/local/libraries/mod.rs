//! Everything that a function's list of libraries refers to.
//!
//! ```text
//! requirements ─┐
//! pyproject ────┼─► Inputs ─► a hash, the directories to watch, a mirror that a tool installs from
//! package_json ─┘                                                          └─ modules
//! ```
//!
//! Fed by `runtime` with a function's code. A file that a list names, a library in a folder, a lock: a
//! change of any is a change of the libraries. Tools get copies that lie to each other as the originals
//! do, so nothing is written beside a person's sources. Runs no tool itself.

mod gemfile;
mod globs;
mod manager;
mod mirror;
pub(super) mod modules;
mod package_json;
mod poetry;
mod pyproject;
mod requirements;
mod workspace;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use pilotlight_runtimes::Reads;
use sha2::Sha256;

use super::code;
use super::tree::{self, Tree};

/// All that decides what is installed.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    /// The file that lists the libraries, for messages.
    pub(crate) list: String,
    /// Values for the placeholders of a description.
    pub(crate) values: BTreeMap<&'static str, String>,
    /// The directory where the tool runs: the code's, or the root of its workspace.
    root: PathBuf,
    code: PathBuf,
    /// By place, as the tool gets them.
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// Libraries in folders: all that they hold counts.
    folders: BTreeSet<PathBuf>,
    /// The state of each of these folders, read once, as it takes a read of all files.
    states: Vec<(PathBuf, io::Result<Tree>)>,
}

/// Reads the list in the code's directory; `None` if it has none.
///
/// # Errors
/// Name the file and the line or field.
pub(crate) fn read(reads: Reads, code: &Path) -> Result<Option<Inputs>> {
    let inputs = match reads {
        Reads::Python => pyproject::read(code),
        Reads::Node => package_json::read(code),
        Reads::Ruby => gemfile::read(code),
    };
    let mut inputs = inputs?;
    if let Some(inputs) = &mut inputs {
        let folders = inputs.folders.iter();
        let states = folders.map(|folder| (folder.clone(), tree::of_linked(folder)));
        inputs.states = states.collect();
    }
    Ok(inputs)
}

impl Inputs {
    fn of(code: &Path, list: &str) -> Self {
        Self {
            list: list.to_owned(),
            root: code.to_owned(),
            code: code.to_owned(),
            ..Self::default()
        }
    }

    /// # Errors
    /// If a folder cannot be read.
    pub(crate) fn hash(&self, hash: &mut Sha256) -> Result<()> {
        for (name, value) in &self.values {
            code::update(hash, name.as_bytes());
            code::update(hash, value.as_bytes());
        }
        for (path, content) in &self.files {
            let path = relative(&self.code, path);
            code::update(hash, path.as_os_str().as_encoded_bytes());
            code::update(hash, content);
        }
        for (folder, tree) in &self.states {
            let tree = tree.as_ref().map_err(|error| anyhow!("{error}"));
            let tree = tree.with_context(|| folder.display().to_string())?;
            let folder = relative(&self.code, folder);
            code::update(hash, folder.as_os_str().as_encoded_bytes());
            code::update(hash, tree.sha256.as_bytes());
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

    /// Copies everything into `place`; says where the root and the code's directory are there.
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

    fn file(&mut self, path: PathBuf, content: Vec<u8>) {
        self.files.insert(path, content);
    }

    /// Adds a file as it is, if it is there.
    fn file_if_there(&mut self, path: &Path) -> Result<bool> {
        let content = match fs::read(path) {
            Ok(content) => content,
            Err(error) if is_absent(&error) => return Ok(false),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        self.file(path.to_owned(), content);
        Ok(true)
    }

    /// Adds what lies there, a file or a folder; whether anything does.
    fn path(&mut self, path: &Path) -> Result<bool> {
        if path.is_dir() {
            self.folders.insert(path.to_owned());
            return Ok(true);
        }
        self.file_if_there(path)
    }
}

fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | IsADirectory)
}

/// The text of a file; `None` if it is not there.
fn text(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// A path from a directory, by its text alone: `..` takes a name away.
fn lexical(base: &Path, path: &str) -> PathBuf {
    let mut result = PathBuf::new();
    for part in base.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                result.pop();
            }
            part => result.push(part),
        }
    }
    result
}

/// The way from one directory to a path, both absolute.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let (mut from, mut to) = (from.components().peekable(), to.components().peekable());
    while from.peek().is_some() && from.peek() == to.peek() {
        from.next();
        to.next();
    }
    let mut way: PathBuf = from.map(|_| Component::ParentDir).collect();
    way.extend(to);
    match way.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => way,
    }
}

/// The path in a `file:` URL or its like, `%20` and such decoded.
fn of_url(url: &str) -> String {
    let path = url.split(['#', '?']).next().unwrap_or(url);
    let path = path.strip_prefix("//localhost").unwrap_or(path);
    let path = match path.strip_prefix("///") {
        Some(path) => format!("/{path}"),
        None => path.to_owned(),
    };
    let mut decoded = Vec::new();
    let mut bytes = path.as_bytes().iter();
    while let Some(&byte) = bytes.next() {
        let pair = bytes.as_slice().get(..2).filter(|_| byte == b'%');
        let code = pair.and_then(|pair| std::str::from_utf8(pair).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                bytes.nth(1);
            }
            None => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_between_directories_are_found_by_their_text() {
        for (base, path, expected) in [
            ("/a/b", "../c/./d", "/a/c/d"),
            ("/a", "/x", "/x"),
            ("/a", ".", "/a"),
        ] {
            assert_eq!(lexical(Path::new(base), path), Path::new(expected));
        }
        for (from, to, way) in [
            ("/a/b", "/a/c/d", "../c/d"),
            ("/a", "/a", "."),
            ("/a", "/a/b", "b"),
        ] {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(way));
        }
    }

    #[test]
    fn a_file_url_is_a_path() {
        for (url, path) in [
            ("///abs/my%20lib", "/abs/my lib"),
            ("//localhost/abs", "/abs"),
            ("../shared#egg=shared", "../shared"),
            ("./a%zz", "./a%zz"),
        ] {
            assert_eq!(of_url(url), path);
        }
    }
}
