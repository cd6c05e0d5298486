//! The code of functions as a gateway keeps it for its instances: what `claim` sends.
//!
//! Owns a directory of tars, each named by the SHA-256 of the archive that it comes from: fetched
//! and verified once, however many instances wait for it, and functions that share a layer. Inline code
//! is packed as it is needed.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use bytes::Bytes;
use pilotlight_api::{Archive, Code, FunctionSpec};
use tokio::sync::OnceCell;

/// Where the names of a tar begin: the images' directory of code, or of layers.
const TASK: &str = "var/task";
const OPT: &str = "opt";

/// Code as a tar.
#[derive(Clone, Debug)]
pub(crate) enum Tar {
    /// In this file.
    File(PathBuf),
    Held(Bytes),
}

/// Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Codes {
    root: PathBuf,
    tars: Arc<Mutex<Tars>>,
}

/// By the names of their files.
type Tars = HashMap<String, Arc<OnceCell<PathBuf>>>;

impl Codes {
    pub(crate) fn new(root: PathBuf) -> Self {
        let tars = Arc::default();
        Codes { root, tars }
    }

    /// All that an instance of the function runs, fetched if it is not there: for one that was made
    /// for none.
    ///
    /// # Errors
    /// For a person, with the manifest's field. The next call tries again.
    pub(crate) async fn all_of(&self, spec: &FunctionSpec) -> Result<Vec<Tar>, Arc<str>> {
        let mut tars = self.brought_to(spec).await?;
        if let Code::Inline(files) = &spec.code {
            let texts = files.iter().map(|(name, text)| (name.as_str(), text));
            let packed = pilotlight_archive::pack_texts(texts, TASK);
            let packed = packed.map_err(|error| Arc::from(format!("spec.code: {error}")))?;
            tars.push(Tar::Held(packed.into()));
        }
        Ok(tars)
    }

    /// What a pod of the function's own is made without; errors are those of [`Codes::all_of`].
    pub(crate) async fn brought_to(&self, spec: &FunctionSpec) -> Result<Vec<Tar>, Arc<str>> {
        let mut tars = Vec::new();
        for (field, prefix, archive) in archives(spec) {
            tars.push(Tar::File(self.get(&field, prefix, archive).await?));
        }
        Ok(tars)
    }

    async fn get(
        &self,
        field: &str,
        prefix: &'static str,
        archive: &Archive,
    ) -> Result<PathBuf, Arc<str>> {
        let name = file_name(prefix, archive);
        let cell = {
            let mut tars = self.tars.lock().unwrap_or_else(PoisonError::into_inner);
            tars.entry(name.clone()).or_default().clone()
        };
        let fetch = async || {
            let (path, archive) = (self.root.join(name), archive.clone());
            let fetched = tokio::task::spawn_blocking(move || fetch(&path, prefix, &archive)).await;
            fetched
                .context("the fetch was given up")
                .flatten()
                .with_context(|| field.to_owned())
                .map_err(|error| Arc::from(format!("{error:#}")))
        };
        cell.get_or_try_init(fetch).await.cloned()
    }

    /// Removes all that none of these functions has.
    pub(crate) fn keep<'a>(&self, specs: impl Iterator<Item = &'a FunctionSpec>) {
        let wanted = specs.flat_map(archives);
        let wanted: HashSet<_> = wanted
            .map(|(_, prefix, archive)| file_name(prefix, archive))
            .collect();
        let mut tars = self.tars.lock().unwrap_or_else(PoisonError::into_inner);
        let unwanted = tars.extract_if(|name, _| !wanted.contains(name));
        for (_, tar) in unwanted {
            if let Some(path) = tar.get()
                && let Err(error) = fs::remove_file(path)
            {
                tracing::warn!(path = %path.display(), %error, "old code is left");
            }
        }
    }
}

/// Whether instances of the function wait for a gateway that brings them something.
pub(crate) fn are_brought(spec: &FunctionSpec) -> bool {
    archives(spec).next().is_some()
}

/// Each with its field and where its names begin, in the order in which they are unpacked: a later layer
/// lies over an earlier one.
fn archives(spec: &FunctionSpec) -> impl Iterator<Item = (String, &'static str, &Archive)> {
    let code = match &spec.code {
        Code::Archive(archive) => Some(("spec.code.archive".to_owned(), TASK, archive)),
        _ => None,
    };
    let layers = spec.layers.iter().enumerate();
    let layers = layers.map(|(place, layer)| (format!("spec.layers[{place}]"), OPT, layer));
    code.into_iter().chain(layers)
}

fn file_name(prefix: &str, archive: &Archive) -> String {
    let kind = prefix.rsplit('/').next().unwrap_or(prefix);
    format!("{}.{kind}.tar", archive.sha256.as_str())
}

fn fetch(path: &Path, prefix: &str, archive: &Archive) -> anyhow::Result<PathBuf> {
    if path.is_file() {
        // Of this gateway before it was restarted.
        return Ok(path.to_owned());
    }
    let root = path.parent().context("a file in a directory")?;
    let (url, sha256) = (archive.url.as_str(), archive.sha256.as_str());
    let no_room = || format!("the gateway's cache {} cannot be written", root.display());
    fs::create_dir_all(root).with_context(no_room)?;
    let archive = pilotlight_archive::fetch(url, sha256, root)?;
    let unpacked = tempfile::tempdir_in(root).with_context(no_room)?;
    pilotlight_archive::unpack(archive, unpacked.path())?;
    let packed = tempfile::NamedTempFile::new_in(root).with_context(no_room)?;
    let file: File = packed.reopen().with_context(no_room)?;
    pilotlight_archive::pack(unpacked.path(), prefix, file).with_context(no_room)?;
    packed.persist(path).with_context(no_room)?;
    Ok(path.to_owned())
}
