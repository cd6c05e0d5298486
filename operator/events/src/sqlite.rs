//! A queue in a file of this machine, for local mode: SQLite.
//!
//! ```text
//! SqliteQueue ─► work that waits ─► file: one commit for all of it
//! ```
//!
//! One thread at a time works on the file. All work that waits for it is committed together, and answered after the commit,
//! which is on the disk by then (`synchronous=full`). Which events are taken is in memory: when the process ends, nobody has
//! them, and the next one takes them again.

mod file;
#[cfg(feature = "schedule")]
mod schedules;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pilotlight_core::events::retry::{EventTime, Progress};
use pilotlight_core::ids::FunctionKey;
use thiserror::Error;
use tokio::sync::{Semaphore, oneshot};

use self::file::EventFile;
use crate::event::{EventOutcome, QueuedEvent};
use crate::queue::{DeadLetters, EventQueue, FunctionEvents, QueueError, Settled, Taken, Ticket};

const FILE: &str = "events.db";
/// Held by the queue for as long as it lives.
const LOCK: &str = "lock";
/// How many pieces of work wait at most, and so are committed together at most.
const ROOM: usize = 256;

/// The folder cannot be used.
#[derive(Debug, Error)]
pub enum OpenQueueError {
    #[error("another `pilotlight local` keeps its events in {0}")]
    InUse(PathBuf),
    #[error("{path}: {why}", path = .0.display(), why = .1)]
    Unusable(PathBuf, String),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct SqliteQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// How many pieces of work may wait. Whoever has more waits with it.
    room: Semaphore,
    /// Held by whoever works on it.
    file: Mutex<EventFile>,
    /// Unlocked when it is closed, after the last work.
    _lock: File,
}

#[derive(Default)]
struct Waiting {
    work: VecDeque<Work>,
    /// A thread is at work, and takes what comes meanwhile.
    is_served: bool,
}

/// A piece of work. It runs within the transaction, unless that could not begin, and returns what to do after the commit.
type Work = Box<dyn FnOnce(Result<&mut EventFile, QueueError>) -> Finish + Send>;
/// Answers, with the error of the commit if it failed.
type Finish = Box<dyn FnOnce(Option<QueueError>) + Send>;

impl SqliteQueue {
    /// Opens the folder, and makes it if there is none. Nobody but this user may enter a new one, since events have what
    /// only functions should know. `bytes`: what all events may take.
    ///
    /// # Errors
    /// Another process uses it, or it is not usable.
    pub fn open(root: &Path, bytes: u64) -> Result<Self, OpenQueueError> {
        let unusable =
            |error: &dyn ToString| OpenQueueError::Unusable(root.to_owned(), error.to_string());
        make_private(root).map_err(|error| unusable(&error))?;
        let lock = File::create(root.join(LOCK)).map_err(|error| unusable(&error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenQueueError::InUse(root.to_owned())),
            Err(TryLockError::Error(error)) => return Err(unusable(&error)),
        }
        let file = EventFile::open(&root.join(FILE), bytes).map_err(|error| unusable(&error))?;
        Ok(SqliteQueue {
            shared: Arc::new(Shared {
                waiting: Mutex::default(),
                room: Semaphore::new(ROOM),
                file: Mutex::new(file),
                _lock: lock,
            }),
        })
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut EventFile) -> Result<T, QueueError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, QueueError>> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |file| {
            let result = file.and_then(work);
            Box::new(move |failure| {
                let result = match failure {
                    Some(error) => Err(error),
                    None => result,
                };
                // Whoever asked may have gone.
                let _ = answer.send(result);
            })
        });
        async move {
            // Held until the answer, so that what waits is bounded.
            let _room = self.shared.room.acquire().await;
            if self.shared.add(work) {
                let shared = self.shared.clone();
                tokio::task::spawn_blocking(move || shared.serve());
            }
            let failed = |_| Err(QueueError::Unavailable("its thread has failed".to_owned()));
            answered.await.unwrap_or_else(failed)
        }
        .boxed()
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether somebody has to serve it.
    fn add(&self, work: Work) -> bool {
        let mut waiting = self.waiting();
        waiting.work.push_back(work);
        !std::mem::replace(&mut waiting.is_served, true)
    }

    /// Does all work that waits, and what comes meanwhile.
    fn serve(&self) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let group: Vec<Work> = {
                let mut waiting = self.waiting();
                waiting.is_served = !waiting.work.is_empty();
                waiting.work.drain(..).collect()
            };
            if group.is_empty() {
                return;
            }
            serve_group(&mut file, group);
        }
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Waiting");
        shown
            .field("work", &self.work.len())
            .finish_non_exhaustive()
    }
}

fn serve_group(file: &mut EventFile, group: Vec<Work>) {
    let began = file.begin();
    let mut finishes = Vec::with_capacity(group.len());
    for work in group {
        let file = began.as_ref().map(|()| &mut *file);
        finishes.push(work(file.map_err(QueueError::clone)));
    }
    let failure = began.and_then(|()| file.commit()).err();
    for finish in finishes {
        finish(failure.clone());
    }
}

impl EventQueue for SqliteQueue {
    fn accept(&self, event: QueuedEvent) -> BoxFuture<'_, Result<(), QueueError>> {
        self.run(move |file| file.accept(&event))
    }

    fn take<'a>(
        &'a self,
        function: &'a FunctionKey,
        now: EventTime,
        count: usize,
    ) -> BoxFuture<'a, Result<Taken, QueueError>> {
        let function = function.clone();
        self.run(move |file| file.take(&function, now, count))
    }

    fn end(
        &self,
        ticket: Ticket,
        progress: Progress,
        outcome: EventOutcome,
    ) -> BoxFuture<'_, Result<(), QueueError>> {
        self.run(move |file| file.end(ticket, progress, outcome))
    }

    fn settle(&self, ticket: Ticket, settled: Settled) -> BoxFuture<'_, Result<(), QueueError>> {
        self.run(move |file| file.settle(ticket, settled))
    }

    fn waiting(&self) -> BoxFuture<'_, Result<Vec<FunctionEvents>, QueueError>> {
        self.run(|file| file.waiting())
    }

    fn purge<'a>(&'a self, function: &'a FunctionKey) -> BoxFuture<'a, Result<u64, QueueError>> {
        let function = function.clone();
        self.run(move |file| file.purge(&function))
    }

    fn dead_letters<'a>(
        &'a self,
        function: &'a FunctionKey,
    ) -> BoxFuture<'a, Result<DeadLetters, QueueError>> {
        let function = function.clone();
        self.run(move |file| file.dead_letters(&function))
    }

    fn replay<'a>(
        &'a self,
        function: &'a FunctionKey,
        now: EventTime,
    ) -> BoxFuture<'a, Result<u64, QueueError>> {
        let function = function.clone();
        self.run(move |file| file.replay(&function, now))
    }

    fn purge_dead<'a>(
        &'a self,
        function: &'a FunctionKey,
    ) -> BoxFuture<'a, Result<u64, QueueError>> {
        let function = function.clone();
        self.run(move |file| file.purge_dead(&function))
    }
}

/// Makes a folder that only this user enters. One that is there already keeps its rights.
fn make_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
