//! The repository's files, as text.
//!
//! Fed by the file system; leaves out what .gitignore does. `papers`, `durations` and `modules` read what it
//! finds.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that are built, fetched or learnt, and never committed.
const IGNORED: [&str; 11] = [
    ".git",
    ".pytest_cache",
    ".ruff_cache",
    ".venv",
    "__pycache__",
    "artifacts",
    "corpus",
    "grown",
    "node_modules",
    "obj",
    "target",
];

/// A file by its path below the root, with `/` between the parts.
#[derive(Clone, Debug)]
pub struct File {
    pub path: String,
    pub text: String,
}

pub fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the repository's root")
}

/// All files below the folder that are text, in order of their paths.
pub fn files(folder: &str) -> Vec<File> {
    let root = root();
    let mut open = vec![root.join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        let entries = fs::read_dir(&folder).expect("a readable folder");
        for entry in entries {
            let entry = entry.expect("a readable entry");
            let (path, kind) = (entry.path(), entry.file_type().expect("a type"));
            let name = entry.file_name();
            // The examples build into such a folder; sources have one of that name too.
            let is_built = name == "build" && path.starts_with(root.join("examples"));
            let is_ignored = is_built || IGNORED.iter().any(|ignored| name == *ignored);
            if kind.is_dir() && !is_ignored {
                open.push(path);
            } else if kind.is_file()
                && let Ok(text) = fs::read_to_string(&path)
            {
                let path = path.strip_prefix(&root).expect("below the root");
                let path = path.to_str().expect("a path in UTF-8").to_owned();
                found.push(File { path, text });
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

impl File {
    pub fn has_extension(&self, extensions: &[&str]) -> bool {
        let extension = Path::new(&self.path).extension();
        extension.is_some_and(|found| extensions.iter().any(|wanted| found == *wanted))
    }

    /// Whether the file is a test, or serves tests alone.
    pub fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        // Programs below `examples` of a crate measure, and are not shipped either.
        let mut folders = self.path.split('/');
        name == "tests.rs" || folders.any(|part| matches!(part, "tests" | "examples"))
    }
}
