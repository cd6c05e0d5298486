//! Python's lists of libraries: `requirements.txt`; without one the lock of uv, Poetry or Pipenv; without one the
//! dependencies in `pyproject.toml`.
//!
//! Fed by `libraries`; `requirements` reads the first, and the others become such a file, so that pip
//! installs all of them. A lock's versions become constraints: pip may leave out a package, for example one for
//! another system, but installs no other version of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::inputs::Inputs;
use super::paths::{lexical, text};
use super::pip::{Lines, after_semicolon, bracketed, from_git, list, name_of, strings};
use super::{poetry, requirements};

const LIST: &str = "requirements.txt";
const PROJECT: &str = "pyproject.toml";
/// The file of constraints, beside the list for pip.
const CONSTRAINTS: &str = ".locked.txt";

pub(super) fn read(code: &Path) -> Result<Option<Inputs>> {
    let list = code.join(LIST);
    if list.is_file() {
        let mut inputs = Inputs::of(code, LIST);
        requirements::add(&mut inputs, &list, &mut BTreeSet::new())?;
        return Ok(Some(inputs));
    }
    let project = table(&code.join(PROJECT))?;
    let found = match project {
        Some(project) => of_project(code, &project)?,
        None => None,
    };
    let found = match found {
        None => pipenv(code)?.map(|lines| ("Pipfile.lock", lines)),
        found => found,
    };
    let Some((name, mut lines)) = found.filter(|(_, lines)| !lines.requirements.is_empty()) else {
        return Ok(None);
    };
    let mut inputs = Inputs::of(code, name);
    for path in &lines.paths {
        if !inputs.path(path)? {
            bail!("{name}: {} is not there", path.display());
        }
    }
    lines.requirements.insert(0, format!("-c {CONSTRAINTS}"));
    let text = |lines: Vec<String>| -> Vec<u8> {
        let lines = lines.into_iter().map(|line| line + "\n");
        lines.collect::<String>().into_bytes()
    };
    inputs.file(list, text(lines.requirements));
    inputs.file(code.join(CONSTRAINTS), text(lines.constraints));
    Ok(Some(inputs))
}

fn of_project(code: &Path, project: &Value) -> Result<Option<(&'static str, Lines)>> {
    if let Some((folder, lock)) = uv_lock(code)? {
        return Ok(Some(("uv.lock", uv(code, &folder, &lock)?)));
    }
    if let Some(lock) = table(&code.join("poetry.lock"))? {
        return Ok(Some(("poetry.lock", poetry::read(code, project, &lock)?)));
    }
    // `pyproject.toml` pins no versions.
    let mut lines = Lines::default();
    for requirement in strings(&project["project"]["dependencies"]) {
        let source = &project["tool"]["uv"]["sources"][name_of(requirement)];
        match source["path"].as_str() {
            Some(path) => lines.path(code, code, path, ""),
            None => lines.requirements.push(requirement.to_owned()),
        }
    }
    if lines.requirements.is_empty() && project["tool"]["poetry"]["dependencies"].is_object() {
        let own = project["tool"]["poetry"]["dependencies"].as_object();
        if own.is_some_and(|own| own.keys().any(|name| name != "python")) {
            bail!(
                "{PROJECT}: [tool.poetry] without a poetry.lock: run `poetry lock`, or write a \
                 requirements.txt"
            );
        }
    }
    Ok(Some((PROJECT, lines)))
}

/// The lock beside the code, or a lock above it whose workspace has the code as a member.
fn uv_lock(code: &Path) -> Result<Option<(PathBuf, Value)>> {
    for folder in code.ancestors() {
        let Some(lock) = table(&folder.join("uv.lock"))? else {
            continue;
        };
        if folder == code || uv_root(code, folder, &lock).is_some() {
            return Ok(Some((folder.to_owned(), lock)));
        }
    }
    Ok(None)
}

fn uv_root<'a>(code: &Path, folder: &Path, lock: &'a Value) -> Option<&'a Value> {
    let mut packages = list(&lock["package"]);
    packages.find(|package| {
        let source = &package["source"];
        let path = ["virtual", "editable", "directory"].map(|kind| source[kind].as_str());
        let path = path.into_iter().flatten().next();
        path.is_some_and(|path| lexical(folder, path) == code)
    })
}

