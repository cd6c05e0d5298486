//! Explains what is wrong with a manifest to the person who wrote it.
//!
//! Fed with serde-saphyr's errors and the path of the field; the newtypes bring their own messages. Owns the
//! form `file:line:column: field: what to do`. Never shows the words of a parser or of a Rust type for an error
//! that it knows.

use std::borrow::Cow;
use std::path::PathBuf;

use serde_path_to_error::{Path, Segment};
use serde_saphyr::{DefaultMessageFormatter, Error, MessageFormatter};

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

/// The field at fault, and the message about it, without control characters.
pub(super) fn explain(error: &Error, path: &Path) -> (String, String) {
    let (field, message) = word(error, path);
    (visible(&field), visible(&message))
}

/// Escapes control characters, because errors quote values and keys.
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
        // The error is about a key, because values have a field.
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
        // The parser reports a null instead of a word as a `~` without quotes.
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

/// The known fields, after the most similar one if there is one.
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

/// The path without unnamed segments and without the document itself.
fn dotted(path: &Path) -> String {
    path.iter()
        .fold(String::new(), |field, segment| match segment {
            Segment::Unknown => field,
            Segment::Seq { .. } => format!("{field}{segment}"),
            Segment::Map { .. } | Segment::Enum { .. } => join(&field, &segment.to_string()),
        })
}

/// Puts a name that has nothing to see in quotes.
fn join(field: &str, name: &str) -> String {
    let name = match name.trim().is_empty() {
        true => Cow::Owned(format!("\"{name}\"")),
        false => Cow::Borrowed(name),
    };
    if field.is_empty() {
        name.into_owned()
    } else {
        format!("{field}.{name}")
    }
}
