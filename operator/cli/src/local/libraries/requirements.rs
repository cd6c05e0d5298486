//! `requirements.txt` and the files that it names: other lists, constraints, folders, wheels.
//!
//! Fed by `pyproject` with the path of a list. Read as pip reads it: lines continue after a `\`, `#`
//! begins a comment, a list in a list is relative to that one and a library's path to the working
//! directory, which is the code's. An editable library (`-e`) is installed as a copy, since an archive
//! holds copies. pip reports its own errors.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::inputs::Inputs;
use super::paths::{lexical, of_url, relative};

/// A file or folder that a line refers to.
#[derive(Debug, PartialEq)]
enum Reference {
    /// Another list, relative to this one.
    List(String),
    /// A library, relative to the working directory.
    Library(String),
    /// A folder of archives, relative to this list or to the working directory.
    Links(String),
}

/// A line as pip sees it.
#[derive(Debug, PartialEq)]
struct Line {
    /// The number of its first line in the file, from 1.
    number: usize,
    text: String,
}

/// Adds a list and everything that it refers to.
pub(super) fn add(inputs: &mut Inputs, list: &Path, seen: &mut BTreeSet<PathBuf>) -> Result<()> {
    if !seen.insert(list.to_owned()) {
        return Ok(());
    }
    let content = fs::read(list).with_context(|| list.display().to_string())?;
    let text = decoded(&content);
    let folder = list.parent().unwrap_or(list).to_owned();
    for line in lines(&text) {
        for reference in references(&line.text) {
            let place = || {
                let name = relative(&inputs.code, list);
                format!("{}:{}", name.display(), line.number)
            };
            match reference {
                Reference::List(path) => {
                    let path = lexical(&folder, &path);
                    if !path.is_file() {
                        bail!("{}: {} is not there", place(), path.display());
                    }
                    add(inputs, &path, seen)?;
                }
                Reference::Library(path) => {
                    let (place, whole) = (place(), lexical(&inputs.code, &path));
                    if !inputs.path(&whole)? {
                        bail!(
                            "{place}: {path} is not there; pip looks for it from {}",
                            inputs.code.display()
                        );
                    }
                }
                Reference::Links(path) => {
                    let beside = lexical(&folder, &path);
                    let path = match beside.exists() {
                        true => beside,
                        false => lexical(&inputs.code, &path),
                    };
                    // Pip ignores a folder that does not exist.
                    inputs.path(&path)?;
                }
            }
        }
    }
    let content = match text.contains("-e") {
        true => without_editable(&text).into_bytes(),
        false => content,
    };
    inputs.file(list.to_owned(), content);
    Ok(())
}

/// Bytes as pip decodes them.
fn decoded(content: &[u8]) -> String {
    let utf16 = |bytes: &[u8], of: fn([u8; 2]) -> u16| {
        let units = bytes.chunks_exact(2).map(|pair| of([pair[0], pair[1]]));
        String::from_utf16_lossy(&units.collect::<Vec<_>>())
    };
    match content {
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        // PowerShell's `pip freeze > requirements.txt` writes UTF-16.
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        content => String::from_utf8_lossy(content).into_owned(),
    }
}

fn lines(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut open: Option<Line> = None;
    for (at, text) in text.lines().enumerate() {
        let is_comment = text.trim_start().starts_with('#');
        let mut line = open.take().unwrap_or(Line {
            number: at + 1,
            text: String::new(),
        });
        match text.strip_suffix('\\').filter(|_| !is_comment) {
            Some(text) => {
                line.text.push_str(text);
                open = Some(line);
            }
            None => {
                if !is_comment {
                    line.text.push_str(text);
                }
                lines.push(line);
            }
        }
    }
    lines.extend(open);
    for line in &mut lines {
        line.text = without_comment(&line.text).trim().to_owned();
    }
    lines.retain(|line| !line.text.is_empty());
    lines
}

/// The line without its comment. A `#` inside a word belongs to a URL.
fn without_comment(text: &str) -> &str {
    let mut before = ' ';
    for (at, letter) in text.char_indices() {
        if letter == '#' && before.is_whitespace() {
            return &text[..at];
        }
        before = letter;
    }
    text
}

