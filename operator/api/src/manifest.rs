//! Reads manifests: YAML text to functions, or to every document's error with its place.
//!
//! `document` cuts the stream, serde-saphyr and the types of `function` parse each document,
//! `error` words what went wrong. Local mode feeds it files it has read and runs what it
//! returns; nothing is opened or looked up here.

mod document;
mod error;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_saphyr::{Location, Spanned};

use self::document::Document;
pub use self::error::ManifestError;
use crate::function::{ApiVersion, Function, Kind};

/// Of all that aliases stand for: more than a manifest repeats, and too little to take long.
const ALIAS_LIMIT: usize = 10_000;

/// A valid function and the place of its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    pub function: Function,
    /// The file as the caller named it.
    pub file: PathBuf,
    /// Line of `metadata.name`, from 1.
    pub line: u64,
    /// Column of `metadata.name`, in characters from 1.
    pub column: u64,
    /// Line and column of `spec.runtime`: which runtimes there are, only the caller knows.
    pub runtime_at: (u64, u64),
}

/// What is read first: a document of another kind is told so, not that its fields are unknown.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    #[serde(rename = "apiVersion")]
    _api_version: ApiVersion,
    #[serde(rename = "kind")]
    _kind: Kind,
    metadata: Option<HeaderMetadata>,
}

#[derive(Deserialize)]
struct HeaderMetadata {
    name: Option<Spanned<IgnoredAny>>,
}

/// Where the runtime is named; read once the function is known to be valid.
#[derive(Deserialize)]
struct RuntimePlace {
    spec: RuntimeField,
}

#[derive(Deserialize)]
struct RuntimeField {
    runtime: Spanned<IgnoredAny>,
}

/// Reads the functions of one file, in their order; empty documents are skipped.
///
/// `file` only names the text in errors and results; it is not opened.
///
/// # Errors
/// One error for each document that is not a valid function: the first thing wrong with it.
pub fn read(file: &Path, text: &str) -> Result<Vec<Manifest>, Vec<ManifestError>> {
    let mut manifests = Vec::new();
    let mut errors = Vec::new();
    for document in document::split(text) {
        match read_document(file, &document) {
            Ok(manifest) => manifests.push(manifest),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(manifests)
    } else {
        Err(errors)
    }
}

/// The functions whose name another one took before, across files.
///
/// Namespaces do not keep them apart: an invocation's address holds the name only.
pub fn duplicates(manifests: &[Manifest]) -> Vec<ManifestError> {
    let mut firsts = BTreeMap::new();
    let mut errors = Vec::new();
    for manifest in manifests {
        let name = &manifest.function.metadata.name;
        let first = *firsts.entry(name).or_insert(manifest);
        if !std::ptr::eq(first, manifest) {
            errors.push(ManifestError::taken_name(manifest, first));
        }
    }
    errors
}

fn read_document(file: &Path, document: &Document<'_>) -> Result<Manifest, ManifestError> {
    let header: Header = parse(file, document)?;
    let function = parse(file, document)?;
    let name = header.metadata.and_then(|metadata| metadata.name);
    let at = name.expect("a valid function has a name").referenced;
    let place: RuntimePlace = parse(file, document)?;
    let runtime = place.spec.runtime.referenced;
    Ok(Manifest {
        function,
        file: file.to_owned(),
        line: document.lines_before + at.line(),
        column: at.column(),
        runtime_at: (document.lines_before + runtime.line(), runtime.column()),
    })
}

/// `no_schema` refuses `A: 5` and `A: no` where text is due, as the API server would.
fn parse<T: DeserializeOwned>(file: &Path, document: &Document<'_>) -> Result<T, ManifestError> {
    let options = serde_saphyr::options! {
        no_schema: true,
        reject_unsupported_tags: true,
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: ALIAS_LIMIT,
        },
    };
    let mut track = serde_path_to_error::Track::new();
    serde_saphyr::with_deserializer_from_str_with_options(document.text, options, |yaml| {
        T::deserialize(serde_path_to_error::Deserializer::new(yaml, &mut track))
    })
    .map_err(|error| {
        let at = error.location().unwrap_or(Location::UNKNOWN);
        let (field, message) = error::explain(&error, &track.path());
        ManifestError {
            file: file.to_owned(),
            line: document.lines_before + at.line().max(1),
            column: at.column().max(1),
            field,
            message,
        }
    })
}
