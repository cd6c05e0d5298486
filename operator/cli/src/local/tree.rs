//! A directory's hash and size, and the directories to watch for a change of it.
//!
//! Fed by `code` and `libraries` with a directory. In a user's code a link that leads outside counts as its
//! target, such as a package that is linked into `node_modules`. In an unpacked archive only the text of a link
//! counts, since it may lead anywhere. Only reads, except [`relink`].

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::hash::{hex, update};

/// The most entries of linked directories that are read: a bound in case a link leads to a large tree.
const LINKED_LIMIT: usize = 20_000;

/// The state of a directory.
#[derive(Debug, PartialEq)]
pub(crate) struct Tree {
    /// A hash of names, permissions and content, in hexadecimal.
    pub(crate) sha256: String,
    /// The size of all files, in bytes.
    pub(crate) size: u64,
    /// The newest file's time.
    pub(crate) modified: SystemTime,
    /// The directory, all directories below it, and all linked ones.
    pub(crate) directories: BTreeSet<PathBuf>,
}

/// Reads a user's code. A link to a file counts as the file, a link to a directory outside as the directory.
pub(crate) fn of(root: &Path) -> io::Result<Tree> {
    Walk::new(root, true).whole()
}

/// Reads an unpacked archive: nothing is read through a link.
pub(crate) fn of_unpacked(root: &Path) -> io::Result<Tree> {
    Walk::new(root, false).whole()
}

/// Reads a directory that the code refers to, without installed packages and build results.
pub(crate) fn of_linked(root: &Path) -> io::Result<Tree> {
    let mut walk = Walk::new(root, true);
    walk.is_linked = true;
    walk.whole()
}

struct Walk<'a> {
    root: &'a Path,
    follows: bool,
    /// Whether this is below a directory that the code only refers to.
    is_linked: bool,
    linked_left: usize,
    /// Linked directories, each of which counts once.
    seen: BTreeSet<PathBuf>,
    tree: Tree,
    hash: Sha256,
}

impl<'a> Walk<'a> {
    fn new(root: &'a Path, follows: bool) -> Self {
        Self {
            root,
            follows,
            is_linked: false,
            linked_left: LINKED_LIMIT,
            seen: BTreeSet::new(),
            tree: Tree {
                sha256: String::new(),
                size: 0,
                modified: SystemTime::UNIX_EPOCH,
                directories: BTreeSet::new(),
            },
            hash: Sha256::new(),
        }
    }

    fn whole(mut self) -> io::Result<Tree> {
        self.directory(self.root, Path::new(""))?;
        self.tree.sha256 = hex(self.hash);
        Ok(self.tree)
    }

    /// `name`: its path below the root, or that of the link to it.
    fn directory(&mut self, directory: &Path, name: &Path) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            names.push(entry?.file_name());
        }
        self.tree.directories.insert(directory.to_owned());
        let is_made = |name: &OsStr| self.is_linked && is_made(directory, name);
        names.retain(|name| !(is_noise(name) || is_made(name)));
        names.sort();
        for own in names {
            if self.is_linked {
                let Some(left) = self.linked_left.checked_sub(1) else {
                    return Ok(());
                };
                self.linked_left = left;
            }
            self.entry(&directory.join(&own), &name.join(&own))?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        let own = fs::symlink_metadata(path)?;
        let is_followed = self.follows && own.is_symlink();
        let target = fs::metadata(path).ok().filter(|_| is_followed);
        if own.is_dir() {
            return self.directory(path, name);
        }
        if own.is_file() || target.as_ref().is_some_and(Metadata::is_file) {
            let file = target.unwrap_or(own);
            let content = fs::read(path)?;
            update(&mut self.hash, name.as_os_str().as_encoded_bytes());
            update(&mut self.hash, &[u8::from(is_executable(&file))]);
            update(&mut self.hash, &content);
            self.tree.size += file.len();
            self.tree.modified = self.tree.modified.max(file.modified()?);
        } else if own.is_symlink() {
            update(&mut self.hash, name.as_os_str().as_encoded_bytes());
            let to = fs::read_link(path)?;
            update(&mut self.hash, to.as_os_str().as_encoded_bytes());
            if target.is_some_and(|target| target.is_dir()) {
                self.linked(&path.canonicalize()?, name)?;
            }
        }
        Ok(())
    }

    fn linked(&mut self, real: &Path, name: &Path) -> io::Result<()> {
        let holds_or_is_in = real.starts_with(self.root) || self.root.starts_with(real);
        if holds_or_is_in || !self.seen.insert(real.to_owned()) {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.is_linked, true);
        let walked = self.directory(real, name);
        self.is_linked = before;
        match walked {
            // Not the user's own.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            walked => walked,
        }
    }
}

/// Rewrites relative links in a copy of a directory, so that those that lead outside keep their targets.
pub(crate) fn relink(root: &Path, copy: &Path) -> io::Result<()> {
    let mut open = vec![PathBuf::new()];
    while let Some(inside) = open.pop() {
        for entry in fs::read_dir(root.join(&inside))? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let inside = inside.join(entry.file_name());
            if kind.is_dir() {
                open.push(inside);
                continue;
            }
            let copied = copy.join(&inside);
            if !kind.is_symlink() || !copied.is_symlink() || fs::read_link(&copied)?.is_absolute() {
                continue;
            }
            let real = entry.path().canonicalize();
            if let Some(real) = real.ok().filter(|real| !real.starts_with(root)) {
                fs::remove_file(&copied)?;
                std::os::unix::fs::symlink(real, &copied)?;
            }
        }
    }
    Ok(())
}