fn references(line: &str) -> Vec<Reference> {
    if !line.starts_with('-') {
        return library(line).map(Reference::Library).into_iter().collect();
    }
    let mut found = Vec::new();
    let mut words = words(line).into_iter();
    while let Some(word) = words.next() {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) if word.starts_with("--") => {
                (option.to_owned(), Some(value.to_owned()))
            }
            // `-rbase.txt`
            _ if !word.starts_with("--") && word.len() > 2 && word.is_char_boundary(2) => {
                (word[..2].to_owned(), Some(word[2..].to_owned()))
            }
            _ => (word, None),
        };
        let mut value = || value.clone().or_else(|| words.next()).unwrap_or_default();
        let reference = match option.as_str() {
            "-r" | "--requirement" | "-c" | "--constraint" => local(&value()).map(Reference::List),
            "-e" | "--editable" => library(&value()).map(Reference::Library),
            "-f" | "--find-links" => local(&value()).map(Reference::Links),
            "-i" | "--index-url" | "--extra-index-url" => {
                let url = value();
                let path = url.strip_prefix("file:").map(of_url);
                path.map(Reference::Links)
            }
            _ => None,
        };
        found.extend(reference);
    }
    found
}

/// The words of a line of options, without quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// The path in an option's value, unless that is a remote URL or has a variable in it.
fn local(value: &str) -> Option<String> {
    let path = match value.strip_prefix("file:") {
        Some(url) => of_url(url),
        None if value.contains("://") => return None,
        None => value.to_owned(),
    };
    (!path.is_empty() && !path.contains("${")).then_some(path)
}

/// The path of a requirement that is a folder or an archive on this machine.
fn library(requirement: &str) -> Option<String> {
    let named = requirement
        .split_once(" @ ")
        .map(|(_, url)| url.trim_start());
    let url = named.unwrap_or(requirement);
    let url = url.split(" --").next().unwrap_or(url);
    if let Some(url) = url.strip_prefix("file:") {
        let url = url.split(" ;").next().unwrap_or(url);
        return local(&of_url(without_extras(url.trim())));
    }
    if named.is_some() || requirement.contains("://") {
        return None;
    }
    let path = url.split(';').next().unwrap_or(url).trim();
    let path = without_extras(path.split("#egg=").next().unwrap_or(path));
    let is_archive = [
        ".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar",
    ];
    let is_path = path.starts_with('.')
        || path.starts_with('/')
        || path.contains('/')
        || is_archive.iter().any(|end| path.ends_with(end));
    local(path).filter(|_| is_path)
}

fn without_extras(path: &str) -> &str {
    match path
        .strip_suffix(']')
        .and_then(|path| path.rsplit_once('['))
    {
        Some((path, _)) => path,
        None => path,
    }
}

