//! Code that comes as a zip or tar.gz archive from the web.
//!
//! This crate fetches an archive, compares it with the manifest's SHA-256 and unpacks it; it also packs code as
//! the tar with which an instance is claimed. An archive is not trusted: no entry may be written outside the
//! directory, no link is followed, and the unpacked size is bounded. Nothing from it is executed here. Local mode
//! unpacks for its own instances, gateways for pods of warm pools, and the supervisor of a pod that was made for one
//! function by itself. `package` makes such archives.

#[cfg(feature = "fetch")]
mod fetch;
mod limits;
mod package;
mod target;
mod unpack;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use anyhow::Result;

use limits::LIMITS;
use unpack::unpack_within;

#[cfg(feature = "fetch")]
pub use fetch::{FetchProxy, Fetcher, InvalidProxy};
pub use package::Package;

/// The most bytes of an archive.
pub const SIZE_LIMIT: u64 = limits::UNPACKED_LIMIT;

/// Unpacks a zip or tar.gz file, known by its first bytes.
///
/// # Errors
/// If it is damaged, too large, or would write outside of `root`.
pub fn unpack(file: File, root: &Path) -> Result<()> {
    unpack_within(file, root, LIMITS)
}

/// Packs the content of a directory as a tar, links as they are. Names in the tar begin with `prefix`, a directory
/// that already exists where the tar is unpacked.
pub fn pack<W: Write>(root: &Path, prefix: &str, to: W) -> Result<W> {
    let mut archive = tar::Builder::new(to);
    archive.follow_symlinks(false);
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = Path::new(prefix).join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => archive.append_dir_all(name, entry.path())?,
            false => archive.append_path_with_name(entry.path(), name)?,
        }
    }
    Ok(archive.into_inner()?)
}

/// Packs files, given by name and text, as [`pack`] does. Everybody may read and execute them.
pub fn pack_texts<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
    prefix: &str,
) -> io::Result<Vec<u8>> {
    let files = files.into_iter();
    pack_files(files.map(|(name, text)| (name, text.as_bytes())), prefix)
}

/// The same for files of any content.
///
/// # Errors
/// Those of [`pack_texts`].
pub fn pack_files<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    prefix: &str,
) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        archive.append_data(&mut header, Path::new(prefix).join(name), content)?;
    }
    archive.into_inner()
}

/// The entry point for `fuzz/`, with limits that its archives can reach.
#[cfg(fuzzing)]
pub mod fuzzing {
    use std::fs::File;
    use std::path::Path;

    pub fn unpack_within(
        file: File,
        root: &Path,
        bytes: u64,
        entries: usize,
    ) -> anyhow::Result<()> {
        crate::unpack_within(file, root, crate::limits::Limits { bytes, entries })
    }
}

#[cfg(test)]
mod tests;