pub(crate) fn is_executable(file: &Metadata) -> bool {
    file.is_file() && file.permissions().mode() & 0o111 != 0
}

/// Whether a file is no code: byte code, version control, temporary files of editors.
pub(crate) fn is_noise(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    matches!(&*name, "__pycache__" | ".git" | "4913" | ".DS_Store")
        || name.ends_with('~')
        || name.starts_with(".#")
        || (name.starts_with('.')
            && [".swp", ".swo", ".swx"]
                .iter()
                .any(|end| name.ends_with(end)))
}

/// Whether tools have made it in the directory of a library while they installed or tested it.
pub(crate) fn is_made(folder: &Path, name: &OsStr) -> bool {
    const MADE: [&str; 6] = [
        "node_modules",
        ".venv",
        ".tox",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
    ];
    let text = name.to_string_lossy();
    MADE.contains(&&*text) || text.ends_with(".egg-info") || is_of_setuptools(folder, name)
}

/// Whether it is a folder `build` of setuptools, which keeps modules that were removed since.
fn is_of_setuptools(folder: &Path, name: &OsStr) -> bool {
    let is_python = ["pyproject.toml", "setup.py", "setup.cfg"];
    name == "build"
        && is_python.iter().any(|file| folder.join(file).is_file())
        && fs::read_dir(folder.join(name)).is_ok_and(|entries| {
            entries.flatten().any(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                name == "lib" || name.starts_with("lib.") || name.starts_with("bdist.")
            })
        })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        }
        root
    }

    fn hash(root: &tempfile::TempDir) -> String {
        of(root.path()).expect("readable").sha256
    }

    #[test]
    fn the_hash_changes_with_name_content_and_executable_bit_only() {
        let files = root(&[("app.py", "1"), ("lib/a.py", "2")]);
        let same = root(&[("lib/a.py", "2"), ("app.py", "1")]);
        assert_eq!(hash(&files), hash(&same));
        for other in [
            [("app.py", "1"), ("lib/a.py", "3")],
            [("app.py", "1"), ("lib/b.py", "2")],
            [("app.py", "1l"), ("ib/a.py", "2")],
        ] {
            assert_ne!(hash(&files), hash(&root(&other)));
        }
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(same.path().join("app.py"), mode).expect("changed");
        assert_ne!(hash(&files), hash(&same));
    }

    #[test]
    fn byte_code_and_editor_files_do_not_count() {
        let clean = root(&[("app.py", "1")]);
        let noisy = root(&[
            ("app.py", "1"),
            ("__pycache__/app.cpython-311.pyc", "x"),
            (".git/HEAD", "x"),
            (".app.py.swp", "x"),
            ("app.py~", "x"),
        ]);
        assert_eq!(hash(&clean), hash(&noisy));
        assert_ne!(hash(&clean), hash(&root(&[("app.py", "1"), (".env", "x")])));
    }

    #[test]
    fn a_link_to_a_directory_above_ends_the_walk() {
        let files = root(&[("lib/a.py", "12345")]);
        symlink("..", files.path().join("lib/back")).expect("linked");
        symlink("../..", files.path().join("lib/above")).expect("linked");
        let tree = of(files.path()).expect("readable");
        assert_eq!(tree.size, 5);
        assert_eq!(tree.directories.len(), 2);
    }

    #[test]
    fn links_that_lead_outside_keep_their_targets_in_a_copy() {
        let around = root(&[
            ("code/a.js", ""),
            ("shared/index.js", "1"),
            ("far/away/copy/a.js", ""),
        ]);
        let at = |name: &str| {
            around
                .path()
                .canonicalize()
                .expect("a directory")
                .join(name)
        };
        for (link, to) in [
            ("shared", "../shared"),
            ("own", "a.js"),
            ("gone", "../gone"),
        ] {
            for place in ["code", "far/away/copy"] {
                symlink(to, at(place).join(link)).expect("linked");
            }
        }
        relink(&at("code"), &at("far/away/copy")).expect("linked anew");
        let link = |name: &str| fs::read_link(at("far/away/copy").join(name)).expect("a link");
        assert_eq!(link("shared"), at("shared"));
        assert_eq!(
            (link("own"), link("gone")),
            ("a.js".into(), "../gone".into())
        );
    }

    #[test]
    fn a_linked_directory_counts_with_its_content() {
        let shared = root(&[
            ("shared/index.js", "1"),
            ("shared/node_modules/x/y.js", "2"),
        ]);
        let shared = shared
            .path()
            .canonicalize()
            .expect("a directory")
            .join("shared");
        let code = root(&[("index.js", "x")]);
        fs::create_dir(code.path().join("node_modules")).expect("made");
        symlink(&shared, code.path().join("node_modules/shared")).expect("linked");
        symlink("loop", shared.join("loop")).expect("linked");
        let before = of(code.path()).expect("readable");
        assert!(before.directories.contains(&shared));
        assert!(!before.directories.contains(&shared.join("node_modules")));
        fs::write(shared.join("node_modules/x/y.js"), "3").expect("written");
        assert_eq!(hash(&code), before.sha256);
        fs::write(shared.join("index.js"), "2").expect("written");
        assert_ne!(hash(&code), before.sha256);
        let before = of_unpacked(code.path()).expect("readable");
        assert!(!before.directories.contains(&shared));
        fs::write(shared.join("index.js"), "3").expect("written");
        assert_eq!(of_unpacked(code.path()).expect("readable"), before);
    }
}
