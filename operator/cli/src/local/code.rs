//! A function's code as a directory: where it lies, what it hashes to.
//!
//! Fed by `prepare` with the manifest's `spec.code`; inline files and archives go through the
//! `cache`, a path is used as it lies. The hash decides whether instances are replaced. Never
//! writes into a person's directory.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use pilotlight_api::{Archive, Code, Manifest, SourceFiles};
use sha2::{Digest, Sha256};

use super::cache::Cache;

/// Code that is ready to run.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Absolute, without links.
    pub(crate) directory: PathBuf,
    pub(crate) tree: Tree,
    /// Whether a person may change it while it runs.
    pub(crate) is_live: bool,
}

/// What a directory holds.
#[derive(Debug, PartialEq)]
pub(crate) struct Tree {
    /// Over names, permissions and content, in hex.
    pub(crate) sha256: String,
    /// Of all files, in bytes.
    pub(crate) size: u64,
    /// The newest file's time.
    pub(crate) modified: SystemTime,
    /// It and all below it.
    pub(crate) directories: BTreeSet<PathBuf>,
}

/// Brings the code of a manifest to a directory.
///
/// # Errors
/// Name the field of the manifest.
pub(crate) async fn prepare(manifest: &Manifest, cache: &Cache) -> Result<Prepared> {
    let (directory, is_live) = match &manifest.function.spec.code {
        Code::Inline(files) => (
            inline(files, cache).await.context("spec.code.inline")?,
            false,
        ),
        Code::Archive(archive) => (
            unpacked(archive, cache)
                .await
                .context("spec.code.archive")?,
            false,
        ),
        Code::Path(path) => {
            let base = manifest.file.parent().unwrap_or(Path::new(""));
            (
                existing(&base.join(path.as_path())).context("spec.code.path")?,
                true,
            )
        }
        Code::ConfigMap(_) => {
            bail!("spec.code.configMap: config maps need a cluster; use `path` or `inline` here")
        }
        Code::Image(_) => {
            bail!("spec.code.image: images need a cluster; use `path` or `inline` here")
        }
    };
    let tree = tree(&directory)
        .with_context(|| format!("spec.code: {} cannot be read", directory.display()))?;
    Ok(Prepared {
        directory,
        tree,
        is_live,
    })
}

fn existing(directory: &Path) -> Result<PathBuf> {
    let directory = directory.canonicalize().with_context(|| {
        format!(
            "{} cannot be opened; the path is relative to the manifest",
            directory.display()
        )
    })?;
    if !directory.is_dir() {
        bail!(
            "{} is a file: name the directory it lies in",
            directory.display()
        );
    }
    Ok(directory)
}

/// The directory that holds the archive's content.
pub(super) async fn unpacked(archive: &Archive, cache: &Cache) -> Result<PathBuf> {
    let fetch = async |root: &Path| {
        let (root, archive) = (root.to_owned(), archive.clone());
        tokio::task::spawn_blocking(move || {
            let (url, sha256) = (archive.url.as_str(), archive.sha256.as_str());
            let file = pilotlight_archive::fetch(url, sha256, &std::env::temp_dir())?;
            pilotlight_archive::unpack(file, &root)
        })
        .await
        .context("the fetch was given up")?
    };
    cache
        .entry("archives", archive.sha256.as_str(), fetch)
        .await
}

async fn inline(files: &SourceFiles, cache: &Cache) -> Result<PathBuf> {
    let mut hash = Sha256::new();
    for (name, text) in files.iter() {
        update(&mut hash, name.as_str().as_bytes());
        update(&mut hash, text.as_bytes());
    }
    let write = async |root: &Path| {
        for (name, text) in files.iter() {
            let path = root.join(name.as_str());
            fs::create_dir_all(path.parent().expect("a file in a directory has a parent"))?;
            fs::write(&path, text)?;
            // A script among the sources is one that is run, such as `bootstrap`.
            let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    };
    cache.entry("inline", &hex(hash), write).await
}

/// Hashes and measures a directory. Links to files count as the file, other links as their text.
pub(crate) fn tree(root: &Path) -> io::Result<Tree> {
    let mut tree = Tree {
        sha256: String::new(),
        size: 0,
        modified: SystemTime::UNIX_EPOCH,
        directories: BTreeSet::new(),
    };
    let mut hash = Sha256::new();
    add(root, Path::new(""), &mut tree, &mut hash)?;
    tree.sha256 = hex(hash);
    Ok(tree)
}

fn add(root: &Path, inside: &Path, tree: &mut Tree, hash: &mut Sha256) -> io::Result<()> {
    let directory = root.join(inside);
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory)? {
        names.push(entry?.file_name());
    }
    tree.directories.insert(directory);
    names.retain(|name| !is_noise(name));
    names.sort();
    for name in names {
        let inside = inside.join(name);
        let path = root.join(&inside);
        let own = fs::symlink_metadata(&path)?;
        let target = fs::metadata(&path).ok().filter(Metadata::is_file);
        if own.is_dir() {
            add(root, &inside, tree, hash)?;
        } else if let Some(file) = target {
            let content = fs::read(&path)?;
            update(hash, inside.as_os_str().as_encoded_bytes());
            update(hash, &[u8::from(is_executable(&file))]);
            update(hash, &content);
            tree.size += file.len();
            tree.modified = tree.modified.max(file.modified()?);
        } else if own.is_symlink() {
            update(hash, inside.as_os_str().as_encoded_bytes());
            update(hash, fs::read_link(&path)?.as_os_str().as_encoded_bytes());
        }
    }
    Ok(())
}

pub(crate) fn is_executable(file: &Metadata) -> bool {
    file.is_file() && file.permissions().mode() & 0o111 != 0
}

/// Files that come and go without being code: byte code, version control, editors' leftovers.
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

/// Lengths keep `ab`, `c` and `a`, `bc` apart.
pub(crate) fn update(hash: &mut Sha256, part: &[u8]) {
    hash.update((part.len() as u64).to_le_bytes());
    hash.update(part);
}

pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
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
        tree(root.path()).expect("readable").sha256
    }

    #[test]
    fn the_hash_changes_with_name_content_and_executable_bit_only() {
        let files = root(&[("app.py", "1"), ("lib/a.py", "2")]);
        let same = root(&[("lib/a.py", "2"), ("app.py", "1")]);
        assert_eq!(hash(&files), hash(&same));
        assert_ne!(
            hash(&files),
            hash(&root(&[("app.py", "1"), ("lib/a.py", "3")]))
        );
        assert_ne!(
            hash(&files),
            hash(&root(&[("app.py", "1"), ("lib/b.py", "2")]))
        );
        assert_ne!(
            hash(&files),
            hash(&root(&[("app.py", "1l"), ("ib/a.py", "2")]))
        );
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(same.path().join("app.py"), mode).expect("changed");
        assert_ne!(hash(&files), hash(&same));
    }

    #[test]
    fn byte_code_and_editor_files_are_no_code() {
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
    fn a_link_that_leads_back_ends_the_walk() {
        let files = root(&[("lib/a.py", "12345")]);
        std::os::unix::fs::symlink("..", files.path().join("lib/back")).expect("linked");
        let tree = tree(files.path()).expect("readable");
        assert_eq!(tree.size, 5);
        assert_eq!(tree.directories.len(), 2);
    }
}
