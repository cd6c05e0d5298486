//! Where the files of logs are: `NAMESPACE/FUNCTION/START.db`, in which START is the first time that belongs to the file,
//! in microseconds since 1970.
//!
//! A file has the records from its start up to the start of the next one, so no two files of a function overlap. This
//! module only names, lists and removes files; it never looks into one.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::SignedDuration;
use pilotlight_core::ids::FunctionKey;

/// Ends the name of a file that can be read no more.
const DAMAGED: &str = "damaged";
/// In the folder of a function: for how many seconds its records are kept, as a decimal number.
const RETENTION: &str = "retention";

#[derive(Clone, Debug)]
pub(super) struct Folder {
    root: PathBuf,
    /// Whoever reads a file shares it, and whoever removes one has it alone: a file whose journal is gone looks like a
    /// broken one.
    removal: Arc<RwLock<()>>,
}

/// A file, or what is left of one, and how many bytes it takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sized {
    pub(super) start: i64,
    pub(super) function: FunctionKey,
    pub(super) bytes: u64,
}

impl Folder {
    pub(super) fn new(root: PathBuf) -> Self {
        Folder {
            root,
            removal: Arc::default(),
        }
    }

    /// No file of this folder goes until the guard does, as far as this process removes them.
    pub(super) fn keep(&self) -> RwLockReadGuard<'_, ()> {
        self.removal.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove_alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.removal.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, function: &FunctionKey) -> PathBuf {
        let namespace = self.root.join(function.namespace.as_str());
        namespace.join(function.name.as_str())
    }

    pub(super) fn path(&self, function: &FunctionKey, start: i64) -> PathBuf {
        self.of(function).join(format!("{start}.db"))
    }

    pub(super) fn make(&self, function: &FunctionKey) -> io::Result<()> {
        fs::create_dir_all(self.of(function))
    }

    /// The functions that have a folder, whether there is a file in it or not.
    pub(super) fn functions(&self) -> io::Result<Vec<FunctionKey>> {
        let mut functions = Vec::new();
        for namespace in names(&self.root)? {
            // Other files, such as the lock, are no folders.
            for name in names(&self.root.join(&namespace))? {
                functions.extend(format!("{namespace}/{name}").parse::<FunctionKey>());
            }
        }
        Ok(functions)
    }

    /// The starts of the files, in order.
    pub(super) fn starts(&self, function: &FunctionKey) -> io::Result<BTreeSet<i64>> {
        let start = |name: String| name.strip_suffix(".db")?.parse().ok();
        Ok(names(&self.of(function))?
            .into_iter()
            .filter_map(start)
            .collect())
    }

    /// What the files of a function take on the disk, with journals and with those that are set aside.
    pub(super) fn sizes(&self, function: &FunctionKey) -> io::Result<Vec<Sized>> {
        let mut sizes: Vec<Sized> = Vec::new();
        let mut names = names(&self.of(function))?;
        names.sort_unstable();
        for name in names {
            let Some(start) = start_of_any(&name) else {
                continue;
            };
            let bytes = fs::metadata(self.of(function).join(name)).map_or(0, |file| file.len());
            match sizes.iter_mut().find(|sized| sized.start == start) {
                Some(sized) => sized.bytes += bytes,
                None => sizes.push(Sized {
                    start,
                    function: function.clone(),
                    bytes,
                }),
            }
        }
        Ok(sizes)
    }

    pub(super) fn bytes(&self, function: &FunctionKey, start: i64) -> u64 {
        let path = self.path(function, start);
        let of = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
        of(&path) + of(&beside(&path, "-wal"))
    }

    /// Removes the file, its journal, and what was set aside under the same start.
    pub(super) fn remove(&self, function: &FunctionKey, start: i64) -> io::Result<()> {
        let mut names = names(&self.of(function))?;
        let _alone = self.remove_alone();
        // The journal goes before the file: a later file of this name must not find it.
        names.sort_unstable_by(|one, other| other.cmp(one));
        for name in names {
            if start_of_any(&name) == Some(start) {
                gone(fs::remove_file(self.of(function).join(name)))?;
            }
        }
        Ok(())
    }

    /// Gives a damaged file another name, under which nobody reads it. Returns that name.
    pub(super) fn set_aside(&self, function: &FunctionKey, start: i64) -> io::Result<PathBuf> {
        let path = self.path(function, start);
        let aside = path.with_extension(DAMAGED);
        let _alone = self.remove_alone();
        gone(fs::rename(&path, &aside))?;
        for journal in ["-wal", "-shm"] {
            gone(fs::remove_file(beside(&path, journal)))?;
        }
        Ok(aside)
    }

    /// For how long the records of the function are kept, if that was said.
    pub(super) fn retention(&self, function: &FunctionKey) -> Option<SignedDuration> {
        let text = fs::read_to_string(self.of(function).join(RETENTION)).ok()?;
        Some(SignedDuration::from_secs(text.trim().parse().ok()?))
    }

    pub(super) fn set_retention(
        &self,
        function: &FunctionKey,
        retention: Option<SignedDuration>,
    ) -> io::Result<()> {
        let path = self.of(function).join(RETENTION);
        let Some(retention) = retention else {
            return gone(fs::remove_file(path));
        };
        self.make(function)?;
        // Readers see the old file or the new one, and never a part.
        let new = beside(&path, ".new");
        let mut file = fs::File::create(&new)?;
        writeln!(file, "{}", retention.as_secs())?;
        fs::rename(new, path)
    }
}

/// The start in the name of a file, a journal, or a file that is set aside.
fn start_of_any(name: &str) -> Option<i64> {
    let (start, rest) = name.split_once('.')?;
    let is_ours = rest.starts_with("db") || rest == DAMAGED;
    is_ours.then(|| start.parse().ok())?
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The names in a folder that are text. None, if there is no such folder.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let listed = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        listed => listed?,
    };
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().into_string().ok());
    listed.filter_map(|entry| name(entry).transpose()).collect()
}

/// It is no fault if the file is gone already.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
