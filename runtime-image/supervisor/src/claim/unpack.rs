//! The code of a claim, from the connection to the disk.
//!
//! Everything that arrives passes the `Check` of `core::instance::parts`. Tars are unpacked while they arrive. The archives
//! of a pod that was made for one function are unpacked one by one, each when it has its digest. Fed by `claim`, which
//! decides who may bring code.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::body::Body;
use pilotlight_core::instance::parts::{self, Check, OwnArchive, Part, WrongPart};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::clock;

/// Bytes of the tar: 250 MiB for the code and for each of five layers, as on the original platform, and their
/// names.
const CODE_LIMIT: u64 = 2 * 1024 * 1024 * 1024;
/// Pieces of a tar that may wait between the connection and the disk.
const PIECES_IN_TRANSIT: usize = 8;

/// How long a claim may send no byte of its code.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A claim's body.
pub(super) trait ClaimBody:
    Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Unpin
{
}
impl<B: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Unpin> ClaimBody for B {}

/// The content that the body of a claim must have.
pub(super) enum Expected {
    /// Tars, which are compared with the parts that the claim names; `None` if it names none.
    Tars(Option<Check>),
    /// The pod's own archives.
    Archives(Check, Vec<Arriving>),
}

impl Expected {
    /// # Errors
    /// If the claim does not name what it has to bring.
    pub(super) fn of(
        own: Option<&[OwnArchive]>,
        named: Option<&[Part]>,
        needs_parts: bool,
    ) -> anyhow::Result<Self> {
        let Some(named) = named else {
            anyhow::ensure!(
                !needs_parts,
                "a claim needs the digests of its `parts`, which a gateway of an earlier release does not name"
            );
            return Ok(Expected::Tars(None));
        };
        let Some(own) = own else {
            return Ok(Expected::Tars(Some(Check::new(named.to_vec()))));
        };
        let parts = parts::of_own(own, named)?;
        let mut arriving = Vec::new();
        for (archive, part) in own.iter().zip(&parts) {
            let OwnArchive { field, folder, .. } = archive.clone();
            let bytes = part.bytes;
            anyhow::ensure!(
                bytes <= pilotlight_archive::SIZE_LIMIT,
                "{field} has {bytes} bytes, which is more than an archive may have"
            );
            arriving.push(Arriving {
                field,
                folder,
                bytes,
            });
        }
        Ok(Expected::Archives(Check::new(parts), arriving))
    }
}

/// An archive that comes.
pub(super) struct Arriving {
    field: String,
    folder: PathBuf,
    bytes: u64,
}

/// Unpacks the code while it arrives, on another thread, because this one must not wait for disks. Returns how
/// long that took; `None` if there is no code.
pub(super) async fn unpack(
    first: Bytes,
    mut body: impl ClaimBody,
    root: PathBuf,
    expected: Expected,
) -> anyhow::Result<Option<Duration>> {
    let (check, archives) = match expected {
        Expected::Tars(check) => (check, None),
        Expected::Archives(check, archives) => (Some(check), Some(archives)),
    };
    if first.is_empty() && body.is_end_stream() {
        check.map_or(Ok(()), Check::end)?;
        return Ok(None);
    }
    let begun = clock::now();
    let (pieces, received) = mpsc::channel(PIECES_IN_TRANSIT);
    let unpacking = tokio::task::spawn_blocking(move || {
        let mut pieces = PieceReader {
            pieces: received,
            piece: first,
            left: CODE_LIMIT,
            check,
            wrong: None,
        };
        let unpacked = match archives {
            Some(archives) => unpack_archives(&mut pieces, &root, &archives),
            None => unpack_tars(&mut tar::Archive::new(&mut pieces), &root).map_err(Into::into),
        };
        match unpacked {
            // Nothing says whether the rest would matter.
            Err(error) if pieces.check.is_none() && pieces.wrong.is_none() => Err(error),
            // A part that is not what the claim names explains whatever else is wrong with it.
            unpacked => pieces.finish().map_err(Into::into).and(unpacked),
        }
    });
    let (mut broken, mut stalled) = (None, false);
    loop {
        let frame = match timeout(STALL_TIMEOUT, body.frame()).await {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(_) => {
                stalled = true;
                // The thread that unpacks ends at this, and nothing is left behind that writes.
                let _ = pieces.send(Err(())).await;
                break;
            }
        };
        let piece = match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(_trailers)) => continue,
            Err(error) => {
                broken = Some(error);
                Err(())
            }
        };
        // If the unpacking has failed, nothing receives the piece. The cause is returned below.
        if pieces.send(piece).await.is_err() || broken.is_some() {
            break;
        }
    }
    drop(pieces);
    let unpacked = unpacking.await.context("the unpacking panicked")?;
    anyhow::ensure!(!stalled, "no byte of the code came for {STALL_TIMEOUT:?}");
    match broken {
        Some(error) => return Err(error).context("the connection broke within the code"),
        None => unpacked.context("the code cannot be unpacked")?,
    }
    Ok(Some(clock::now() - begun))
}

