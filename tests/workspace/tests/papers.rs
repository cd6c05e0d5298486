//! Comments and docs refer to what exists: sections, rules, links, files, durations.

use std::path::Path;

use pilotlight_workspace_tests::tree::{self, File};
use pilotlight_workspace_tests::{durations, papers};

/// Texts in which somebody may cite something.
const CITING: [&str; 15] = [
    "Dockerfile",
    "cs",
    "go",
    "java",
    "js",
    "md",
    "mjs",
    "py",
    "rb",
    "rs",
    "sh",
    "toml",
    "tpl",
    "yaml",
    "yml",
];
const CONTRACT: &str = "docs/contract.md";
const TIMEOUTS: &str = "docs/timeouts.md";
/// Has bad citations as examples.
const READERS: [&str; 2] = [
    "tests/workspace/src/papers.rs",
    "tests/workspace/tests/papers.rs",
];

#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn text<'a>(files: &'a [File], path: &str) -> &'a str {
    let file = files.iter().find(|file| file.path == path);
    &file.unwrap_or_else(|| panic!("{path} exists")).text
}

#[test]
fn every_citation_names_a_section_or_a_rule_that_exists() {
    let files = tree::files("");
    let known = papers::Citable::read(text(&files, CONTRACT), text(&files, "docs/design.md"));
    assert_eq!(Vec::from_iter(known.rules.clone()), Vec::from_iter(1..=8));
    assert!(known.sections.len() > 5, "{known:?}");
    let is_citing = |file: &&File| {
        let is_script = !file.path.contains('.') && file.text.starts_with("#!");
        let is_named = file.path.ends_with("Makefile") || file.path.ends_with("Dockerfile");
        !READERS.contains(&&*file.path) && (file.has_extension(&CITING) || is_script || is_named)
    };
    let mut faults = Vec::new();
    for file in files.iter().filter(is_citing) {
        // The contract refers to its own sections by their numbers alone.
        let own = file
            .text
            .replace('§', "contract §")
            .replace("contract contract", "contract");
        let text = if file.path == CONTRACT {
            &own
        } else {
            &file.text
        };
        let found = known.faults(text);
        faults.extend(
            found
                .into_iter()
                .map(|fault| format!("{}: {fault}", file.path)),
        );
    }
    assert_none(&faults);
}

/// The path without `.` and `..`.
fn resolved(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

#[test]
fn every_link_leads_to_a_file_and_to_a_heading_in_it() {
    let files = tree::files("");
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| file.has_extension(&["md"])) {
        for (path, anchor) in papers::links(&file.text) {
            let target = match path.is_empty() {
                true => file.path.clone(),
                false => resolved(folder(&file.path), &path),
            };
            if !tree::root().join(&target).exists() {
                faults.push(format!("{}: ({path}) does not exist", file.path));
            } else if !anchor.is_empty()
                && !papers::anchors(text(&files, &target)).contains(&anchor)
            {
                faults.push(format!("{}: {target} has no heading #{anchor}", file.path));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn every_file_that_docs_name_exists() {
    let files = tree::files("");
    let is_doc = |file: &&File| file.has_extension(&["md"]) && !file.path.starts_with(".github/");
    let mut faults = Vec::new();
    for file in files.iter().filter(is_doc) {
        let folder = match folder(&file.path) {
            "" => String::new(),
            folder => format!("{folder}/"),
        };
        for path in papers::named_paths(&file.text) {
            if !papers::is_there(&path, &folder, &files) {
                faults.push(format!("{}: `{path}` does not exist", file.path));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn every_type_of_the_glossary_exists_in_its_crate() {
    let files = tree::files("");
    let types = papers::named_types(text(&files, "docs/glossary.md"));
    assert!(types.len() > 15, "the tables are read");
    let is_missing = |(place, name): &(&str, String)| {
        let mut sources = files.iter().filter(|file| file.path.starts_with(place));
        !sources.any(|file| papers::defines(&file.text, name))
    };
    let missing = types.into_iter().filter(is_missing);
    let missing = missing.map(|(place, name)| format!("docs/glossary.md: {place} has no {name}"));
    assert_none(&Vec::from_iter(missing));
}

#[test]
fn all_that_names_a_licence_names_the_same() {
    let files = tree::files("");
    let workspace = text(&files, "Cargo.toml");
    assert!(workspace.contains("license = \"Apache-2.0\"\n"));
    assert!(text(&files, "LICENSE").contains("Apache License\n"));
    let chart = text(&files, "charts/pilotlight/Chart.yaml");
    assert!(chart.contains("artifacthub.io/license: Apache-2.0\n"));
    let crates = files
        .iter()
        .filter(|file| file.path.ends_with("/Cargo.toml"));
    let is_ours = |file: &&File| file.text.contains("version.workspace = true");
    let silent = crates
        .filter(is_ours)
        .filter(|file| !file.text.contains("license.workspace"));
    let silent = silent.map(|file| format!("{} has no license.workspace", file.path));
    assert_none(&Vec::from_iter(silent));
}

#[test]
fn every_row_of_the_timeouts_is_what_its_file_says() {
    let files = tree::files("");
    let rows = durations::rows(text(&files, TIMEOUTS));
    assert!(rows.len() > 40, "the tables are read");
    let mut faults = durations::doubles(&rows);
    for row in rows {
        let Some(file) = files.iter().find(|file| file.path == row.path) else {
            faults.push(format!("{TIMEOUTS}: {} has no file {}", row.name, row.path));
            continue;
        };
        let found = match Path::new(&row.path).extension() {
            Some(extension) if extension == "rs" => durations::of_source(&file.text).0,
            _ => Vec::new(),
        };
        let values = found.iter().find(|one| one.name == row.name);
        let is_there = match values {
            Some(found) => row.says(&found.values),
            // Seconds as a number, or a field of the chart.
            None => file.text.contains(&row.name),
        };
        if !is_there {
            faults.push(format!(
                "{TIMEOUTS}: {} in {} is not {}",
                row.name, row.path, row.value
            ));
        }
    }
    assert_none(&faults);
}

#[test]
fn every_duration_that_ships_has_a_row() {
    let files = tree::files("");
    let rows = durations::rows(text(&files, TIMEOUTS));
    let ships = |file: &&File| {
        let is_source = ["operator/", "runtime-image/"]
            .iter()
            .any(|part| file.path.starts_with(part));
        is_source && file.has_extension(&["rs"]) && !file.is_test()
    };
    let mut faults = Vec::new();
    for file in files.iter().filter(ships) {
        let (found, nameless) = durations::of_source(&file.text);
        let is_listed = |name: &str| {
            rows.iter()
                .any(|row| row.name == name && row.path == file.path)
        };
        for one in found.iter().filter(|one| !is_listed(&one.name)) {
            faults.push(format!(
                "{TIMEOUTS} needs a row: | `{}` | `{}` | {} | What it bounds. | fixed |",
                one.name,
                file.path,
                one.values.join(", ")
            ));
        }
        faults.extend(nameless.iter().map(|line| {
            format!(
                "{}: name this duration, and give it a row in {TIMEOUTS}: {line}",
                file.path
            )
        }));
    }
    assert_none(&faults);
}
