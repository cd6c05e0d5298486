//! The cache: environments, libraries and unpacked code, each made once.
//!
//! An entry is built beside its place and renamed into it, under a lock that other processes
//! respect. So an existing entry is complete, and the next build removes what an interrupted one has left. The
//! builder decides what an entry holds (`make`, `runtime`, `code`). Entries are never changed.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

/// The interval at which a lock that another process holds is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(100);

/// The directory that holds the entries, by kind.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// # Errors
    /// If the directory cannot be created.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let open = || {
            fs::create_dir_all(root)?;
            root.canonicalize()
        };
        let root = open().with_context(|| {
            format!(
                "the cache {} cannot be made: pass another with --cache",
                root.display()
            )
        })?;
        Ok(Self { root })
    }

    /// A directory for temporary content, which may be removed at any time.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The directory `kind/key`. If it does not exist, `build` makes it.
    ///
    /// `build` gets an empty directory, which is removed if the build fails or is dropped.
    pub(crate) async fn entry(
        &self,
        kind: &str,
        key: &str,
        build: impl AsyncFnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let place = self.root.join(kind).join(key);
        if place.exists() {
            return Ok(place);
        }
        let _lock = self
            .lock(kind, key)
            .await
            .with_context(|| self.unusable())?;
        if place.exists() {
            // The process that held the lock has made the entry.
            return Ok(place);
        }
        let partial = Partial(self.root.join(kind).join(format!(".{key}.partial")));
        remove(&partial.0).with_context(|| self.unusable())?;
        fs::create_dir(&partial.0).with_context(|| self.unusable())?;
        build(&partial.0).await?;
        fs::rename(&partial.0, &place).with_context(|| self.unusable())?;
        Ok(place)
    }

    /// Removes an entry that does not work.
    pub(crate) async fn discard(&self, kind: &str, key: &str) -> Result<()> {
        let _lock = self
            .lock(kind, key)
            .await
            .with_context(|| self.unusable())?;
        remove(&self.root.join(kind).join(key)).with_context(|| self.unusable())
    }

    async fn lock(&self, kind: &str, key: &str) -> io::Result<File> {
        let directory = self.root.join(kind);
        fs::create_dir_all(&directory)?;
        let file = File::create(directory.join(format!(".{key}.lock")))?;
        loop {
            // A blocking lock would delay the end of the program.
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_RETRY).await,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    fn unusable(&self) -> String {
        format!(
            "the cache {} cannot be written: pass another with --cache",
            self.root.display()
        )
    }
}

/// A directory that is being built. It is removed unless it is renamed into its place.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "an unfinished cache entry is left");
        }
    }
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("a directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<_> = names
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.retain(|name| !name.ends_with(".lock"));
        names.sort();
        names
    }

    #[tokio::test]
    async fn an_entry_is_built_once() {
        let root = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(root.path()).expect("a cache");
        let build = async |place: &Path| Ok(fs::write(place.join("made"), "")?);
        let place = cache.entry("kind", "key", build).await.expect("built");
        assert!(place.join("made").exists());
        let again = cache
            .entry("kind", "key", async |_: &Path| bail!("built twice"))
            .await;
        assert_eq!(again.expect("found"), place);
    }

    #[tokio::test]
    async fn a_build_that_fails_leaves_nothing() {
        let root = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(root.path()).expect("a cache");
        let build = async |place: &Path| {
            fs::write(place.join("half"), "")?;
            bail!("no network")
        };
        let error = cache
            .entry("kind", "key", build)
            .await
            .expect_err("it failed");
        assert_eq!(error.to_string(), "no network");
        assert_eq!(names(&root.path().join("kind")), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_build_removes_what_an_interrupted_one_has_left() {
        let root = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(root.path()).expect("a cache");
        fs::create_dir_all(root.path().join("kind/.key.partial/half")).expect("made");
        let build = async |place: &Path| {
            assert_eq!(names(place), Vec::<String>::new());
            Ok(())
        };
        cache.entry("kind", "key", build).await.expect("built");
        assert_eq!(names(&root.path().join("kind")), ["key"]);
    }

    #[tokio::test]
    async fn a_discarded_entry_is_built_again() {
        let root = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(root.path()).expect("a cache");
        let build = async |place: &Path| Ok(fs::write(place.join("old"), "")?);
        cache.entry("kind", "key", build).await.expect("built");
        cache.discard("kind", "key").await.expect("removed");
        let place = cache
            .entry("kind", "key", async |_: &Path| Ok(()))
            .await
            .expect("built");
        assert_eq!(names(&place), Vec::<String>::new());
    }
}