/// Unpacks each archive when it is complete and has its digest. Until then it lies in the folder for temporary files,
/// which has room for it: the function's own files are not there yet.
fn unpack_archives(
    pieces: &mut PieceReader,
    root: &Path,
    archives: &[Arriving],
) -> anyhow::Result<()> {
    for archive in archives {
        let Arriving { field, bytes, .. } = archive;
        let mut file = unnamed_file(&root.join("tmp")).context("no temporary file")?;
        let size = io::copy(&mut pieces.by_ref().take(*bytes), &mut file)?;
        // `finish` says what is missing.
        anyhow::ensure!(size == *bytes, "{field} is not complete");
        file.rewind()?;
        let folder = root.join(&archive.folder);
        fs::create_dir_all(&folder)?;
        pilotlight_archive::unpack(file, &folder).with_context(|| field.clone())?;
    }
    Ok(())
}

/// An empty file in this folder, which goes when it is closed.
fn unnamed_file(folder: &Path) -> io::Result<File> {
    fs::create_dir_all(folder)?;
    let path = folder.join(".pilotlight-code");
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

fn unpack_tars(archive: &mut tar::Archive<&mut PieceReader>, root: &Path) -> io::Result<()> {
    archive.set_preserve_permissions(true);
    // The tars of code and layers follow each other, each with zeros at its end.
    archive.set_ignore_zeros(true);
    let mut checked = PathBuf::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?;
        let parent = name.parent().unwrap_or(Path::new(""));
        // Most entries lie in the same folder as the entry before, which is checked already.
        if *parent != *checked {
            if lies_below_link(root, parent) {
                return Err(io::Error::other("a name lies below a link"));
            }
            checked = parent.to_owned();
        }
        if !entry.unpack_in(root)? {
            return Err(io::Error::other("a name leads outside"));
        }
    }
    Ok(())
}

/// Whether one of these folders is a link. Code and layers may have links that lead anywhere, so nothing
/// is written through one. The first folder is the image's own.
fn lies_below_link(root: &Path, folder: &Path) -> bool {
    let mut path = root.to_owned();
    folder.components().enumerate().any(|(depth, part)| {
        path.push(part);
        depth > 0 && path.is_symlink()
    })
}

/// The tar's pieces, read on another thread while they arrive.
struct PieceReader {
    pieces: mpsc::Receiver<Result<Bytes, ()>>,
    piece: Bytes,
    left: u64,
    /// `None` if the claim names no parts, or one of them is wrong.
    check: Option<Check>,
    wrong: Option<WrongPart>,
}

impl PieceReader {
    /// Reads the rest, which may be the padding of a tar, and says whether everything was as the claim names it. It
    /// reads on behind a wrong part: a connection that ends with bytes unread is reset, and the gateway would not get the
    /// answer.
    fn finish(mut self) -> io::Result<()> {
        let mut rest = io::copy(&mut self, &mut io::sink());
        if rest.is_err() && self.wrong.is_some() {
            rest = io::copy(&mut self, &mut io::sink());
        }
        let wrong = match (self.wrong, self.check) {
            (Some(wrong), _) => Some(wrong),
            (None, Some(check)) if rest.is_ok() => check.end().err(),
            (None, _) => None,
        };
        match wrong {
            Some(wrong) => Err(io::Error::other(wrong)),
            None => rest.map(drop),
        }
    }
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(())) => return Err(io::ErrorKind::UnexpectedEof.into()),
                None => return Ok(0),
            }
        }
        let size = buffer.len().min(self.piece.len());
        let left = self.left.checked_sub(size as u64);
        self.left =
            left.ok_or_else(|| io::Error::other("it is larger than code and layers may be"))?;
        self.piece.copy_to_slice(&mut buffer[..size]);
        if let Some(check) = &mut self.check
            && let Err(wrong) = check.take(&buffer[..size])
        {
            self.check = None;
            self.wrong = Some(wrong);
            return Err(io::Error::other("it is not what the claim names"));
        }
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_over_the_limit_is_not_read() {
        let (_, pieces) = mpsc::channel(1);
        let piece = Bytes::from_static(b"abcd");
        let mut reader = PieceReader {
            pieces,
            piece,
            left: 3,
            check: None,
            wrong: None,
        };
        let mut buffer = [0; 2];
        assert_eq!(reader.read(&mut buffer).ok(), Some(2));
        assert!(reader.read(&mut buffer).is_err());
    }
}
