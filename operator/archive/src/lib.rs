//! Code that comes as a zip or tar.gz archive from the web.
//!
//! Fetched, held against the manifest's SHA-256, unpacked; and packed again as the tar that an
//! instance is claimed with. An archive is not trusted: no entry may land outside the directory, no
//! link may lead out of it, and what it unpacks to is bounded. Nothing from it is run here. Local
//! mode unpacks on the laptop, gateways for the pods of a cluster. `package` makes such archives.

mod package;

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

pub use package::Package;

/// The vendor's limit for unpacked code, 250 MiB; packed code cannot be larger either.
const UNPACKED_LIMIT: u64 = 250 * 1024 * 1024;
/// More files than any function has; a bound against archives made to exhaust a disk.
const ENTRY_LIMIT: usize = 50_000;
const FETCH_LIMIT: Duration = Duration::from_secs(300);

/// Fetches an archive into a temporary file in `directory`.
///
/// # Errors
/// Name the field of the manifest's `archive`: `url` or `sha256`.
pub fn fetch(url: &str, expected: &str, directory: &Path) -> Result<File> {
    // The machine's own certificates: a company's server is signed by the company.
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
    unpack_within(file, root, UNPACKED_LIMIT)
}

/// Packs what a directory holds as a tar whose names begin with `prefix`, which is there already
/// where it is unpacked.
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

/// Packs files that are given by name and text, as [`pack`] does; all may be read and executed.
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

fn unpack_within(mut file: File, root: &Path, limit: u64) -> Result<()> {
    let mut magic = [0; 4];
    let known = file.read_exact(&mut magic);
    file.rewind()?;
    let mut target = Target {
        root: root.to_owned(),
        left: limit,
        entries: 0,
    };
    match (known, magic) {
        (Ok(()), [b'P', b'K', ..]) => unzip(file, &mut target),
        (Ok(()), [0x1f, 0x8b, ..]) => untar(GzDecoder::new(file), &mut target),
        _ => bail!("url: it is neither a zip nor a tar.gz file"),
    }
}

fn unzip(file: File, target: &mut Target) -> Result<()> {
    let mut archive = zip::ZipArchive::new(file).context("url: the zip file is damaged")?;
    for index in 0..archive.len() {
        let mut entry = archive
            .by_index(index)
            .context("url: the zip file is damaged")?;
        let name = entry.name().context("url: a damaged name")?;
        let name = PathBuf::from(name.into_owned());
        let mode = entry.unix_mode().unwrap_or(0o644);
        if entry.is_dir() {
            target.directory(&name)?;
        } else if entry.is_symlink() {
            let mut link = String::new();
            (&mut entry)
                .take(4096)
                .read_to_string(&mut link)
                .context("url: a damaged link")?;
            target.link(&name, Path::new(&link))?;
        } else {
            target.file(&name, mode, &mut entry)?;
        }
    }
    Ok(())
}

fn untar(stream: impl Read, target: &mut Target) -> Result<()> {
    let mut archive = tar::Archive::new(stream);
    for entry in archive
        .entries()
        .context("url: the tar.gz file is damaged")?
    {
        let mut entry = entry.context("url: the tar.gz file is damaged")?;
        let name = entry.path().context("url: a damaged name")?.into_owned();
        let mode = entry.header().mode().unwrap_or(0o644);
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            target.directory(&name)?;
        } else if kind.is_symlink() {
            let link = entry
                .link_name()
                .context("url: a damaged link")?
                .unwrap_or_default();
            target.link(&name, &link)?;
        } else if kind.is_file() {
            target.file(&name, mode, &mut entry)?;
        } else if !kind.is_pax_global_extensions() {
            bail!(
                "url: {} is neither a file, a directory nor a symbolic link",
                name.display()
            );
        }
    }
    Ok(())
}

/// The directory that an archive may write to, and how much.
struct Target {
    root: PathBuf,
    left: u64,
    entries: usize,
}

impl Target {
    fn directory(&mut self, name: &Path) -> Result<()> {
        let path = self.place(name)?;
        Ok(fs::create_dir_all(path)?)
    }

    fn file(&mut self, name: &Path, mode: u32, content: &mut impl Read) -> Result<()> {
        let path = self.place(name)?;
        // Never through what an earlier entry made: `create_new` follows no link.
        let mut file = File::create_new(&path)
            .with_context(|| format!("url: {} cannot be unpacked", name.display()))?;
        let written = io::copy(&mut content.take(self.left + 1), &mut file)
            .with_context(|| format!("url: {} is damaged", name.display()))?;
        ensure!(
            written <= self.left,
            "url: it unpacks to more than its limit of 250 MiB"
        );
        self.left -= written;
        let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
        Ok(file.set_permissions(fs::Permissions::from_mode(mode))?)
    }

    fn link(&mut self, name: &Path, to: &Path) -> Result<()> {
        let path = self.place(name)?;
        let depth = name
            .components()
            .filter(|c| matches!(c, Component::Normal(_)))
            .count()
            - 1;
        ensure!(
            stays_inside(to, depth),
            "url: the link {} leads out of the archive",
            name.display()
        );
        symlink(to, path).with_context(|| format!("url: {} cannot be unpacked", name.display()))
    }

    /// Where an entry goes, with its parents made.
    fn place(&mut self, name: &Path) -> Result<PathBuf> {
        self.entries += 1;
        ensure!(
            self.entries <= ENTRY_LIMIT,
            "url: it holds more than {ENTRY_LIMIT} files"
        );
        let mut path = self.root.clone();
        for component in name.components() {
            match component {
                // A link as a parent could undo the depth that `link` counted.
                Component::Normal(_) if path.is_symlink() => {
                    bail!("url: {} lies below a link", name.display())
                }
                Component::Normal(part) => path.push(part),
                Component::CurDir => {}
                _ => bail!(
                    "url: {} would land outside the code's directory",
                    name.display()
                ),
            }
        }
        if path == self.root {
            return Ok(path);
        }
        fs::create_dir_all(path.parent().expect("it lies below the root"))?;
        Ok(path)
    }
}

/// Whether a link that lies in so many folders never goes above the root, wherever its text leads.
fn stays_inside(to: &Path, mut depth: usize) -> bool {
    to.components().all(|component| {
        let next = match component {
            Component::Normal(_) => Some(depth + 1),
            Component::CurDir => Some(depth),
            Component::ParentDir => depth.checked_sub(1),
            Component::RootDir | Component::Prefix(_) => None,
        };
        depth = next.unwrap_or(depth);
        next.is_some()
    })
}

#[cfg(test)]
mod tests;
