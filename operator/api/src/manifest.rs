//! Reads manifests: YAML text to functions and schedules, or to every document's error with its place.
//!
//! `document` cuts the stream, serde-saphyr and the types of `function` and `schedule` parse each document, and `error`
//! describes what went wrong. Local mode passes the text of its files and runs the functions that this
//! returns. Nothing is opened or looked up here.

mod document;
mod error;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pilotlight_core::shown_url::has_user_info;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_saphyr::{Location, Spanned};

use self::document::Document;
pub use self::error::ManifestError;
use crate::code::InvalidCode;
use crate::destination::{Destination, InvalidDestination};
use crate::function::{ApiVersion, Function};
use crate::schedule::Schedule;

/// The limit of what aliases expand to, in parser events: more than a manifest needs, and quick to parse.
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
    /// Line and column of `spec.runtime`, for the caller, who knows which runtimes exist.
    pub runtime_at: (u64, u64),
}

/// A valid schedule and the places of what only a caller can check.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleManifest {
    pub schedule: Schedule,
    /// The file as the caller named it.
    pub file: PathBuf,
    /// Line and column of `metadata.name`.
    pub name_at: (u64, u64),
    /// Line and column of `spec`.
    pub spec_at: (u64, u64),
}

/// What a file has, in its order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Documents {
    pub functions: Vec<Manifest>,
    pub schedules: Vec<ScheduleManifest>,
}

impl ScheduleManifest {
    /// The error for a field of the spec whose form is right; `why`: what is wrong with it and what to do.
    pub fn wrong(&self, field: &str, why: String) -> ManifestError {
        self.error(self.spec_at, field, why)
    }

    /// The error for a name that another schedule has.
    pub fn taken_name(&self, first: &ScheduleManifest) -> ManifestError {
        let name = &self.schedule.metadata.name;
        let ((line, column), file) = (first.name_at, first.file.display());
        let why = format!(
            "`{name}` is already the schedule at {file}:{line}:{column}: rename one of them"
        );
        self.error(self.name_at, "metadata.name", why)
    }

    fn error(&self, (line, column): (u64, u64), field: &str, message: String) -> ManifestError {
        ManifestError {
            file: self.file.clone(),
            line,
            column,
            field: field.to_owned(),
            message,
        }
    }
}

impl Manifest {
    /// The error for a runtime that does not exist; `why`: the reason and what to do.
    pub fn unknown_runtime(&self, why: String) -> ManifestError {
        let (line, column) = self.runtime_at;
        ManifestError {
            file: self.file.clone(),
            line,
            column,
            field: "spec.runtime".to_owned(),
            message: why,
        }
    }

    fn taken_name(&self, first: &Manifest) -> ManifestError {
        let name = &self.function.metadata.name;
        let Manifest {
            file, line, column, ..
        } = first;
        ManifestError {
            file: self.file.clone(),
            line: self.line,
            column: self.column,
            field: "metadata.name".to_owned(),
            message: format!(
                "`{name}` is already the function at {}:{line}:{column}: rename one of them",
                file.display()
            ),
        }
    }
}

/// What is read first, so that the error for a document of another kind names the kind and not its fields.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    #[serde(rename = "apiVersion")]
    _api_version: ApiVersion,
    kind: AnyKind,
    metadata: Option<HeaderMetadata>,
}

#[derive(Deserialize)]
enum AnyKind {
    Function,
    Schedule,
}

#[derive(Deserialize)]
struct SpecPlace {
    spec: Spanned<IgnoredAny>,
}

#[derive(Deserialize)]
struct HeaderMetadata {
    name: Option<Spanned<IgnoredAny>>,
}

/// The place of the runtime. It is read after the function was found valid.
#[derive(Deserialize)]
struct RuntimePlace {
    spec: RuntimeField,
}

#[derive(Deserialize)]
struct RuntimeField {
    runtime: Spanned<IgnoredAny>,
}

/// The places of the functions that are destinations, for a function that names itself.
#[derive(Deserialize)]
struct DestinationPlaces {
    spec: AsyncField,
}

#[derive(Deserialize)]
struct AsyncField {
    #[serde(default, rename = "async")]
    asynchronous: AsyncPlaces,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AsyncPlaces {
    on_success: Option<FunctionPlace>,
    on_failure: Option<FunctionPlace>,
}

#[derive(Deserialize)]
struct FunctionPlace {
    function: Option<Spanned<IgnoredAny>>,
}

/// Refuses in new manifests what objects that are stored already may have: a watch reads those with the types of
/// `function`. This is read after the function was found valid.
#[derive(Deserialize)]
struct NewManifest {
    #[serde(rename = "spec")]
    _spec: NewSpec,
}

#[derive(Deserialize)]
struct NewSpec {
    #[serde(rename = "code")]
    _code: NewCode,
    #[serde(rename = "layers", default)]
    _layers: Vec<NewArchive>,
}

#[derive(Deserialize)]
struct NewCode {
    #[serde(rename = "archive")]
    _archive: Option<NewArchive>,
}

#[derive(Deserialize)]
struct NewArchive {
    #[serde(rename = "url")]
    _url: NewUrl,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct NewUrl;

impl TryFrom<String> for NewUrl {
    type Error = InvalidCode;

