//! Files that may be absent, and relative paths.
//!
//! Used by every reader of a list of libraries. Computes paths from their text alone, without following links.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};

pub(super) fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | IsADirectory)
}

/// The text of a file; `None` if it does not exist.
pub(super) fn text(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// A path relative to a directory, computed from the text alone: `..` removes a name.
pub(super) fn lexical(base: &Path, path: &str) -> PathBuf {
    let mut result = PathBuf::new();
    for part in base.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                result.pop();
            }
            part => result.push(part),
        }
    }
    result
}

/// The relative path from a directory to another path; both are absolute.
pub(super) fn relative(from: &Path, to: &Path) -> PathBuf {
    let (mut from, mut to) = (from.components().peekable(), to.components().peekable());
    while from.peek().is_some() && from.peek() == to.peek() {
        from.next();
        to.next();
    }
    let mut way: PathBuf = from.map(|_| Component::ParentDir).collect();
    way.extend(to);
    match way.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => way,
    }
}

/// The path in a `file:` URL or similar, with `%20` and the like decoded.
pub(super) fn of_url(url: &str) -> String {
    let path = url.split(['#', '?']).next().unwrap_or(url);
    let path = path.strip_prefix("//localhost").unwrap_or(path);
    let path = match path.strip_prefix("///") {
        Some(path) => format!("/{path}"),
        None => path.to_owned(),
    };
    let mut decoded = Vec::new();
    let mut bytes = path.as_bytes().iter();
    while let Some(&byte) = bytes.next() {
        let pair = bytes.as_slice().get(..2).filter(|_| byte == b'%');
        let code = pair.and_then(|pair| std::str::from_utf8(pair).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                bytes.nth(1);
            }
            None => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_computed_from_their_text() {
        for (base, path, expected) in [
            ("/a/b", "../c/./d", "/a/c/d"),
            ("/a", "/x", "/x"),
            ("/a", ".", "/a"),
        ] {
            assert_eq!(lexical(Path::new(base), path), Path::new(expected));
        }
        for (from, to, way) in [
            ("/a/b", "/a/c/d", "../c/d"),
            ("/a", "/a", "."),
            ("/a", "/a/b", "b"),
        ] {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(way));
        }
    }

    #[test]
    fn a_file_url_is_a_path() {
        for (url, path) in [
            ("///abs/my%20lib", "/abs/my lib"),
            ("//localhost/abs", "/abs"),
            ("../shared#egg=shared", "../shared"),
            ("./a%zz", "./a%zz"),
        ] {
            assert_eq!(of_url(url), path);
        }
    }
}
