//! A function's code as a directory, and its hash.
//!
//! Fed by `prepare` with the manifest's `spec.code`; inline files and archives go through the
//! `cache`, a path is used as it lies. The hash decides whether instances are replaced. Never
//! writes into a user's directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use pilotlight_api::{Archive, Code, Manifest, SourceFiles};
use pilotlight_archive::Fetcher;
use sha2::{Digest as _, Sha256};

use super::cache::Cache;
use super::hash::{hex, update};
use super::tree::{self, Tree};

/// Code that is ready to run.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// An absolute path without links.
    pub(crate) directory: PathBuf,
    pub(crate) tree: Tree,
    /// Whether the user may change it while it runs.
    pub(crate) is_live: bool,
}

/// Puts the code of a manifest into a directory.
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
    let tree = if is_live {
        tree::of(&directory)
    } else {
        tree::of_unpacked(&directory)
    };
    let tree =
        tree.with_context(|| format!("spec.code: {} cannot be read", directory.display()))?;
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

/// The directory with the archive's content.
pub(super) async fn unpacked(archive: &Archive, cache: &Cache) -> Result<PathBuf> {
    if archive.secret_ref.is_some() {
        bail!(
            "secretRef: Secrets need a cluster; for local mode fetch the archive yourself, unpack it beside the manifest \
             and use `path`"
        );
    }
    let fetch = async |root: &Path| {
        let (root, archive) = (root.to_owned(), archive.clone());
        tokio::task::spawn_blocking(move || {
            let (url, sha256) = (archive.url.as_str(), archive.sha256.as_str());
            let file = Fetcher::Unrestricted.fetch(url, sha256, &std::env::temp_dir(), None)?;
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
            // A script with a shebang line, such as `bootstrap`, is executed, so it must be executable.
            let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    };
    cache.entry("inline", &hex(hash), write).await
}