    fn try_from(url: String) -> Result<Self, InvalidCode> {
        match has_user_info(&url) {
            true => Err(InvalidCode::UserInfo),
            false => Ok(NewUrl),
        }
    }
}

/// Reads the functions of one file in their order, and skips empty documents and schedules.
///
/// `file` only names the text in errors and results; it is not opened.
///
/// # Errors
/// One error for each document that is not valid: the first thing wrong with it.
pub fn read(file: &Path, text: &str) -> Result<Vec<Manifest>, Vec<ManifestError>> {
    read_all(file, text).map(|documents| documents.functions)
}

/// The same with the schedules.
///
/// # Errors
/// As [`read`].
pub fn read_all(file: &Path, text: &str) -> Result<Documents, Vec<ManifestError>> {
    let mut documents = Documents::default();
    let mut errors = Vec::new();
    for document in document::split(text) {
        if let Err(error) = read_document(file, &document, &mut documents) {
            errors.push(error);
        }
    }
    if errors.is_empty() {
        Ok(documents)
    } else {
        Err(errors)
    }
}

/// The functions whose name an earlier one already has, across files.
///
/// Different namespaces do not help, because the address of an invocation holds only the name.
pub fn duplicates(manifests: &[Manifest]) -> Vec<ManifestError> {
    let mut firsts = BTreeMap::new();
    let mut errors = Vec::new();
    for manifest in manifests {
        let name = &manifest.function.metadata.name;
        let first = *firsts.entry(name).or_insert(manifest);
        if !std::ptr::eq(first, manifest) {
            errors.push(manifest.taken_name(first));
        }
    }
    errors
}

fn read_document(
    file: &Path,
    document: &Document<'_>,
    documents: &mut Documents,
) -> Result<(), ManifestError> {
    let header: Header = parse(file, document)?;
    match header.kind {
        AnyKind::Function => {
            let function = read_function(file, document, header.metadata)?;
            documents.functions.push(function);
        }
        AnyKind::Schedule => {
            let schedule = read_schedule(file, document, header.metadata)?;
            documents.schedules.push(schedule);
        }
    }
    Ok(())
}

fn read_schedule(
    file: &Path,
    document: &Document<'_>,
    metadata: Option<HeaderMetadata>,
) -> Result<ScheduleManifest, ManifestError> {
    let schedule = parse(file, document)?;
    let place: SpecPlace = parse(file, document)?;
    let name = metadata.and_then(|metadata| metadata.name);
    let at = |place: Location| (document.lines_before + place.line(), place.column());
    Ok(ScheduleManifest {
        schedule,
        file: file.to_owned(),
        name_at: at(name.expect("a valid schedule has a name").referenced),
        spec_at: at(place.spec.referenced),
    })
}

fn read_function(
    file: &Path,
    document: &Document<'_>,
    metadata: Option<HeaderMetadata>,
) -> Result<Manifest, ManifestError> {
    let function: Function = parse(file, document)?;
    let name = metadata.and_then(|metadata| metadata.name);
    let at = name.expect("a valid function has a name").referenced;
    let NewManifest { .. } = parse(file, document)?;
    no_circle(file, document, &function)?;
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

/// Refuses a function that is its own destination.
fn no_circle(
    file: &Path,
    document: &Document<'_>,
    function: &Function,
) -> Result<(), ManifestError> {
    let destinations = function.spec.asynchronous.destinations();
    let own = |destination: &Destination| matches!(destination, Destination::Function(name) if *name == function.metadata.name);
    let found = destinations
        .filter(|(_, destination)| own(destination))
        .map(|(field, _)| field)
        .next();
    let Some(field) = found else {
        return Ok(());
    };
    let DestinationPlaces { spec } = parse(file, document)?;
    let place = match field {
        "onSuccess" => spec.asynchronous.on_success,
        _ => spec.asynchronous.on_failure,
    };
    let at = place.and_then(|place| place.function);
    let at = at.map_or(Location::UNKNOWN, |function| function.referenced);
    Err(ManifestError {
        file: file.to_owned(),
        line: document.lines_before + at.line().max(1),
        column: at.column().max(1),
        field: format!("spec.async.{field}.function"),
        message: InvalidDestination::Itself.to_string(),
    })
}

/// `no_schema` refuses `A: 5` and `A: no` where text is expected, as the API server does.
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
