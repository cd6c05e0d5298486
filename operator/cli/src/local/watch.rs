//! Notices when a manifest or a function's code has changed.
//!
//! Watches exactly the directories that were read, so packages and build results cost nothing; a new directory is
//! added when the change of its parent is handled. Waits until changes stop for a moment, since editors write a
//! file in several steps. `reload` finds out what has changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use notify::event::ModifyKind;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::tree::is_noise;

/// How long a directory must be unchanged before a change is handled.
const QUIET: Duration = Duration::from_millis(200);

/// Watches directories for changes.
#[derive(Debug)]
pub(crate) struct Watch {
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    changes: Arc<Changes>,
}

#[derive(Debug, Default)]
struct Changes {
    happened: Notify,
    /// Directories that were removed or renamed, and whose watch is gone with them.
    lost: Mutex<Vec<PathBuf>>,
}

impl Watch {
    /// # Errors
    /// If the system has no watch left.
    pub(crate) fn start() -> Result<Self> {
        let changes = Arc::new(Changes::default());
        let watcher = notify::recommended_watcher({
            let changes = changes.clone();
            move |event: notify::Result<Event>| match event {
                Ok(event) => changes.take(&event),
                Err(error) => tracing::warn!(%error, "a change may have been missed"),
            }
        });
        let watcher = watcher.context("changes cannot be watched for")?;
        Ok(Self {
            watcher,
            watched: BTreeSet::new(),
            changes,
        })
    }

    /// Watches these directories and no others. Returns whether any is new: a new one may have changed after it was
    /// read and before it was watched.
    pub(crate) fn set(&mut self, directories: &BTreeSet<PathBuf>) -> bool {
        let lost = std::mem::take(&mut *self.changes.lost());
        for directory in lost {
            self.forget(&directory);
        }
        for directory in self
            .watched
            .difference(directories)
            .cloned()
            .collect::<Vec<_>>()
        {
            self.forget(&directory);
        }
        let mut is_new = false;
        for directory in directories {
            if self.watched.contains(directory) {
                continue;
            }
            match self.watcher.watch(directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    is_new = true;
                    self.watched.insert(directory.clone());
                }
                Err(error) => {
                    let path = directory.display();
                    tracing::warn!(%path, %error, "not watched: changes there need a restart");
                }
            }
        }
        is_new
    }

    /// Waits for a change, and then until nothing has changed for a moment.
    pub(crate) async fn changed(&self) {
        self.changes.happened.notified().await;
        while tokio::time::timeout(QUIET, self.changes.happened.notified())
            .await
            .is_ok()
        {}
    }

    fn forget(&mut self, directory: &Path) {
        if self.watched.remove(directory) {
            // The system has removed the watch of a directory that is gone.
            let _ = self.watcher.unwatch(directory);
        }
    }
}

impl Changes {
    fn take(&self, event: &Event) {
        let is_change = match event.kind {
            // Reading is no change; otherwise the reader would wake itself.
            EventKind::Access(_) => false,
            EventKind::Modify(ModifyKind::Metadata(_)) | EventKind::Any | EventKind::Other => true,
            EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) => true,
        };
        let is_code = |path: &PathBuf| !path.file_name().is_some_and(is_noise);
        if !is_change || !(event.paths.is_empty() || event.paths.iter().any(is_code)) {
            return;
        }
        if matches!(
            event.kind,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
        ) {
            self.lost().extend(event.paths.iter().cloned());
        }
        self.happened.notify_one();
    }

    fn lost(&self) -> std::sync::MutexGuard<'_, Vec<PathBuf>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use notify::event::{AccessKind, CreateKind};

    use super::*;

    /// A bound that only a broken system reaches.
    const PATIENCE: Duration = Duration::from_secs(300);

    async fn change(watch: &Watch) {
        tokio::time::timeout(PATIENCE, watch.changed())
            .await
            .expect("the change is seen");
    }

    #[tokio::test]
    async fn a_written_file_is_a_change() {
        let root = tempfile::tempdir().expect("a directory");
        let file = root.path().join("app.py");
        fs::write(&file, "1").expect("written");
        let mut watch = Watch::start().expect("a watch");
        assert!(watch.set(&BTreeSet::from([root.path().to_owned()])));
        fs::write(&file, "2").expect("written");
        change(&watch).await;
    }

    #[tokio::test]
    async fn neither_a_read_file_nor_an_editors_copy_is_a_change() {
        let changes = Changes::default();
        let event = |kind, path: &str| Event::new(kind).add_path(path.into());
        let read = EventKind::Access(AccessKind::Read);
        let made = EventKind::Create(CreateKind::File);
        for (kind, path, is_change) in [
            (read, "app.py", false),
            (made, "app.py~", false),
            (made, "app.py", true),
        ] {
            changes.take(&event(kind, path));
            // A change that was already noticed left its permit, so this does not wait.
            let notified = tokio::time::timeout(Duration::ZERO, changes.happened.notified()).await;
            assert_eq!(notified.is_ok(), is_change, "{kind:?} of {path}");
        }
    }

    #[tokio::test]
    async fn a_directory_that_was_removed_and_created_again_is_watched_again() {
        let root = tempfile::tempdir().expect("a directory");
        let inner = root.path().join("inner");
        fs::create_dir(&inner).expect("made");
        let all = BTreeSet::from([root.path().to_owned(), inner.clone()]);
        let mut watch = Watch::start().expect("a watch");
        watch.set(&all);
        assert!(!watch.set(&all), "nothing is new");
        fs::remove_dir(&inner).expect("removed");
        fs::create_dir(&inner).expect("made");
        change(&watch).await;
        assert!(watch.set(&all), "the directory is another one");
        fs::write(inner.join("app.py"), "1").expect("written");
        change(&watch).await;
    }
}
