//! The code of functions as a gateway keeps it for its instances: what `claim` sends.
//!
//! Owns a directory of tars, each named by the SHA-256 of the archive that it comes from: fetched
//! and verified once, however many instances wait for it. Inline code is packed as it is needed.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use bytes::Bytes;
use pilotlight_api::{Archive, Code};
use tokio::sync::OnceCell;

/// Where names of a tar begin: the images' code directory.
const TASK: &str = "var/task";

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
    tars: Arc<Mutex<HashMap<String, Arc<OnceCell<PathBuf>>>>>,
}

impl Codes {
    pub(crate) fn new(root: PathBuf) -> Self {
        let tars = Arc::default();
        Codes { root, tars }
    }

    /// A function's code, fetched if it is not there; `None` if its pods are made with it.
    ///
    /// # Errors
    /// For a person, with the manifest's field. The next call tries again.
    pub(crate) async fn of(&self, code: &Code) -> Result<Option<Tar>, Arc<str>> {
        match code {
            Code::Archive(archive) => Ok(Some(Tar::File(self.get(archive).await?))),
            Code::Inline(files) => {
                let texts = files.iter().map(|(name, text)| (name.as_str(), text));
                let packed = pilotlight_archive::pack_texts(texts, TASK);
                let packed = packed.map_err(|error| Arc::from(format!("spec.code: {error}")))?;
                Ok(Some(Tar::Held(packed.into())))
            }
            Code::ConfigMap(_) | Code::Image(_) | Code::Path(_) => Ok(None),
        }
    }

    async fn get(&self, archive: &Archive) -> Result<PathBuf, Arc<str>> {
        let sha256 = archive.sha256.as_str().to_owned();
        let cell = {
            let mut tars = self.tars.lock().unwrap_or_else(PoisonError::into_inner);
            tars.entry(sha256.clone()).or_default().clone()
        };
        let fetch = async || {
            let (root, url) = (self.root.clone(), archive.url.as_str().to_owned());
            let fetched = tokio::task::spawn_blocking(move || fetch(&root, &url, &sha256)).await;
            fetched
                .context("the fetch was given up")
                .flatten()
                .context("spec.code.archive")
                .map_err(|error| Arc::from(format!("{error:#}")))
        };
        cell.get_or_try_init(fetch).await.cloned()
    }

    /// Removes all others.
    pub(crate) fn keep(&self, wanted: &HashSet<&str>) {
        let mut tars = self.tars.lock().unwrap_or_else(PoisonError::into_inner);
        let unwanted = tars.extract_if(|sha256, _| !wanted.contains(sha256.as_str()));
        for (_, tar) in unwanted {
            if let Some(path) = tar.get()
                && let Err(error) = fs::remove_file(path)
            {
                tracing::warn!(path = %path.display(), %error, "old code is left");
            }
        }
    }
}

fn fetch(root: &Path, url: &str, sha256: &str) -> anyhow::Result<PathBuf> {
    let path = root.join(format!("{sha256}.tar"));
    if path.is_file() {
        // Of this gateway before it was restarted.
        return Ok(path);
    }
    let no_room = || format!("the gateway's cache {} cannot be written", root.display());
    fs::create_dir_all(root).with_context(no_room)?;
    let archive = pilotlight_archive::fetch(url, sha256, root)?;
    let unpacked = tempfile::tempdir_in(root).with_context(no_room)?;
    pilotlight_archive::unpack(archive, unpacked.path())?;
    let packed = tempfile::NamedTempFile::new_in(root).with_context(no_room)?;
    let file: File = packed.reopen().with_context(no_room)?;
    pilotlight_archive::pack(unpacked.path(), TASK, file).with_context(no_room)?;
    packed.persist(&path).with_context(no_room)?;
    Ok(path)
}