/// Lists the project's own requirements and packages that come from no index; pins everything they need.
fn uv(code: &Path, folder: &Path, lock: &Value) -> Result<Lines> {
    let root = uv_root(code, folder, lock);
    let root = root.context("uv.lock: it does not have this project: run `uv lock`")?;
    let mut lines = Lines::default();
    let mut open: Vec<(&Value, bool)> =
        list(&root["dependencies"]).map(|one| (one, true)).collect();
    let mut seen = BTreeSet::new();
    let mut at = 0;
    while let Some(&(dependency, is_direct)) = open.get(at) {
        at += 1;
        let extras: Vec<&str> = strings(&dependency["extra"]).collect();
        let named = list(&lock["package"]).filter(|package| package["name"] == dependency["name"]);
        let named: Vec<&Value> = named.collect();
        for &package in &named {
            let version = &dependency["version"];
            if version.is_string() && package["version"] != *version {
                continue;
            }
            let is_new = seen.insert(format!(
                "{} {} {extras:?}",
                package["name"], package["version"]
            ));
            let is_from_index = package["source"]["registry"].is_string();
            if is_direct || (is_new && !is_from_index) {
                let marker = dependency["marker"].as_str();
                uv_requirement(
                    &mut lines,
                    code,
                    folder,
                    package,
                    &bracketed(&extras),
                    marker,
                );
            }
            if !is_new {
                continue;
            }
            if let Some(index) = package["source"]["registry"].as_str() {
                lines.index(index, code, folder);
                lines
                    .constraints
                    .extend(uv_constraint(package, named.len() == 1));
            }
            let more = extras
                .iter()
                .flat_map(|extra| list(&package["optional-dependencies"][*extra]));
            let next = list(&package["dependencies"]).chain(more);
            open.extend(next.map(|one| (one, false)));
        }
    }
    Ok(lines)
}

/// `is_only`: no other version is in the lock. Otherwise markers say which systems a version is for.
fn uv_constraint(package: &Value, is_only: bool) -> Option<String> {
    let (name, version) = (package["name"].as_str()?, package["version"].as_str()?);
    if is_only {
        return Some(format!("{name}=={version}"));
    }
    let markers: Vec<&str> = strings(&package["resolution-markers"]).collect();
    (!markers.is_empty()).then(|| format!("{name}=={version} ; {}", markers.join(" or ")))
}

fn uv_requirement(
    lines: &mut Lines,
    code: &Path,
    folder: &Path,
    package: &Value,
    extras: &str,
    marker: Option<&str>,
) {
    let name = package["name"].as_str().unwrap_or_default();
    let source = &package["source"];
    let marker = after_semicolon(marker);
    let local = ["editable", "directory", "path"].map(|kind| source[kind].as_str());
    if let Some(path) = local.into_iter().flatten().next() {
        lines.path(code, folder, path, &format!("{extras}{marker}"));
    } else if let Some(git) = source["git"].as_str() {
        let (url, commit) = git.split_once('#').unwrap_or((git, ""));
        let (url, query) = url.split_once('?').unwrap_or((url, ""));
        let inner = query
            .split('&')
            .find_map(|part| part.strip_prefix("subdirectory="));
        let line = from_git(name, extras, url, commit, inner);
        lines.requirements.push(line + &marker);
    } else if let Some(url) = source["url"].as_str() {
        lines
            .requirements
            .push(format!("{name}{extras} @ {url}{marker}"));
    } else if source["registry"].is_string() {
        lines.requirements.push(format!("{name}{extras}{marker}"));
    }
    // Any other source is virtual: only its dependencies are installed.
}

fn pipenv(code: &Path) -> Result<Option<Lines>> {
    let path = code.join("Pipfile.lock");
    let Some(content) = text(&path)? else {
        return Ok(None);
    };
    let lock: Value = serde_json::from_str(&content).context("Pipfile.lock")?;
    let mut lines = Lines::default();
    for source in list(&lock["_meta"]["sources"]) {
        lines.index(source["url"].as_str().unwrap_or_default(), code, code);
    }
    let nothing = Map::new();
    for (name, package) in lock["default"].as_object().unwrap_or(&nothing) {
        let rest = bracketed(&strings(&package["extras"]).collect::<Vec<_>>());
        let marker = after_semicolon(package["markers"].as_str());
        let local = package["path"].as_str().or(package["file"].as_str());
        if let Some(path) = local.filter(|path| !path.contains("://")) {
            lines.path(code, code, path, &format!("{rest}{marker}"));
            continue;
        }
        let line = if let Some(url) = local {
            format!("{name}{rest} @ {url}{marker}")
        } else if let Some(url) = package["git"].as_str() {
            let commit = package["ref"].as_str().unwrap_or("HEAD");
            from_git(name, &rest, url, commit, None) + &marker
        } else {
            let version = package["version"].as_str().unwrap_or_default();
            format!("{name}{rest}{version}{marker}")
        };
        lines.requirements.push(line);
    }
    Ok(Some(lines))
}

/// A TOML file as a JSON value, in which absent fields are null.
fn table(path: &Path) -> Result<Option<Value>> {
    let Some(content) = text(path)? else {
        return Ok(None);
    };
    let table = toml::from_str::<Value>(&content);
    table.map(Some).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests;