fn without_editable(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let inner = line.trim_start();
        let rest = inner
            .strip_prefix("--editable=")
            .or_else(|| {
                inner
                    .strip_prefix("--editable")
                    .filter(|rest| rest.starts_with(char::is_whitespace))
            })
            .or_else(|| inner.strip_prefix("-e"));
        result.push_str(rest.map_or(line, str::trim_start));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Vec<Reference> {
        let lines = lines(line);
        lines
            .iter()
            .flat_map(|line| references(&line.text))
            .collect()
    }

    #[test]
    fn lists_and_constraints_are_found_in_every_spelling() {
        for line in [
            "-r base.txt",
            "-rbase.txt",
            "--requirement base.txt",
            "--requirement=base.txt",
            "-c base.txt  # pinned",
            "--constraint=\"base.txt\"",
            "--index-url https://example.com/simple -r base.txt",
            "-r \\\n  base.txt",
            "\u{20}-r base.txt\r\n",
        ] {
            assert_eq!(of(line), [Reference::List("base.txt".to_owned())], "{line}");
        }
        for line in [
            "-r https://example.com/base.txt",
            "# -r base.txt",
            "--require-hashes",
            "-r",
        ] {
            assert_eq!(of(line), [], "{line}");
        }
    }

    #[test]
    fn libraries_with_a_path_are_found_and_others_are_ignored() {
        for (line, path) in [
            ("./lib", "./lib"),
            ("-e ./lib", "./lib"),
            ("-e./lib[extra]", "./lib"),
            ("--editable=../lib", "../lib"),
            ("../lib[a,b]; python_version >= '3.8'", "../lib"),
            (".", "."),
            ("libs/one", "libs/one"),
            (
                "wheels/x-1.0-py3-none-any.whl --hash=sha256:00",
                "wheels/x-1.0-py3-none-any.whl",
            ),
            ("x-1.0.tar.gz", "x-1.0.tar.gz"),
            ("shop @ file:///abs/my%20lib", "/abs/my lib"),
            ("shop[x] @ file:../lib ; python_version > '3'", "../lib"),
            ("file:///abs/lib#egg=shop", "/abs/lib"),
            ("-e ./lib#egg=shop", "./lib"),
        ] {
            assert_eq!(of(line), [Reference::Library(path.to_owned())], "{line}");
        }
        for line in [
            "requests",
            "requests[socks]>=2.0,<3; python_version > '3' # ./lib",
            "shop @ https://example.com/shop-1.0-py3-none-any.whl",
            "-e git+https://example.com/shop.git@main#egg=shop",
            "git+ssh://git@example.com/shop.git",
            "./${LIB}",
        ] {
            assert_eq!(of(line), [], "{line}");
        }
        for line in [
            "-f ./wheels",
            "--find-links=./wheels",
            "--find-links './wheels'",
        ] {
            assert_eq!(
                of(line),
                [Reference::Links("./wheels".to_owned())],
                "{line}"
            );
        }
    }

    #[test]
    fn bytes_are_decoded_as_windows_writes_them() {
        let little: Vec<u8> = "\u{feff}-r a"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let big: Vec<u8> = "\u{feff}-r a"
            .encode_utf16()
            .flat_map(u16::to_be_bytes)
            .collect();
        for bytes in ["\u{feff}-r a".as_bytes(), &little, &big, b"-r a"] {
            assert_eq!(decoded(bytes), "-r a");
        }
    }

    #[test]
    fn an_editable_library_becomes_a_copy() {
        let text = "-e ./a\n  --editable=./b\r\n--editable ./c\nsix\n--extra-index-url x\n";
        let expected = "./a\n./b\r\n./c\nsix\n--extra-index-url x\n";
        assert_eq!(without_editable(text), expected);
    }

    #[test]
    fn lists_that_name_each_other_are_read_once_and_a_missing_file_is_named_with_its_line() {
        let root = tempfile::tempdir().expect("a directory");
        let code = root.path().join("code");
        fs::create_dir_all(code.join("lists")).expect("made");
        fs::create_dir(root.path().join("lib")).expect("made");
        fs::write(code.join("requirements.txt"), "-r lists/base.txt\n").expect("written");
        fs::write(
            code.join("lists/base.txt"),
            "-r ../requirements.txt\n../lib\n",
        )
        .expect("written");
        let read = || {
            let mut inputs = Inputs::of(&code, "requirements.txt");
            add(
                &mut inputs,
                &code.join("requirements.txt"),
                &mut BTreeSet::new(),
            )?;
            anyhow::Ok(inputs)
        };
        let inputs = read().expect("read");
        assert_eq!(inputs.files.len(), 2);
        assert!(inputs.folders.contains(&root.path().join("lib")));
        fs::write(code.join("lists/base.txt"), "six\n-c absent.txt\n").expect("written");
        let error = read().expect_err("not there").to_string();
        assert!(error.starts_with("lists/base.txt:2: "), "{error}");
        fs::write(code.join("lists/base.txt"), "\n\n./absent # gone\n").expect("written");
        let error = read().expect_err("not there").to_string();
        assert!(
            error.starts_with("lists/base.txt:3: ./absent is not there"),
            "{error}"
        );
    }
}
