//! The files of the cache of code. `core::code_cache` decides which of them stay.
//!
//! `codes` fetches into it and sends from it. A file is never removed while a [`Pinned`] of it exists, and a fetch
//! writes nothing before its [`Reserved`] exists.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

#[cfg(test)]
use pilotlight_core::code_cache::VOLUME_MIN;
use pilotlight_core::code_cache::{CacheLimits, CodeCache, NoRoom};
use tempfile::NamedTempFile;

/// How the names of files begin that no process needs after its end: those of fetches, and removed ones.
const LEFTOVER: &str = ".pilotlight-";
/// How the names of archives end, and those of tars that were made from them.
pub(super) const ARCHIVE: &str = ".archive";
pub(super) const TAR: &str = ".tar";

/// Cheap to clone; all clones are the same store.
#[derive(Clone, Debug)]
pub(super) struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    cache: CodeCache,
    /// Numbers the removed files.
    removed: u64,
}

impl Store {
    /// Takes over the files that an earlier gateway left in this directory, which need not exist yet.
    pub(super) fn open(root: PathBuf, limits: CacheLimits) -> Self {
        let cache = CodeCache::new(limits);
        let state = Mutex::new(State { cache, removed: 0 });
        let store = Store(Arc::new(Inner { root, state }));
        for (name, bytes) in store.left_behind() {
            store.change(|cache| cache.found(name, bytes));
        }
        store
    }

    pub(super) fn root(&self) -> &Path {
        &self.0.root
    }

    /// A directory for the files of a fetch, which goes when it is dropped.
    pub(super) fn directory(&self) -> io::Result<tempfile::TempDir> {
        let prefix = tempfile::Builder::new().prefix(LEFTOVER).to_owned();
        prefix.tempdir_in(&self.0.root)
    }

    /// A file for a fetch, which goes when it is dropped.
    pub(super) fn file(&self) -> io::Result<NamedTempFile> {
        let prefix = tempfile::Builder::new().prefix(LEFTOVER).to_owned();
        prefix.tempfile_in(&self.0.root)
    }

    /// The file of this name, if it is there.
    pub(super) fn pin(&self, name: &str) -> Option<Pinned> {
        self.state().cache.pin(name).then(|| self.pinned(name))
    }

    /// Room for the fetch of this file. Removes other files for it.
    pub(super) fn reserve(&self, name: &str) -> Result<Reserved, NoRoom> {
        let mut refused = None;
        self.change(|cache| {
            cache.reserve(name.to_owned()).unwrap_or_else(|error| {
                refused = Some(error);
                Vec::new()
            })
        });
        match refused {
            Some(error) => Err(error),
            None => Ok(Reserved {
                store: self.clone(),
                name: name.to_owned(),
            }),
        }
    }

    /// Removes the files that nobody wants and nobody uses.
    pub(super) fn retain(&self, is_wanted: impl Fn(&str) -> bool) {
        self.change(|cache| cache.retain(is_wanted));
    }

    fn pinned(&self, name: &str) -> Pinned {
        Pinned {
            path: self.0.root.join(name),
            pin: Arc::new(Pin {
                store: self.clone(),
                name: name.to_owned(),
            }),
        }
    }

    /// Removes what the change returns. A file gets another name while nobody else can fetch it again, so that the
    /// removal, which takes longer, meets the old file alone.
    fn change(&self, change: impl FnOnce(&mut CodeCache) -> Vec<String>) {
        let mut state = self.state();
        let names = change(&mut state.cache);
        let mut removed = Vec::new();
        for name in names {
            state.removed += 1;
            let path = self.0.root.join(format!("{LEFTOVER}{}", state.removed));
            match fs::rename(self.0.root.join(&name), &path) {
                Ok(()) => removed.push(path),
                Err(error) => tracing::warn!(name, %error, "code cannot be removed from the cache"),
            }
        }
        drop(state);
        for path in removed {
            remove(&path);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names and sizes of the archives and tars in the directory, the oldest first. Removes what fetches left.
    fn left_behind(&self) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        // Without the directory there is nothing to take over.
        let entries = fs::read_dir(&self.0.root).into_iter().flatten();
        for entry in entries.filter_map(Result::ok) {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with(LEFTOVER) {
                remove(&entry.path());
            } else if (name.ends_with(ARCHIVE) || name.ends_with(TAR))
                && let Ok(metadata) = entry.metadata()
            {
                let written = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push((written, name, metadata.len()));
            }
        }
        found.sort();
        let found = found.into_iter();
        found.map(|(_, name, bytes)| (name, bytes)).collect()
    }
}

fn remove(path: &Path) {
    let removed = match path.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    if let Err(error) = removed {
        tracing::warn!(path = %path.display(), %error, "a file cannot be removed from the cache of code");
    }
}

/// A file of the cache that stays while this or a clone exists.
#[derive(Clone, Debug)]
pub(crate) struct Pinned {
    path: PathBuf,
    pin: Arc<Pin>,
}

impl Pinned {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn name(&self) -> &str {
        &self.pin.name
    }

