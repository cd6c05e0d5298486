//! Zip and tar.gz files, entry by entry, as calls of a `Target`.
//!
//! Fed by `lib` with a fetched file. Decodes names, also those with Windows separators, and supplies the
//! permissions that a zip from another system lacks. `target` decides where an entry may lie; nothing is
//! written here.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::MultiGzDecoder;
use zip::unstable::format::system::System;
use zip::unstable::read::ZipIterable;
use zip::{CompressionMethod, ZipReadOptions};

use crate::limits::Limits;
use crate::target::Target;

/// The most bytes of names and attributes in a tar, which its reader holds in memory: of one entry, and of all.
pub(crate) const NAME_LIMIT: u64 = 1024 * 1024;
const NAMES_LIMIT: u64 = 128 * 1024 * 1024;
/// The kernel's limit for the target of a link, in bytes.
const LINK_LIMIT: u64 = 4096;

/// The bits of a Unix mode that hold the kind of a file.
const KIND: u32 = 0o170_000;
const IS_LINK: u32 = 0o120_000;
const DOS_DIRECTORY: u32 = 0x10;

pub(crate) fn unpack_within(mut file: File, root: &Path, limits: Limits) -> Result<()> {
    let mut magic = [0; 4];
    let known = file.read_exact(&mut magic);
    file.rewind()?;
    let mut target = Target::new(root, limits);
    match (known, magic) {
        (Ok(()), [b'P', b'K', ..]) => unzip(file, &mut target),
        // Python's zipapp and pex, and executable jars: a shebang line, then a zip.
        (Ok(()), [b'#', b'!', ..]) if is_zip(&file)? => unzip(file, &mut target),
        (Ok(()), [0x1f, 0x8b, ..]) => untar(MultiGzDecoder::new(file), &mut target),
        _ => bail!("url: it is neither a zip nor a tar.gz file"),
    }
}

fn is_zip(file: &File) -> Result<bool> {
    let read = ZipIterable::try_new(file.try_clone()?, zip::read::Config::default());
    let is_zip = read.is_ok();
    let mut file = file;
    file.rewind()?;
    Ok(is_zip)
}

/// Reads entry by entry: the central directory of a hostile archive may be too large for memory.
fn unzip(file: File, target: &mut Target) -> Result<()> {
    const DAMAGED: &str = "url: the zip file is damaged";
    let mut contents = file.try_clone()?;
    let archive = ZipIterable::try_new(file, zip::read::Config::default());
    let mut archive = archive.context(DAMAGED)?;
    for entry in archive.files().context(DAMAGED)? {
        let entry = entry.context(DAMAGED)?;
        let text = entry.name().context("url: a damaged name")?.into_owned();
        let name = zipped_name(&text)?;
        let (system, attributes) = (entry.system(), entry.external_attributes());
        let is_folder = system == System::Dos && attributes & DOS_DIRECTORY != 0;
        let mode = attributes >> 16;
        if entry.is_dir() || is_folder {
            target.directory(&name)?;
            continue;
        }
        ensure!(
            !entry.encrypted(),
            "url: {text} is encrypted: make the zip file again without a password"
        );
        let method = entry.compression();
        ensure!(
            matches!(
                method,
                CompressionMethod::Stored | CompressionMethod::Deflated
            ),
            "url: {text} is compressed by {}, which is not read here: make the zip file again with \
             deflate, the method of `zip`, of Python's zipfile and of `7z -mm=Deflate`",
            method_name(method)
        );
        let content = entry.with_reader(&mut contents, ZipReadOptions::default());
        let mut content = content.context(DAMAGED)?;
        if mode & KIND == IS_LINK {
            let mut link = Vec::new();
            let read = (&mut content).take(LINK_LIMIT).read_to_end(&mut link);
            read.context("url: a damaged link")?;
            target.link(&name, Path::new(&OsString::from_vec(link)))?;
        } else {
            target.file(&name, permissions(system, mode), &mut content)?;
        }
    }
    Ok(())
}

/// A zip from Windows may separate folders by `\`, which is read as `/` in all archives.
fn zipped_name(text: &str) -> Result<PathBuf> {
    let name = text.replace('\\', "/");
    let of_drive =
        matches!(name.as_bytes(), [letter, b':', b'/', ..] if letter.is_ascii_alphabetic());
    ensure!(
        !of_drive && !text.starts_with("\\\\"),
        "url: {text} is a whole path of Windows: make the zip file from inside of the code's folder, \
         so that its names begin there"
    );
    let name = match text.starts_with('\\') {
        true => name.trim_start_matches('/'),
        false => &name,
    };
    Ok(PathBuf::from(name))
}

/// If no permissions are recorded every file is made executable, since Windows does not mark programs.
fn permissions(system: System, mode: u32) -> u32 {
    let is_unix = matches!(system, System::Unix | System::OsDarwin);
    match is_unix && mode & 0o777 != 0 {
        true => mode,
        false => 0o755,
    }
}

fn method_name(method: CompressionMethod) -> String {
    // A compression method that is not built in has only a number.
    #[allow(deprecated)]
    let number = method.to_u16();
    let name = match number {
        9 => "deflate64 (as Windows Explorer does with files above 2 GiB)",
        12 => "bzip2",
        14 => "LZMA",
        93 => "zstd",
        95 => "xz",
        98 => "PPMd",
        99 => "AES",
        _ => return format!("method {number}"),
    };
    name.to_owned()
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
        // `target` bounds the size of files.
        may_read.set(u64::MAX);
        let name = entry.path().context("url: a damaged name")?.into_owned();
        let mode = entry.header().mode().unwrap_or(0o644);
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            target.directory(&name)?;
        } else if kind.is_symlink() || kind.is_hard_link() {
            let to = entry.link_name().context("url: a damaged link")?;
            let to = to.unwrap_or_default();
            match kind.is_symlink() {
                true => target.link(&name, &to)?,
                false => target.copy_of(&name, &to)?,
            }
        } else if kind.is_file() {
            target.file(&name, mode, &mut entry)?;
        } else if !kind.is_pax_global_extensions() {
            bail!(
                "url: {} is neither a file, a directory nor a link",
                name.display()
            );
        }
    }
}

/// A stream from which at most `may_read` bytes may be read; the owner of the cell may raise it.
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
