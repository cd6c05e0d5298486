//! Copies files and folders below another root, in which relative paths such as `../shared` still work.
//!
//! Fed by `libraries` before a tool installs. Installed packages and build results beside a library are
//! not copied, nor is the cache.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::tree::{is_made, is_noise};

/// An absolute path, moved below another root.
pub(super) fn within(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

pub(super) fn file(content: &[u8], to: &Path) -> io::Result<()> {
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    // A copied folder may already contain the original of this file.
    let _ = fs::remove_file(to);
    fs::write(to, content)
}

/// Copies a folder. A link that leads outside is replaced by its target.
pub(super) fn folder(from: &Path, to: &Path, cache: &Path) -> io::Result<()> {
    let real = from.canonicalize()?;
    copy(&real, to, &[cache.to_owned()])
}

/// `above`: directories that are being copied, and others that never are.
fn copy(from: &Path, to: &Path, above: &[PathBuf]) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let above = [above, &[from.to_owned()]].concat();
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        if is_noise(&name) || is_made(from, &name) {
            continue;
        }
        let (path, to) = (from.join(&name), to.join(&name));
        let Ok(real) = path.canonicalize() else {
            // A dangling link.
            continue;
        };
        if real.is_dir() {
            if !above.contains(&real) {
                copy(&real, &to, &above)?;
            }
        } else if real.is_file() && !to.exists() {
            fs::copy(&real, &to)?;
        }
    }
    Ok(())
}
