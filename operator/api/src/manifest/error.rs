//! Words what is wrong with a manifest for the person who wrote it.
//!
//! Fed by serde-saphyr's errors and the path serde was on; the newtypes bring their own texts.
//! Owns the form `file:line:column: field: what to do`. Never shows a parser's or a Rust type's
//! own words where a known case can be said plainly.

use std::path::PathBuf;

use serde_path_to_error::{Path, Segment};
use serde_saphyr::{DefaultMessageFormatter, Error, MessageFormatter};

use super::Manifest;

/// One thing wrong in one document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}:{column}: {}{message}", .file.display(), prefix(.field))]
pub struct ManifestError {
    /// The file as the caller named it.
    pub file: PathBuf,
    /// Line in the file, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
    /// Dotted path, such as `spec.memory`; empty when no single field is at fault.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl ManifestError {
    /// No runtime has the name in the manifest; `why`: the reason and what to do.
    pub fn unknown_runtime(manifest: &Manifest, why: String) -> Self {
        let (line, column) = manifest.runtime_at;
        Self {
            file: manifest.file.clone(),
            line,
            column,
            field: "spec.runtime".to_owned(),
            message: why,
        }
    }

    pub(super) fn taken_name(manifest: &Manifest, first: &Manifest) -> Self {
        let name = &manifest.function.metadata.name;
        let Manifest {
            file, line, column, ..
        } = first;
        Self {
            file: manifest.file.clone(),
            line: manifest.line,
            column: manifest.column,
            field: "metadata.name".to_owned(),
            message: format!(
                "`{name}` is already the function at {}:{line}:{column}: rename one of them",
                file.display()
            ),
        }
    }
}

/// The field at fault, and what to tell about it; one line that a terminal can be given.
pub(super) fn explain(error: &Error, path: &Path) -> (String, String) {
    let (field, message) = word(error, path);
    (visible(&field), visible(&message))
}

/// Values and keys are quoted in errors, whatever they hold.
fn visible(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default())
        } else {
            line.push(c)
        }
    }
    line
}

fn word(error: &Error, path: &Path) -> (String, String) {
    let field = dotted(path);
    match error {
        Error::AliasError { error, .. } => word(error, path),
        Error::SerdeMissingField { field: missing, .. } => {
            (join(&field, missing), "is missing: add it".to_owned())
        }
        Error::DuplicateMappingKey { key: Some(key), .. } => (
            join(&field, key),
            "is set twice: remove one of them".to_owned(),
        ),
        Error::SerdeUnknownField {
            field: unknown,
            expected,
            ..
        } => (
            field,
            format!("is not a field: {}", offer(unknown, expected)),
        ),
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => (
            field,
            format!("must be {}, got `{variant}`", expected.join(" or ")),
        ),
        // Of what is no text itself, a key is not.
        Error::QuotingRequired { .. }
        | Error::NullIntoString { .. }
        | Error::Unexpected {
            expected: "string scalar",
            ..
        } if field.is_empty() => (
            field,
            "has a key that is not text: its keys are apiVersion, kind, metadata, spec".to_owned(),
        ),
        other => match explain_value(other) {
            Some(message) => (field, message),
            // The path ends before what the parser could not read.
            None => (
                String::new(),
                format!("is not valid YAML: {}", FORMAT.format_message(other)),
            ),
        },
    }
}

/// What is wrong with a value, if the YAML around it could be read.
fn explain_value(error: &Error) -> Option<String> {
    let message = match error {
        Error::Message { msg, .. } => msg,
        // A null where a word is due arrives as a `~` to be quoted.
        Error::QuotingRequired { value, .. } if value == "~" => {
            "has no value: give it one or remove it"
        }
        Error::QuotingRequired { value, .. } => {
            return Some(format!(
                "`{value}` is not text: put it in quotes, \"{value}\""
            ));
        }
        Error::NullIntoString { .. } => "must be text, got nothing: write \"\" for an empty text",
        Error::Unexpected {
            expected: "mapping start",
            ..
        } => "must be a mapping: lines of `name: value`, or {} for none",
        Error::Unexpected {
            expected: "sequence start",
            ..
        } => "must be a list: lines of `- value`, or [] for none",
        Error::Unexpected {
            expected: "string scalar",
            ..
        } => "must be text, not a list or a mapping",
        Error::ExternallyTaggedEnumExpectedScalarOrMapping { .. } => "must be a single word",
        _ => return None,
    };
    Some(message.to_owned())
}

const FORMAT: DefaultMessageFormatter = DefaultMessageFormatter;

fn prefix(field: &str) -> String {
    if field.is_empty() {
        String::new()
    } else {
        format!("{field}: ")
    }
}

/// The known fields, the likeliest first if one is near.
fn offer(unknown: &str, known: &[&str]) -> String {
    let unknown = unknown.to_lowercase();
    let distance = |name: &&&str| strsim::damerau_levenshtein(&name.to_lowercase(), &unknown);
    let near = known
        .iter()
        .min_by_key(distance)
        .filter(|name| distance(name) <= 2);
    let all = known.join(", ");
    match near {
        Some(name) => format!("did you mean `{name}`? The fields here are {all}"),
        None => format!("the fields here are {all}"),
    }
}

/// The path without what serde could not name and without the document itself.
fn dotted(path: &Path) -> String {
    path.iter()
        .fold(String::new(), |field, segment| match segment {
            Segment::Unknown => field,
            Segment::Seq { .. } => format!("{field}{segment}"),
            Segment::Map { .. } | Segment::Enum { .. } => join(&field, &segment.to_string()),
        })
}

fn join(field: &str, name: &str) -> String {
    if field.is_empty() {
        name.to_owned()
    } else {
        format!("{field}.{name}")
    }
}