    /// The only file of a cache.
    #[cfg(test)]
    pub(crate) fn only(root: &Path, name: &str) -> Self {
        let store = Store::open(root.to_owned(), CacheLimits::of(VOLUME_MIN, 1));
        store.pin(name).expect("it is there")
    }
}

#[derive(Debug)]
struct Pin {
    store: Store,
    name: String,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.store.state().cache.unpin(&self.name);
    }
}

/// Room for a file that is being fetched. It is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    store: Store,
    name: String,
}

impl Reserved {
    /// Puts the file into the cache.
    pub(super) fn store(self, file: NamedTempFile) -> io::Result<Pinned> {
        let bytes = file.as_file().metadata()?.len();
        // The name is the fetch's alone until the cache knows the file.
        file.persist(self.store.0.root.join(&self.name))?;
        let name = self.name.clone();
        self.store.change(|cache| cache.fetched(name, bytes));
        Ok(self.store.pinned(&self.name))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.store.state().cache.failed(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LIMITS: CacheLimits = CacheLimits {
        bytes: 100,
        fetch: 40,
        fetches: 1,
    };

    fn fetched(store: &Store, name: &str, bytes: usize) -> Pinned {
        let reserved = store.reserve(name).unwrap();
        let mut file = store.file().unwrap();
        file.write_all(&vec![0; bytes]).unwrap();
        reserved.store(file).unwrap()
    }

    fn names(root: &Path) -> Vec<String> {
        let entries = fs::read_dir(root).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_that_makes_room_is_removed_and_one_in_use_stays() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path().to_owned(), LIMITS);
        let a = fetched(&store, "a.tar", 40);
        drop(fetched(&store, "b.tar", 10));
        drop(fetched(&store, "c.tar", 10));
        assert_eq!(fs::read(a.path()).unwrap().len(), 40);
        let reserved = store.reserve("d.tar").unwrap();
        assert_eq!(names(root.path()), ["a.tar", "b.tar", "c.tar"], "all fit");
        drop(reserved);
        let d = fetched(&store, "d.tar", 40);
        let refused = store.reserve("e.tar").unwrap_err();
        assert_eq!(refused.in_use, 80);
        assert!(store.pin("b.tar").is_some(), "nothing was removed");
        drop(a.clone());
        assert!(store.reserve("e.tar").is_err(), "another clone uses it");
        drop((a, d));
        assert!(store.reserve("e.tar").is_ok());
        assert_eq!(names(root.path()), ["b.tar", "c.tar", "d.tar"]);
        assert!(store.pin("a.tar").is_none());
    }

    #[test]
    fn a_restarted_gateway_knows_the_files_and_removes_what_fetches_left() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path().to_owned(), LIMITS);
        drop(fetched(&store, "a.tar", 40));
        let (_, broken_off) = store.file().unwrap().keep().unwrap();
        let unpacked = store.directory().unwrap().keep();
        fs::write(unpacked.join("file"), "").unwrap();
        fs::write(root.path().join("other"), "").unwrap();
        let again = Store::open(root.path().to_owned(), LIMITS);
        assert_eq!(names(root.path()), ["a.tar", "other"]);
        assert!(!broken_off.exists() && again.pin("a.tar").is_some());
        let less = CacheLimits {
            bytes: 39,
            ..LIMITS
        };
        let smaller = Store::open(root.path().to_owned(), less);
        assert!(smaller.pin("a.tar").is_none());
        assert_eq!(names(root.path()), ["other"]);
    }
}
