//! Code that comes as a zip or tar.gz archive from the web.
//!
//! Fetched, held against the manifest's SHA-256, unpacked; and packed again as the tar that an
//! instance is claimed with. An archive is not trusted: no entry may land outside the directory, no
//! link may lead out of it, and what it unpacks to is bounded. Nothing from it is run here. Local
//! mode unpacks on the laptop, gateways for the pods of a cluster. `package` makes such archives.

mod package;

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};
use zip::ZipReadOptions;
use zip::unstable::read::ZipIterable;

pub use package::Package;

/// The vendor's limit for unpacked code, 250 MiB; packed code cannot be larger either.
const UNPACKED_LIMIT: u64 = 250 * 1024 * 1024;
/// More files than any function has; a bound against archives made to exhaust a disk.
const ENTRY_LIMIT: usize = 50_000;
/// Of what a tar has beside its files: of one entry's names and attributes, which its reader takes into
/// memory, and of all entries'.
const NAME_LIMIT: u64 = 1024 * 1024;
const NAMES_LIMIT: u64 = 128 * 1024 * 1024;
const LIMITS: Limits = Limits {
    bytes: UNPACKED_LIMIT,
    entries: ENTRY_LIMIT,
};
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
    unpack_within(file, root, LIMITS)
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

/// What an archive may unpack to.
#[derive(Clone, Copy, Debug)]
struct Limits {
    bytes: u64,
    entries: usize,
}

fn unpack_within(mut file: File, root: &Path, limits: Limits) -> Result<()> {
    let mut magic = [0; 4];
    let known = file.read_exact(&mut magic);
    file.rewind()?;
    let mut target = Target {
        root: root.to_owned(),
        left: limits,
    };
    match (known, magic) {
        (Ok(()), [b'P', b'K', ..]) => unzip(file, &mut target),
        (Ok(()), [0x1f, 0x8b, ..]) => untar(MultiGzDecoder::new(file), &mut target),
        _ => bail!("url: it is neither a zip nor a tar.gz file"),
    }
}

/// Entry by entry: who reads the list of them into memory at once has a large one to read first.
fn unzip(file: File, target: &mut Target) -> Result<()> {
    const DAMAGED: &str = "url: the zip file is damaged";
    let contents = file.try_clone()?;
    let archive = ZipIterable::try_new(file, zip::read::Config::default());
    let mut archive = archive.context(DAMAGED)?;
    let entries = archive.files_with_reader(contents, ZipReadOptions::default());
    let mut entries = entries.context(DAMAGED)?;
    while let Some(entry) = entries.next() {
        let mut entry = entry.context(DAMAGED)?;
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
    const DAMAGED: &str = "url: the tar.gz file is damaged";
    let may_read = Rc::new(Cell::new(0));
    let mut archive = tar::Archive::new(Metered {
        stream,
        may_read: may_read.clone(),
    });
    let mut entries = archive.entries().context(DAMAGED)?;
    let mut names_left = NAMES_LIMIT;
    loop {
        let before = names_left.min(NAME_LIMIT);
        may_read.set(before);
        let Some(entry) = entries.next() else {
            return Ok(());
        };
        let mut entry = entry.context(DAMAGED)?;
        names_left -= before - may_read.get();
        // Of a file, as much as the target takes.
        may_read.set(u64::MAX);
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
}

/// A stream of which so much may be read.
struct Metered<R> {
    stream: R,
    may_read: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        let left = self.may_read.get().checked_sub(read as u64);
        let left = left.ok_or_else(|| io::Error::other("it has too long names or attributes"))?;
        self.may_read.set(left);
        Ok(read)
    }
}

/// The directory that an archive may write to, and how much.
struct Target {
    root: PathBuf,
    left: Limits,
}

impl Target {
    fn directory(&mut self, name: &Path) -> Result<()> {
        match self.place(name)? {
            Some(path) => self.folder(&path, name),
            None => Ok(()),
        }
    }

    fn file(&mut self, name: &Path, mode: u32, content: &mut impl Read) -> Result<()> {
        let path = self.place_of_its_own(name)?;
        let refused = || format!("url: {} cannot be unpacked", name.display());
        // Never through what an earlier entry made: `create_new` follows no link.
        let file = match File::create_new(&path) {
            // The later one of two, as other tools have it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_file(&path) => {
                fs::remove_file(&path).with_context(refused)?;
                File::create_new(&path)
            }
            created => created,
        };
        let mut file = file.with_context(refused)?;
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

    fn link(&mut self, name: &Path, to: &Path) -> Result<()> {
        let path = self.place_of_its_own(name)?;
        let folders = name
            .components()
            .filter(|c| matches!(c, Component::Normal(_)))
            .count()
            - 1;
        ensure!(
            stays_inside(to, folders),
            "url: the link {} leads out of the archive, or goes up again on its way",
            name.display()
        );
        symlink(to, path).with_context(|| format!("url: {} cannot be unpacked", name.display()))
    }

    /// Where a file or a link goes: not the root itself.
    fn place_of_its_own(&mut self, name: &Path) -> Result<PathBuf> {
        self.count()?;
        let place = self.place(name)?;
        place.with_context(|| format!("url: `{}` is no name of a file", name.display()))
    }

    /// Where an entry goes, with its parents made; `None` for the root.
    fn place(&mut self, name: &Path) -> Result<Option<PathBuf>> {
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

    /// Makes a directory whose parents are there.
    fn folder(&mut self, path: &Path, name: &Path) -> Result<()> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => Ok(()),
            // A link as a parent could undo the depth that `link` counted.
            Ok(found) if found.is_symlink() => {
                bail!("url: {} lies below a link", name.display())
            }
            Ok(_) => bail!("url: {} lies below a file", name.display()),
            Err(_) => {
                self.count()?;
                let made = fs::create_dir(path);
                made.with_context(|| format!("url: {} cannot be unpacked", name.display()))
            }
        }
    }

    /// One more, on the disk.
    fn count(&mut self) -> Result<()> {
        let left = self.left.entries.checked_sub(1);
        self.left.entries = left.with_context(|| {
            format!("url: it holds more than {ENTRY_LIMIT} files and directories")
        })?;
        Ok(())
    }
}

fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
}

/// Whether a link that lies in so many folders never goes above the root, whatever other links it
/// leads through. So it goes up only to begin with, where no link is: after a name, which may be a
/// link's, `..` is not what the text says.
fn stays_inside(to: &Path, folders: usize) -> bool {
    let (mut up, mut is_down) = (0, false);
    to.components().all(|component| match component {
        Component::CurDir => true,
        Component::Normal(_) => {
            is_down = true;
            true
        }
        Component::ParentDir => {
            up += 1;
            !is_down && up <= folders
        }
        Component::RootDir | Component::Prefix(_) => false,
    })
}

/// A way in for `fuzz/`: with limits that its archives can reach.
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
        super::unpack_within(file, root, super::Limits { bytes, entries })
    }
}

#[cfg(test)]
mod tests;
