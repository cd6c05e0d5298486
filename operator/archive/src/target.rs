//! The directory that an archive is unpacked to: where entries go, and the limits.
//!
//! Fed by `unpack`. Nothing is written outside of the directory: a name that leads out is refused, and
//! so is every name below a link. Links themselves may lead anywhere: they are created as the archive has
//! them and never followed here.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::limits::{ENTRY_LIMIT, Limits};

#[derive(Debug)]
pub(crate) struct Target {
    root: PathBuf,
    left: Limits,
}

impl Target {
    pub(crate) fn new(root: &Path, left: Limits) -> Self {
        let root = root.to_owned();
        Self { root, left }
    }

    pub(crate) fn directory(&mut self, name: &Path) -> Result<()> {
        match self.place(name)? {
            Some(path) => self.folder(&path, name),
            None => Ok(()),
        }
    }

    pub(crate) fn file(&mut self, name: &Path, mode: u32, content: &mut impl Read) -> Result<()> {
        let path = self.free_place(name)?;
        // `create_new` follows no link, so nothing is written through a link of an earlier entry.
        let file = File::create_new(&path);
        let mut file = file.with_context(|| cannot(name))?;
        let written = io::copy(&mut content.take(self.left.bytes + 1), &mut file)
            .with_context(|| format!("url: {} is damaged", name.display()))?;
        ensure!(
            written <= self.left.bytes,
            "url: it unpacks to more than its limit of 250 MiB"
        );
        self.left.bytes -= written;
        let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
        Ok(file.set_permissions(fs::Permissions::from_mode(mode))?)
    }

    /// A symbolic link, also one that dangles here: its target may exist where the code will run.
    pub(crate) fn link(&mut self, name: &Path, to: &Path) -> Result<()> {
        let path = self.free_place(name)?;
        symlink(to, path).with_context(|| cannot(name))
    }

    /// A hard link becomes a copy, and counts like one against the limits.
    pub(crate) fn copy_of(&mut self, name: &Path, of: &Path) -> Result<()> {
        let not_there = || {
            let (name, of) = (name.display(), of.display());
            format!("url: {name} is a hard link to {of}, which is no file of the archive before it")
        };
        let mut from = self.root.clone();
        for part in parts(of)? {
            // Nothing is read through a link.
            ensure!(!is_link(&from), not_there());
            from.push(part);
        }
        ensure!(is_file(&from), not_there());
        let mut content = File::open(&from).with_context(not_there)?;
        let mode = content.metadata()?.permissions().mode();
        if self.place(name)?.is_some_and(|place| place == from) {
            return self.count();
        }
        self.file(name, mode, &mut content)
    }

    /// The path for a file or a link, after an earlier entry of that name is removed: the later entry wins, as
    /// in other tools. The root itself is refused.
    fn free_place(&mut self, name: &Path) -> Result<PathBuf> {
        self.count()?;
        let place = self.place(name)?;
        let place =
            place.with_context(|| format!("url: `{}` is no name of a file", name.display()))?;
        if is_file(&place) || is_link(&place) {
            fs::remove_file(&place).with_context(|| cannot(name))?;
        }
        Ok(place)
    }

    /// The path for an entry, whose parents are created; `None` for the root.
    fn place(&mut self, name: &Path) -> Result<Option<PathBuf>> {
        let parts = parts(name)?;
        let Some((last, parents)) = parts.split_last() else {
            return Ok(None);
        };
        let mut path = self.root.clone();
        for parent in parents {
            path.push(parent);
            self.folder(&path, name)?;
        }
        path.push(last);
        Ok(Some(path))
    }

    /// Creates a directory whose parents exist.
    fn folder(&mut self, path: &Path, name: &Path) -> Result<()> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(found) if found.is_symlink() => {
                bail!(
                    "url: {} lies below a link, which is not followed",
                    name.display()
                )
            }
            Ok(_) => bail!("url: {} lies below a file", name.display()),
            Err(_) => {
                self.count()?;
                fs::create_dir(path).with_context(|| cannot(name))
            }
        }
    }

    /// Counts one more entry on the disk.
    fn count(&mut self) -> Result<()> {
        let left = self.left.entries.checked_sub(1);
        self.left.entries = left.with_context(|| {
            format!("url: it holds more than {ENTRY_LIMIT} files and directories")
        })?;
        Ok(())
    }
}

/// The parts of a name that stays inside.
fn parts(name: &Path) -> Result<Vec<&std::ffi::OsStr>> {
    let mut parts = Vec::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::CurDir => {}
            _ => bail!(
                "url: {} would land outside the code's directory",
                name.display()
            ),
        }
    }
    Ok(parts)
}

fn cannot(name: &Path) -> String {
    format!("url: {} cannot be unpacked", name.display())
}

fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink())
}
