//! A list that pip installs from, line by line, and the forms of requirements.
//!
//! `pyproject` and `poetry` write the lines from a lock; `pyproject` writes the files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::paths::{lexical, relative};

/// Lines for pip.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) requirements: Vec<String>,
    pub(super) constraints: Vec<String>,
    /// The folders and files that the lines name.
    pub(super) paths: BTreeSet<PathBuf>,
}

impl Lines {
    /// Adds a library by its path, which is relative to `folder`.
    pub(super) fn path(&mut self, code: &Path, folder: &Path, path: &str, rest: &str) {
        let whole = lexical(folder, path);
        let way = relative(code, &whole);
        self.paths.insert(whole);
        self.requirements.push(format!("./{}{rest}", way.display()));
    }

    /// Adds an index other than Python's own.
    pub(super) fn index(&mut self, url: &str, code: &Path, folder: &Path) {
        if url.is_empty() || url.trim_end_matches('/') == "https://pypi.org/simple" {
            return;
        }
        let line = if url.contains("://") {
            format!("--extra-index-url {url}")
        } else {
            let whole = lexical(folder, url);
            let line = format!("--find-links {}", relative(code, &whole).display());
            self.paths.insert(whole);
            line
        };
        if !self.requirements.contains(&line) {
            self.requirements.push(line);
        }
    }
}

pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub(super) fn strings(value: &Value) -> impl Iterator<Item = &str> {
    list(value).filter_map(Value::as_str)
}

pub(super) fn bracketed(extras: &[&str]) -> String {
    match extras {
        [] => String::new(),
        extras => format!("[{}]", extras.join(",")),
    }
}

pub(super) fn after_semicolon(marker: Option<&str>) -> String {
    marker
        .map(|marker| format!(" ; {marker}"))
        .unwrap_or_default()
}

pub(super) fn from_git(
    name: &str,
    extras: &str,
    url: &str,
    commit: &str,
    folder: Option<&str>,
) -> String {
    let folder = folder
        .map(|folder| format!("#subdirectory={folder}"))
        .unwrap_or_default();
    format!("{name}{extras} @ git+{url}@{commit}{folder}")
}

/// The name that a requirement begins with.
pub(super) fn name_of(requirement: &str) -> &str {
    let is_name =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let requirement = requirement.trim_start();
    let end = requirement.find(|letter| !is_name(letter));
    &requirement[..end.unwrap_or(requirement.len())]
}

/// The extras `[a,b]` of a requirement; empty without any.
pub(super) fn extras_of(requirement: &str) -> String {
    let rest = requirement.trim_start()[name_of(requirement).len()..].trim_start();
    let end = rest.find(']').filter(|_| rest.starts_with('['));
    end.map(|end| rest[..=end].replace(' ', ""))
        .unwrap_or_default()
}

/// The normal form by which indexes compare names.
pub(super) fn normal(name: &str) -> String {
    name.to_lowercase().replace(['_', '.'], "-")
}
