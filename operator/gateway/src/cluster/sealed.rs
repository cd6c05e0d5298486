//! Files of the cache with the SHA-256 of their content behind it.
//!
//! The digest is made while the content is, from the archive that was just verified. So a file that is damaged later
//! does not fit its digest, and the instance that gets it refuses it. `codes` writes such files, `claim` sends them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use pilotlight_core::instance::parts::{Digest, Hasher};

/// Writes a file, and its seal at the end.
#[derive(Debug)]
pub(super) struct Sealing {
    file: File,
    hasher: Hasher,
}

impl Sealing {
    pub(super) fn new(file: File) -> Self {
        let hasher = Hasher::default();
        Sealing { file, hasher }
    }

    pub(super) fn seal(mut self) -> io::Result<()> {
        self.file.write_all(&self.hasher.digest().to_bytes())
    }
}

impl Write for Sealing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.take(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A sealed file, open at its beginning.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) file: File,
    /// The size of the content.
    pub(super) bytes: u64,
    /// The digest that the content should have. It may have been damaged since.
    pub(super) sha256: Digest,
}

impl Sealed {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let bytes = length.checked_sub(Digest::BYTES as u64);
        let bytes = bytes.ok_or_else(|| io::Error::other("the file has no seal"))?;
        let mut sha256 = [0; Digest::BYTES];
        file.read_exact_at(&mut sha256, bytes)?;
        let sha256 = Digest::from_bytes(sha256);
        Ok(Sealed {
            file,
            bytes,
            sha256,
        })
    }

    /// A whole file that has no seal, because its digest is known from elsewhere.
    pub(super) fn named(path: &Path, sha256: Digest) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Sealed {
            file,
            bytes,
            sha256,
        })
    }

    /// Reads the whole content, and compares it with the seal.
    pub(super) fn is_intact(&self) -> io::Result<bool> {
        let mut content = (&self.file).take(self.bytes);
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match content.read(&mut buffer)? {
                0 => return Ok(hasher.digest() == self.sha256),
                read => hasher.take(&buffer[..read]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_file_names_its_content_and_notices_a_change_of_any_byte() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut sealing = Sealing::new(File::create(&path).unwrap());
        sealing.write_all(b"hel").unwrap();
        sealing.write_all(b"lo").unwrap();
        sealing.seal().unwrap();
        let sealed = Sealed::open(&path).unwrap();
        assert_eq!((sealed.bytes, sealed.sha256), (5, Digest::of(b"hello")));
        assert!(sealed.is_intact().unwrap());

        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            assert!(!Sealed::open(&path).unwrap().is_intact().unwrap(), "{at}");
        }
        for end in 0..whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            let intact = Sealed::open(&path).and_then(|sealed| sealed.is_intact());
            assert!(!intact.unwrap_or(false), "{end} bytes");
        }
    }
}
