//! A folder to unpack to, inside another folder in which nothing may change.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct Sandbox {
    outside: tempfile::TempDir,
    before: Vec<State>,
}

/// The state of a file outside, which shows every write, link or changed mode.
type State = (PathBuf, u32, u64, u64, i64, i64);

/// The content of the folder.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub entries: usize,
    /// The size of all files, as their metadata says.
    pub bytes: u64,
    /// The space that they take on the disk.
    pub blocks: u64,
    /// Each link's path below the root, and its target.
    pub links: BTreeSet<(PathBuf, PathBuf)>,
}

impl Sandbox {
    /// # Panics
    /// If there is no room.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let outside = tempfile::tempdir().expect("a directory");
        fs::write(outside.path().join("canary"), "alive").expect("written");
        fs::create_dir(outside.path().join("beside")).expect("made");
        fs::write(outside.path().join("beside/canary"), "alive").expect("written");
        let before = state(outside.path());
        Sandbox { outside, before }
    }

    /// Empties the folder.
    ///
    /// # Panics
    /// If the last one cannot be removed.
    pub fn root(&mut self) -> PathBuf {
        let root = self.outside.path().join("root");
        match fs::remove_dir_all(&root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{error}"),
            _ => fs::create_dir(&root).expect("made"),
        }
        self.before = state(self.outside.path());
        root
    }

    /// # Panics
    /// If something outside has changed.
    pub fn check(&self) -> Found {
        assert_eq!(
            state(self.outside.path()),
            self.before,
            "outside of the root"
        );
        let root = self.outside.path().join("root");
        let mut found = Found::default();
        look(&root, &root, &mut found);
        found
    }
}

/// The state of everything that is not below `root`; only `root` may have new entries.
fn state(outside: &Path) -> Vec<State> {
    let mut states = Vec::new();
    let mut open = vec![outside.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = fs::symlink_metadata(&path).expect("it is there");
        let is_root = path == outside.join("root");
        if metadata.is_dir() && !is_root {
            let entries = fs::read_dir(&path).expect("readable");
            open.extend(entries.map(|entry| entry.expect("readable").path()));
        }
        if !is_root {
            states.push(state_of(path, &metadata));
        }
    }
    states.sort();
    states
}

fn state_of(path: PathBuf, metadata: &Metadata) -> State {
    let (size, mode) = (metadata.len(), metadata.mode());
    let links = metadata.nlink();
    (
        path,
        mode,
        size,
        links,
        metadata.mtime(),
        metadata.mtime_nsec(),
    )
}

fn look(root: &Path, directory: &Path, found: &mut Found) {
    for entry in fs::read_dir(directory).expect("readable") {
        let path = entry.expect("readable").path();
        let metadata = fs::symlink_metadata(&path).expect("it is there");
        found.entries += 1;
        found.blocks += metadata.blocks() * 512;
        if metadata.is_dir() {
            look(root, &path, found);
        } else if metadata.is_symlink() {
            let to = fs::read_link(&path).expect("a link");
            let place = path.strip_prefix(root).expect("below the root");
            found.links.insert((place.to_owned(), to));
        } else {
            found.bytes += metadata.len();
        }
    }
}
