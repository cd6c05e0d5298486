//! Logs in files of this machine, for local mode: SQLite, with an index over the texts.
//!
//! ```text
//! sqlite ─► writer ─► window ─► fault
//!    └────────┴─────► folder, limits
//! ```
//!
//! Each function has a folder, with a file for each range of time (`folder`). A folder of logs has one writer, which holds a
//! lock; anybody else reads beside it, also when no writer runs. A file that is damaged is set aside, and a new one begins.
//! All work on files happens in threads for blocking work, a bounded number of them. It never keeps a record in memory.

mod fault;
mod folder;
mod limits;
#[cfg(test)]
mod tests;
mod window;
mod writer;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use pilotlight_core::ids::FunctionKey;
use thiserror::Error;
use tokio::sync::Semaphore;

use self::fault::Fault;
use self::folder::Folder;
pub use self::limits::FileLimits;
use self::window::{Budget, Window};
use self::writer::{Writer, oldest, unavailable};
use crate::entry::Entry;
use crate::query::{Order, PAGE_LIMIT, Query};
use crate::store::{FunctionLog, InstanceLog, Page, Retentions, Store, StoreError};

/// Held by the writer for as long as it lives.
const LOCK: &str = "lock";
/// How many threads read at once. Further readers wait.
const READERS: usize = 4;
/// How many records one page reads at most, and how many bytes of them, until it leaves the rest to the next page.
const PAGE_RECORDS: usize = if cfg!(test) { 1000 } else { 100_000 };
const PAGE_BYTES: usize = 32 * 1024 * 1024;

/// The folder cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("another `pilotlight local` writes its logs to {0}")]
    InUse(PathBuf),
    #[error("{path}: {why}", path = .0.display(), why = .1)]
    Unusable(PathBuf, String),
}

/// See the module. Clones share the files.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: Folder,
    /// Absent in a store that only reads.
    writer: Option<Mutex<Writer>>,
    limits: Option<FileLimits>,
    writing: Arc<Semaphore>,
    reading: Arc<Semaphore>,
    /// Unlocked when it is closed.
    _lock: Option<File>,
}

impl SqliteStore {
    /// Opens the folder to write to it, and makes it if there is none. Nobody but this user may enter a new one, since
    /// functions log what only they should know.
    ///
    /// # Errors
    /// Another process writes to it, or it is not usable.
    pub fn open(root: &Path, limits: FileLimits) -> Result<Self, OpenError> {
        let unusable = |error: io::Error| OpenError::Unusable(root.to_owned(), error.to_string());
        make_private(root).map_err(unusable)?;
        let lock = File::create(root.join(LOCK)).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(root.to_owned())),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let folder = Folder::new(root.to_owned());
        let writer = Writer::new(folder.clone(), limits)
            .map_err(|error| OpenError::Unusable(root.to_owned(), error.to_string()))?;
        Ok(SqliteStore::of(folder, Some((writer, limits)), Some(lock)))
    }

    /// Reads a folder beside its writer, or without one. Such a store refuses writes.
    pub fn reader(root: &Path) -> Self {
        SqliteStore::of(Folder::new(root.to_owned()), None, None)
    }

    fn of(folder: Folder, writer: Option<(Writer, FileLimits)>, lock: Option<File>) -> Self {
        let (writer, limits) = writer.unzip();
        SqliteStore {
            shared: Arc::new(Shared {
                folder,
                writer: writer.map(Mutex::new),
                limits,
                writing: Arc::new(Semaphore::new(1)),
                reading: Arc::new(Semaphore::new(READERS)),
                _lock: lock,
            }),
        }
    }

    /// Does work in a thread for blocking work, once it is its turn.
    fn run<T: Send + 'static>(
        &self,
        turn: &Arc<Semaphore>,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (shared, turn) = (self.shared.clone(), turn.clone());
        async move {
            // The turn ends with the work, which goes on if this future is dropped.
            let permit = turn.acquire_owned().await;
            let ended = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                work(&shared)
            });
            let ended = ended.await;
            ended.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
        }
        .boxed()
    }

    fn write_with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        self.run(&self.shared.writing, |shared| shared.with_writer(work))
    }

    fn read_with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        self.run(&self.shared.reading, work)
    }
}

