//! Whether compiled code can be loaded in an instance, judged by the version of the C library that it needs.
//!
//! Fed by `package` with what goes into an archive. The images are Debian bookworm
//! (runtime-image/images.toml). Programs and libraries that were built on a newer system fail there with
//! messages that are hard to understand.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Result};
use pilotlight_archive::Package;

/// The images' version of glibc.
pub(super) const OF_IMAGES: &str = "2.36";
const NEWEST: u32 = 36;
const ELF: &[u8] = b"\x7fELF";
const SYMBOL_VERSION: &[u8] = b"GLIBC_2.";

/// Each file that needs a newer version than the images have, with that version.
pub(super) fn too_new(package: &Package) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for (name, file) in package.files() {
        let version = wanted(file).with_context(|| file.display().to_string())?;
        if let Some(version) = version.filter(|version| *version > NEWEST) {
            found.push((name.to_owned(), format!("2.{version}")));
        }
    }
    Ok(found)
}

/// The newest version that is named in a program or library.
fn wanted(file: &Path) -> io::Result<Option<u32>> {
    let mut file = File::open(file)?;
    let mut content = Vec::new();
    (&mut file)
        .take(ELF.len() as u64)
        .read_to_end(&mut content)?;
    if content != ELF {
        return Ok(None);
    }
    file.read_to_end(&mut content)?;
    Ok(newest(&content))
}

fn newest(content: &[u8]) -> Option<u32> {
    let mut versions = Vec::new();
    for (at, _) in content
        .windows(SYMBOL_VERSION.len())
        .enumerate()
        .filter(|(_, window)| *window == SYMBOL_VERSION)
    {
        let digits = content[at + SYMBOL_VERSION.len()..].iter();
        let digits: String = digits
            .take_while(|byte| byte.is_ascii_digit())
            .map(|byte| char::from(*byte))
            .collect();
        versions.extend(digits.parse::<u32>().ok());
    }
    versions.into_iter().max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_counts_and_only_of_programs() {
        let folder = tempfile::tempdir().expect("a directory");
        let write = |name: &str, content: &[u8]| {
            std::fs::write(folder.path().join(name), content).expect("written");
        };
        write("new.so", b"\x7fELF..GLIBC_2.2.5\0GLIBC_2.38\0GLIBC_PRIVATE");
        write("old.so", b"\x7fELF..GLIBC_2.34\0");
        write("static", b"\x7fELF");
        write("notes", b"it needs GLIBC_2.38");
        write("empty", b"");
        let mut package = Package::default();
        package.add(folder.path(), "", |_| false).expect("packed");
        let found = too_new(&package).expect("read");
        assert_eq!(found, [("new.so".to_owned(), "2.38".to_owned())]);
    }
}
