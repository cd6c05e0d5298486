//! The gateway's cache of functions' code, which `claim` sends to supervisors.
//!
//! Owns a directory of archives, each named by its SHA-256, and of tars that were made from archives and are sealed with
//! their own. Pods of warm pools get tars, which are unpacked in less time. Pods that were made for one function get its
//! archives, whose digests they know from its author. The gateway fetches and verifies each once, however many instances
//! wait for it and however many functions share a layer; a tar is made of the archive in the cache if that is there. What
//! an instance refuses is looked at, and removed if it was damaged. Inline code is packed for each claim; `config_maps` has
//! that of config maps. Fed by `functions` with the deployed specs; never runs code.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::{fs, io};

use anyhow::Context;
use bytes::Bytes;
use pilotlight_api::{Archive, Code, FunctionSpec, TASK};
use pilotlight_archive::Fetcher;
use pilotlight_core::code_cache::CacheLimits;
use pilotlight_core::credentials::Credentials;
use pilotlight_core::instance::parts::Digest;
use pilotlight_core::reason::Reason;
use tokio::sync::{OwnedMutexGuard, Semaphore};

use super::allowed_secrets::AllowedSecrets;
use super::code_store::{ARCHIVE, Pinned, Reserved, Store, TAR};
use super::config_maps::ConfigMaps;
use super::sealed::{Sealed, Sealing};

/// A part of a function's code, as a claim brings it.
#[derive(Clone, Debug)]
pub(crate) struct CodePart {
    /// The field of the Function that it comes from.
    pub(crate) field: String,
    pub(crate) content: Content,
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// A sealed tar of the cache.
    Tar(Pinned),
    /// A tar in memory.
    Held(Bytes),
    /// An archive of the cache, and the digest that its author gives.
    Archive(Pinned, Digest),
}

/// In which form the cache has an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Archive,
    /// A tar of its content.
    Tar,
}

/// The cache. Cheap to clone; all clones are the same cache.
#[derive(Clone, Debug)]
pub(crate) struct Codes {
    store: Store,
    /// Where archives may come from.
    fetcher: Arc<Fetcher>,
    secrets: AllowedSecrets,
    maps: ConfigMaps,
    /// Each fetch holds a permit.
    fetches: Arc<Semaphore>,
    /// By the names of their files.
    fetching: Arc<Mutex<HashMap<String, Weak<Turn>>>>,
}

/// A task that holds it may fetch the file.
type Turn = tokio::sync::Mutex<()>;

impl Codes {
    pub(crate) fn new(
        root: PathBuf,
        limits: CacheLimits,
        fetcher: Fetcher,
        (secrets, maps): (AllowedSecrets, ConfigMaps),
    ) -> Self {
        Codes {
            store: Store::open(root, limits),
            fetcher: Arc::new(fetcher),
            secrets,
            maps,
            fetches: Arc::new(Semaphore::new(limits.fetches)),
            fetching: Arc::default(),
        }
    }

    /// Whether a claim can bring the function's code, except that an archive may have to be fetched.
    pub(crate) fn can_bring(&self, spec: &FunctionSpec) -> bool {
        match &spec.code {
            Code::ConfigMap(name) => self.maps.get(name.as_str()).is_some(),
            Code::Inline(_) | Code::Archive(_) => true,
            Code::Image(_) | Code::Path(_) => false,
        }
    }

    /// The whole code of the function, for an instance of a warm pool. Archives that are not in the cache are
    /// fetched.
    ///
    /// # Errors
    /// The reason for a person, with the field of the manifest. The next call retries.
    pub(crate) async fn all_of(&self, spec: &FunctionSpec) -> Result<Vec<CodePart>, Reason> {
        let mut parts = self.brought_to(spec, Form::Tar).await?;
        let (field, held) = match &spec.code {
            Code::Inline(files) => {
                let texts = files.iter().map(|(name, text)| (name.as_str(), text));
                let packed = pilotlight_archive::pack_texts(texts, TASK);
                let packed = packed.map_err(|error| Reason::from(format!("spec.code: {error}")))?;
                ("spec.code.inline", packed.into())
            }
            Code::ConfigMap(name) => {
                let field = "spec.code.configMap";
                let known = self.maps.get(name.as_str());
                let lacks = || format!("{field}: the gateway knows no ConfigMap {}", name.as_str());
                (field, known.ok_or_else(|| Reason::from(lacks()))?)
            }
            Code::Archive(_) | Code::Image(_) | Code::Path(_) => return Ok(parts),
        };
        parts.push(CodePart {
            field: field.to_owned(),
            content: Content::Held(held),
        });
        Ok(parts)
    }

    /// The code that the function's own pods lack when they start: its archive and its layers. The errors are
    /// those of [`Codes::all_of`].
    pub(crate) async fn brought_to(
        &self,
        spec: &FunctionSpec,
        form: Form,
    ) -> Result<Vec<CodePart>, Reason> {
        let mut parts = Vec::new();
        for (field, folder, archive) in spec.placed_archives() {
            let pinned = self.get(&field, form, folder, archive).await?;
            let content = match form {
                Form::Archive => Content::Archive(pinned, archive.digest()),
                Form::Tar => Content::Tar(pinned),
            };
            parts.push(CodePart { field, content });
        }
        Ok(parts)
    }

