//! Poetry's lock, as lines for pip.
//!
//! Fed by `pyproject` with the project and its lock. The lock does not mark development dependencies, so the
//! requirements are read from the project, in either of the forms that Poetry reads.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::pip::{
    Lines, after_semicolon, bracketed, extras_of, from_git, list, name_of, normal, strings,
};

/// All versions of each package, by name.
type Locked<'a> = BTreeMap<String, Vec<&'a Value>>;

pub(super) fn read(code: &Path, project: &Value, lock: &Value) -> Result<Lines> {
    let mut locked = Locked::new();
    for package in list(&lock["package"]) {
        let name = package["name"].as_str().map(normal).unwrap_or_default();
        locked.entry(name).or_default().push(package);
    }
    let mut lines = Lines::default();
    let mut open = Vec::new();
    for (name, extras, marker) in needed(project) {
        let package = locked.get(&name).and_then(|found| found.first());
        let package = package
            .with_context(|| format!("poetry.lock: it does not have {name}: run `poetry lock`"))?;
        require(&mut lines, code, package, &extras, &after_semicolon(marker));
        open.push(name);
    }
    follow(&mut lines, code, &locked, open);
    pin(&mut lines, code, &locked);
    Ok(lines)
}

/// Names, extras and markers of the project's own requirements.
fn needed(project: &Value) -> Vec<(String, String, Option<&str>)> {
    let mut needed = Vec::new();
    for requirement in strings(&project["project"]["dependencies"]) {
        let (wanted, marker) = match requirement.split_once(';') {
            Some((wanted, marker)) => (wanted, Some(marker.trim())),
            None => (requirement, None),
        };
        needed.push((normal(name_of(wanted)), extras_of(wanted), marker));
    }
    let more = project["tool"]["poetry"]["dependencies"].as_object();
    for (name, wanted) in more.into_iter().flatten() {
        // Entries for several versions differ only in version and marker.
        let wanted = wanted.get(0).unwrap_or(wanted);
        let name = normal(name);
        let is_known = name == "python" || needed.iter().any(|(known, _, _)| *known == name);
        if wanted["optional"] != true && !is_known {
            let extras: Vec<&str> = strings(&wanted["extras"]).collect();
            needed.push((name, bracketed(&extras), wanted["markers"].as_str()));
        }
    }
    needed
}

/// Lists indirect requirements that come from no index, since pip would look for them in an index.
fn follow(lines: &mut Lines, code: &Path, locked: &Locked, mut open: Vec<String>) {
    let mut at = 0;
    while let Some(name) = open.get(at).cloned() {
        at += 1;
        let packages = locked.get(&name).into_iter().flatten();
        let next = packages.filter_map(|package| package["dependencies"].as_object());
        for next in next.flat_map(|next| next.keys()).map(|name| normal(name)) {
            if open.contains(&next) {
                continue;
            }
            let package = locked.get(&next).and_then(|found| found.first());
            if let Some(package) = package.filter(|package| !is_from_index(package)) {
                require(lines, code, package, "", "");
            }
            open.push(next);
        }
    }
}

fn pin(lines: &mut Lines, code: &Path, locked: &Locked) {
    for (name, found) in locked {
        for package in found.iter().filter(|package| is_from_index(package)) {
            let url = package["source"]["url"].as_str();
            lines.index(url.unwrap_or_default(), code, code);
            let version = package["version"].as_str().unwrap_or_default();
            let marker = package["markers"].as_str();
            if found.len() == 1 || marker.is_some() {
                let marker = after_semicolon(marker.filter(|_| found.len() > 1));
                lines.constraints.push(format!("{name}=={version}{marker}"));
            }
        }
    }
}

fn is_from_index(package: &Value) -> bool {
    matches!(package["source"]["type"].as_str(), None | Some("legacy"))
}

fn require(lines: &mut Lines, code: &Path, package: &Value, extras: &str, marker: &str) {
    let name = package["name"].as_str().unwrap_or_default();
    let source = &package["source"];
    let url = source["url"].as_str().unwrap_or_default();
    let line = match source["type"].as_str() {
        Some("directory" | "file") => {
            return lines.path(code, code, url, &format!("{extras}{marker}"));
        }
        Some("git") => {
            let commit = source["resolved_reference"].as_str().unwrap_or_default();
            from_git(name, extras, url, commit, source["subdirectory"].as_str()) + marker
        }
        Some("url") => format!("{name}{extras} @ {url}{marker}"),
        _ => format!("{name}{extras}{marker}"),
    };
    lines.requirements.push(line);
}