impl Shared {
    fn with_writer<T>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Some(writer) = &self.writer else {
            let why = "it was opened to be read";
            return Err(StoreError::Refused(why.to_owned()));
        };
        work(&mut writer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The first time whose records are shown, in microseconds.
    fn oldest(&self, function: &FunctionKey) -> Option<i64> {
        let default = self.limits.map(|limits| limits.retention);
        let retention = self.folder.retention(function).or(default)?;
        let clock = self.limits.map_or(Timestamp::now as fn() -> _, |l| l.clock);
        Some(oldest(clock(), retention))
    }

    /// Looks into a file. `None`: it is gone.
    fn look<T>(
        &self,
        function: &FunctionKey,
        start: i64,
        look: impl FnOnce(&Window) -> Result<T, Fault>,
    ) -> Result<Option<T>, StoreError> {
        let path = self.folder.path(function, start);
        let looked = {
            let _there = self.folder.keep();
            Window::open(&path).and_then(|window| window.as_ref().map(look).transpose())
        };
        match looked {
            Ok(looked) => Ok(looked),
            // Another process has removed it meanwhile.
            Err(_) if !path.exists() => Ok(None),
            Err(Fault::Damaged(why)) if self.writer.is_some() => {
                self.with_writer(|writer| writer.set_aside(function, start, &why))?;
                let path = path.display();
                let text = format!("{path} was damaged ({why}) and is set aside now: read again");
                Err(StoreError::Unavailable(text))
            }
            Err(Fault::Damaged(why)) => {
                let path = path.display();
                let text = format!("{path} is damaged ({why}): remove it, and read again");
                Err(StoreError::Unavailable(text))
            }
            Err(fault) => Err(fault.of(&path)),
        }
    }

    fn page(&self, mut query: Query) -> Result<Page, StoreError> {
        query.limit = query.limit.clamp(1, PAGE_LIMIT);
        let selection = &mut query.selection;
        let oldest = self
            .oldest(&query.function)
            .and_then(|oldest| Timestamp::from_microsecond(oldest).ok());
        selection.since = selection.since.max(oldest);
        let mut budget = Budget {
            records: PAGE_RECORDS,
            bytes: PAGE_BYTES,
        };
        let (mut records, mut last) = (Vec::new(), None);
        for start in self.files(&query)? {
            let read = |window: &Window| window.read(&query, &mut budget, &mut records);
            let read = self.look(&query.function, start, read)?.flatten();
            last = read.or(last);
            if budget.is_spent() || records.len() > query.limit {
                break;
            }
        }
        let next = if records.len() > query.limit {
            records.truncate(query.limit);
            records.last().map(Entry::position)
        } else {
            // Another page goes on where this one had read enough.
            last.filter(|_| budget.is_spent())
        };
        Ok(Page { records, next })
    }

    /// The starts of the files that may have records of the page, in the order in which they are read.
    fn files(&self, query: &Query) -> Result<Vec<i64>, StoreError> {
        let starts = self.folder.starts(&query.function).map_err(unavailable)?;
        let (mut first, mut last) = (i64::MIN, i64::MAX);
        if let Some(since) = query.selection.since {
            first = since.as_microsecond();
        }
        if let Some(until) = query.selection.until {
            last = until.as_microsecond();
        }
        if let Some(after) = &query.after {
            let time = after.time.as_microsecond();
            match query.order {
                Order::OldestFirst => first = first.max(time),
                Order::NewestFirst => last = last.min(time),
            }
        }
        // The file in which the first time is began before it.
        let first = starts.range(..=first).next_back().copied().unwrap_or(first);
        let files = starts.into_iter();
        let mut files: Vec<i64> = files.filter(|at| (first..=last).contains(at)).collect();
        if query.order == Order::NewestFirst {
            files.reverse();
        }
        Ok(files)
    }

    fn functions(&self) -> Result<Vec<FunctionLog>, StoreError> {
        let mut logs = Vec::new();
        for function in self.folder.functions().map_err(unavailable)? {
            let oldest = self.oldest(&function);
            let mut first = None;
            for start in self.folder.starts(&function).map_err(unavailable)? {
                let span = self.look(&function, start, Window::span)?.flatten();
                let is_kept = |&(_, last): &(i64, i64)| oldest.is_none_or(|oldest| last >= oldest);
                if let Some((begin, _)) = span.filter(is_kept) {
                    first = Timestamp::from_microsecond(begin.max(oldest.unwrap_or(begin))).ok();
                    break;
                }
            }
            let Some(first) = first else { continue };
            let sizes = self.folder.sizes(&function).map_err(unavailable)?;
            logs.push(FunctionLog {
                first,
                bytes: sizes.iter().map(|file| file.bytes).sum(),
                function,
            });
        }
        Ok(logs)
    }

    fn retentions(&self) -> Result<Retentions, StoreError> {
        let functions = self.folder.functions().map_err(unavailable)?.into_iter();
        let retention = |function| Some((self.folder.retention(&function)?, function));
        Ok(functions
            .filter_map(retention)
            .map(|(kept, function)| (function, kept))
            .collect())
    }

    fn instances(&self, function: &FunctionKey) -> Result<Vec<InstanceLog>, StoreError> {
        let oldest = self
            .oldest(function)
            .and_then(|oldest| Timestamp::from_microsecond(oldest).ok());
        let mut instances: BTreeMap<String, InstanceLog> = BTreeMap::new();
        for start in self.folder.starts(function).map_err(unavailable)? {
            let found = self.look(function, start, Window::instances)?;
            for log in found.into_iter().flatten() {
                if oldest.is_some_and(|oldest| log.last < oldest) {
                    continue;
                }
                let first = log.first.max(oldest.unwrap_or(log.first));
                let known = instances
                    .entry(log.instance.clone())
                    .or_insert_with(|| log.clone());
                known.first = known.first.min(first);
                known.last = known.last.max(log.last);
            }
        }
        let mut instances: Vec<_> = instances.into_values().collect();
        instances.sort_by_key(|log| std::cmp::Reverse(log.last));
        Ok(instances)
    }
}

impl Store for SqliteStore {
    fn write<'a>(&'a self, records: &'a [Arc<Entry>]) -> BoxFuture<'a, Result<(), StoreError>> {
        let records = records.to_vec();
        self.write_with(move |writer| writer.write(&records))
    }

    fn read<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Page, StoreError>> {
        let query = query.clone();
        self.read_with(|shared| shared.page(query))
    }

    fn functions(&self) -> BoxFuture<'_, Result<Vec<FunctionLog>, StoreError>> {
        self.read_with(Shared::functions)
    }

    fn instances<'a>(
        &'a self,
        function: &'a FunctionKey,
    ) -> BoxFuture<'a, Result<Vec<InstanceLog>, StoreError>> {
        let function = function.clone();
        self.read_with(move |shared| shared.instances(&function))
    }

    fn retentions(&self) -> BoxFuture<'_, Result<Retentions, StoreError>> {
        self.read_with(Shared::retentions)
    }

    fn set_retention<'a>(
        &'a self,
        function: &'a FunctionKey,
        retention: Option<SignedDuration>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let function = function.clone();
        self.write_with(move |writer| writer.set_retention(&function, retention))
    }

    fn delete<'a>(&'a self, function: &'a FunctionKey) -> BoxFuture<'a, Result<(), StoreError>> {
        let function = function.clone();
        self.write_with(move |writer| writer.delete(&function))
    }
}

/// Makes a folder that only this user enters. One that is there already keeps its rights.
fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
