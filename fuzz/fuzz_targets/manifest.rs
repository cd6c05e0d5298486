//! Manifests: YAML as users write it, and JSON as an API server stores it.
//!
//! An accepted manifest can be written and read again as the same. A refusal names the place in the file, the field
//! and what to do, in one line that is safe to print on a terminal.

#![no_main]

use std::fmt::{Debug, Write};
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pilotlight_api::{
    FunctionSpec, Manifest, ManifestError, ScheduleManifest, ScheduleSpec, WarmPoolSpec,
    duplicates, read, read_all,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|data: &[u8]| {
    json::<FunctionSpec>(data);
    json::<WarmPoolSpec>(data);
    if let Ok(spec) = serde_json::from_slice::<ScheduleSpec>(data) {
        written_and_read(spec);
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // In YAML a single `\r` ends a line as well.
    let lines = text.replace("\r\n", "\n").split(['\n', '\r']).count() as u64;
    match read_all(Path::new("f.yaml"), text) {
        Ok(documents) => {
            for manifest in &documents.functions {
                accepted(manifest, lines);
            }
            for schedule in &documents.schedules {
                accepted_schedule(schedule, lines);
            }
            for error in duplicates(&documents.functions) {
                refused(&error, lines);
            }
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "what is refused has an error");
            for error in &errors {
                refused(error, lines);
            }
        }
    }
});

fn accepted(manifest: &Manifest, lines: u64) {
    for (line, column) in [(manifest.line, manifest.column), manifest.runtime_at] {
        assert!(
            (1..=lines).contains(&line) && column >= 1,
            "{line}:{column}"
        );
    }
    let written = in_ascii(&serde_json::to_string(&manifest.function).expect("plain data"));
    let again = read(Path::new("f.yaml"), &written);
    let again = again.unwrap_or_else(|errors| panic!("{errors:?}\n{written}"));
    assert_eq!(again.len(), 1, "{written}");
    assert_eq!(again[0].function, manifest.function, "{written}");
    let spec = serde_json::to_vec(&manifest.function.spec).expect("plain data");
    let spec: FunctionSpec = serde_json::from_slice(&spec).expect("what is written is read");
    assert_eq!(spec, manifest.function.spec);
}

fn accepted_schedule(manifest: &ScheduleManifest, lines: u64) {
    for (line, column) in [manifest.name_at, manifest.spec_at] {
        assert!(
            (1..=lines).contains(&line) && column >= 1,
            "{line}:{column}"
        );
    }
    written_and_read(manifest.schedule.spec.clone());
}

/// The numbers in an input may differ in their last bit.
fn written_and_read(mut spec: ScheduleSpec) {
    let written = serde_json::to_vec(&spec).expect("plain data");
    let mut read: ScheduleSpec = serde_json::from_slice(&written).expect("what is written is read");
    assert_eq!(read.input.take().is_some(), spec.input.take().is_some());
    assert_eq!(read, spec);
}

/// JSON as YAML, which has neither pairs of surrogates nor unescaped control characters.
fn in_ascii(json: &str) -> String {
    let mut ascii = String::with_capacity(json.len());
    for c in json.chars() {
        match c.is_ascii() && c != '\x7f' {
            true => ascii.push(c),
            false => write!(ascii, "\\U{:08x}", u32::from(c)).expect("a text"),
        }
    }
    ascii
}

fn refused(error: &ManifestError, lines: u64) {
    let told = error.to_string();
    assert!((1..=lines).contains(&error.line), "of {lines}: {told:?}");
    assert!(error.column >= 1, "{told:?}");
    assert!(!told.contains(char::is_control), "{told:?}");
    // A document that is no mapping, no YAML, or has a key that is no text, has no field to name.
    let of_document = [
        "is not valid YAML: ",
        "must be a mapping",
        "has a key that is not text",
    ];
    let is_of_document = of_document
        .iter()
        .any(|said| error.message.starts_with(said));
    assert!(!error.field.is_empty() || is_of_document, "{told:?}");
    assert!(!error.message.is_empty(), "{told:?}");
}

fn json<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(text) {
        let written = serde_json::to_vec(&value).expect("plain data");
        assert_eq!(
            serde_json::from_slice::<T>(&written).expect("read again"),
            value
        );
    }
}
