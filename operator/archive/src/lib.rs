//! Code that comes as a zip or tar.gz archive from the web.
//!
//! This crate fetches an archive, compares it with the manifest's SHA-256 and unpacks it; it also packs code as
//! the tar with which an instance is claimed. An archive is not trusted: no entry may be written outside the
//! directory, no link is followed, and the unpacked size is bounded. Nothing from it is executed here. Local mode
//! unpacks for its own instances, gateways for the pods of a cluster. `package` makes such archives.

mod limits;
mod package;
mod target;
mod unpack;

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

use limits::{LIMITS, UNPACKED_LIMIT};
use unpack::unpack_within;

pub use package::Package;

const FETCH_LIMIT: Duration = Duration::from_secs(300);

/// Fetches an archive into a temporary file in `directory`.
///
/// # Errors
/// Name the field of the manifest's `archive`: `url` or `sha256`.
pub fn fetch(url: &str, expected: &str, directory: &Path) -> Result<File> {
    // The machine's own certificates, since a company may sign its servers itself.
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::PlatformVerifier)
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(FETCH_LIMIT));
    let answer = config.build().new_agent().get(url).call();
    let answer = answer.with_context(|| format!("url: {url} cannot be fetched"))?;
    let mut body = answer.into_body().into_reader().take(UNPACKED_LIMIT + 1);
    let mut file = tempfile::tempfile_in(directory).context("no temporary file")?;
    let mut hash = Sha256::new();
    let mut buffer = [0; 64 * 1024];
    let mut size = 0;
    loop {
        let read = body
            .read(&mut buffer)
            .with_context(|| format!("url: {url} broke off"))?;
        if read == 0 {
            break;
        }
        size += read as u64;
        ensure!(
            size <= UNPACKED_LIMIT,
            "url: {url} is larger than {UNPACKED_LIMIT} bytes"
        );
        hash.update(&buffer[..read]);
        file.write_all(&buffer[..read])?;
    }
    let got: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    ensure!(
        got == expected,
        "sha256: {url} has {got}, not {expected}; if the change is meant, put the new one there"
    );
    file.rewind()?;
    Ok(file)
}

/// Unpacks a zip or tar.gz file, known by its first bytes.
///
/// # Errors
/// If it is damaged, too large, or would write outside of `root`.
pub fn unpack(file: File, root: &Path) -> Result<()> {
    unpack_within(file, root, LIMITS)
}

/// Packs the content of a directory as a tar, links as they are. Names in the tar begin with `prefix`, a directory
/// that already exists where the tar is unpacked.
pub fn pack(root: &Path, prefix: &str, to: File) -> Result<File> {
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
    let mut archive = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o755);
        archive.append_data(&mut header, Path::new(prefix).join(name), text.as_bytes())?;
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