    /// Removes those of the parts that are damaged, so that the next start fetches them again. Call it when an instance
    /// has refused them. A part that is being sent to another instance stays until that one has refused it too.
    pub(crate) async fn recheck(&self, parts: Vec<CodePart>) {
        let store = self.store.clone();
        let checking = tokio::task::spawn_blocking(move || {
            for CodePart { field, content } in parts {
                let (pinned, opened) = match content {
                    Content::Held(_) => continue,
                    Content::Tar(pinned) => {
                        let opened = Sealed::open(pinned.path());
                        (pinned, opened)
                    }
                    Content::Archive(pinned, sha256) => {
                        let opened = Sealed::named(pinned.path(), sha256);
                        (pinned, opened)
                    }
                };
                if opened.is_ok_and(|file| file.is_intact().unwrap_or(false)) {
                    continue;
                }
                tracing::warn!(field, path = %pinned.path().display(), "code in the cache is damaged, and is removed");
                let name = pinned.name().to_owned();
                drop(pinned);
                store.retain(|other| other != name);
            }
        });
        if let Err(error) = checking.await {
            tracing::warn!(%error, "the cache of code could not be checked");
        }
    }

    async fn get(
        &self,
        field: &str,
        form: Form,
        folder: &'static str,
        archive: &Archive,
    ) -> Result<Pinned, Reason> {
        let name = file_name(form, folder, archive);
        if let Some(found) = self.store.pin(&name) {
            return Ok(found);
        }
        let turn = self.turn(&name).await;
        // The task that had the turn before has fetched it, unless that failed.
        if let Some(found) = self.store.pin(&name) {
            return Ok(found);
        }
        let permit = self.fetches.clone().acquire_owned().await;
        let credentials = match &archive.secret_ref {
            Some(secret) => {
                let read = self.credentials(secret.name.as_str()).await;
                Some(read.map_err(|error| Reason::from(format!("{field}.secretRef: {error:#}")))?)
            }
            None => None,
        };
        let (store, archive, fetcher) = (self.store.clone(), archive.clone(), self.fetcher.clone());
        let fetching = tokio::task::spawn_blocking(move || {
            // Until the fetch ends, even if nobody waits for it any more.
            let _held = (turn, permit);
            let reserved = store.reserve(&name)?;
            fetch(
                &store,
                reserved,
                (form, folder),
                &archive,
                &fetcher,
                credentials.as_ref(),
            )
        });
        let fetched = fetching.await;
        fetched
            .context("the fetch was cancelled")
            .flatten()
            .with_context(|| field.to_owned())
            .map_err(|error| Reason::from(format!("{error:#}")))
    }

    async fn credentials(&self, secret: &str) -> anyhow::Result<Credentials> {
        let data = self.secrets.read(secret).await?;
        Credentials::read(&data).with_context(|| format!("the Secret {secret}"))
    }

    /// Waits until nobody else fetches this file.
    async fn turn(&self, name: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
            fetching.retain(|_, turn| turn.strong_count() > 0);
            let known = fetching.get(name).and_then(Weak::upgrade);
            let turn = known.unwrap_or_default();
            fetching.insert(name.to_owned(), Arc::downgrade(&turn));
            turn
        };
        turn.lock_owned().await
    }

    /// Removes the archives that none of these functions uses, and follows the config maps that they name.
    pub(crate) fn keep<'a>(&self, specs: impl Iterator<Item = &'a FunctionSpec> + Clone) {
        self.maps.keep(specs.clone());
        let wanted = specs.flat_map(FunctionSpec::placed_archives);
        let wanted: HashSet<_> = wanted
            .flat_map(|(_, folder, archive)| {
                [Form::Archive, Form::Tar].map(|form| file_name(form, folder, archive))
            })
            .collect();
        self.store.retain(|name| wanted.contains(name));
    }
}

/// Whether the function's own pods wait for a gateway that sends them code.
pub(crate) fn are_brought(spec: &FunctionSpec) -> bool {
    spec.archives().next().is_some()
}

fn file_name(form: Form, folder: &str, archive: &Archive) -> String {
    let sha256 = archive.sha256.as_str();
    match form {
        Form::Archive => format!("{sha256}{ARCHIVE}"),
        Form::Tar => {
            let kind = folder.rsplit('/').next().unwrap_or(folder);
            format!("{sha256}.{kind}{TAR}")
        }
    }
}

fn fetch(
    store: &Store,
    reserved: Reserved,
    (form, folder): (Form, &str),
    archive: &Archive,
    fetcher: &Fetcher,
    credentials: Option<&Credentials>,
) -> anyhow::Result<Pinned> {
    let root = store.root();
    let (url, sha256) = (archive.url.as_str(), archive.sha256.as_str());
    let no_room = || format!("the gateway's cache {} cannot be written", root.display());
    fs::create_dir_all(root).with_context(no_room)?;
    let cached = match form {
        Form::Tar => cached(store, archive),
        Form::Archive => None,
    };
    let mut archive = match cached {
        Some(file) => file,
        None => fetcher.fetch(url, sha256, root, credentials)?,
    };
    let kept = store.file().with_context(no_room)?;
    let mut file = kept.reopen().with_context(no_room)?;
    match form {
        Form::Archive => {
            io::copy(&mut archive, &mut file).with_context(no_room)?;
        }
        Form::Tar => {
            let unpacked = store.directory().with_context(no_room)?;
            pilotlight_archive::unpack(archive, unpacked.path())?;
            let sealing = pilotlight_archive::pack(unpacked.path(), folder, Sealing::new(file));
            let sealed = sealing.and_then(|sealing| Ok(sealing.seal()?));
            sealed.with_context(no_room)?;
        }
    }
    reserved.store(kept).with_context(no_room)
}

/// The archive itself, if the cache has it, for a tar of it. It is read once more, because the tar's seal would hide damage.
fn cached(store: &Store, archive: &Archive) -> Option<fs::File> {
    let pinned = store.pin(&file_name(Form::Archive, "", archive))?;
    let kept = Sealed::named(pinned.path(), archive.digest()).ok()?;
    let is_intact = kept.is_intact().unwrap_or(false);
    is_intact.then(|| fs::File::open(pinned.path()).ok())?
}

#[cfg(test)]
mod tests;
