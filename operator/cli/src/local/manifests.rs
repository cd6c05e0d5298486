//! Finds and reads the manifests of local mode.
//!
//! A path is a manifest, or a directory in which every YAML file that mentions `pilotlight.dev` is one. Fed by the command line and, through `watch`, by each change; `prepare` takes the
//! functions, and the gateway the schedules. `pilotlight-api` reads the manifests; directories of other tools are not searched.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use pilotlight_api::{self as api, Manifest, ScheduleManifest};
use pilotlight_core::function::FunctionName;
use pilotlight_gateway::check_schedule;
use pilotlight_runtimes::Runtimes;

/// What was found at the paths.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Valid functions, in the order of the paths, then of the files' names.
    pub(crate) manifests: Vec<Manifest>,
    /// Valid schedules of these functions.
    pub(crate) schedules: Vec<ScheduleManifest>,
    /// Errors, one line each, with the place.
    pub(crate) errors: Vec<String>,
    /// Directories in which a change may change what is found.
    pub(crate) directories: BTreeSet<PathBuf>,
}

/// Reads all manifests of the paths; a file named twice is read once.
pub(crate) fn find(paths: &[PathBuf], runtimes: &Runtimes) -> Found {
    let mut found = Found::default();
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = files.len();
            walk(path, &mut files, &mut found);
            if files.len() == before {
                found.errors.push(format!(
                    "{}: no manifest in this directory: none of its *.yaml and *.yml files has \
                     an apiVersion of pilotlight.dev",
                    path.display()
                ));
            }
        } else {
            let parent = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.unwrap_or(Path::new(".")).to_owned();
            found.directories.extend(parent.is_dir().then_some(parent));
            match fs::read_to_string(path) {
                Ok(text) => files.push((path.clone(), text)),
                Err(error) => found.errors.push(format!("{}: {error}", path.display())),
            }
        }
    }
    let mut seen = BTreeSet::new();
    files.retain(|(file, _)| seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())));
    for (file, text) in &files {
        match api::read_all(file, text) {
            Ok(documents) => {
                found.manifests.extend(documents.functions);
                found.schedules.extend(documents.schedules);
            }
            Err(errors) => found.errors.extend(errors.iter().map(ToString::to_string)),
        }
    }
    let is_unknown = |one: &&Manifest| runtimes.get(&one.function.spec.runtime).is_none();
    let unknown = found.manifests.iter().filter(is_unknown);
    let unknown = unknown.map(|one| {
        let why = runtimes.lacking(&one.function.spec.runtime);
        one.unknown_runtime(why)
    });
    let unknown: Vec<_> = unknown.map(|error| error.to_string()).collect();
    found.errors.extend(unknown);
    let duplicates = api::duplicates(&found.manifests);
    found
        .errors
        .extend(duplicates.iter().map(ToString::to_string));
    if found.errors.is_empty() {
        // Otherwise a function may be missing because its document is wrong.
        found.errors = schedule_errors(&found);
    }
    if found.manifests.is_empty() && found.errors.is_empty() {
        let names: Vec<_> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        found
            .errors
            .push(format!("{}: holds no function", names.join(", ")));
    }
    found
}

/// What is wrong with schedules, although their form is right.
fn schedule_errors(found: &Found) -> Vec<String> {
    let functions: BTreeSet<&FunctionName> = found
        .manifests
        .iter()
        .map(|one| &one.function.metadata.name)
        .collect();
    let mut names: BTreeMap<&FunctionName, &ScheduleManifest> = BTreeMap::new();
    let mut errors = Vec::new();
    for one in &found.schedules {
        let spec = &one.schedule.spec;
        if let Some(first) = names.get(&one.schedule.metadata.name) {
            errors.push(one.taken_name(first));
        }
        names.entry(&one.schedule.metadata.name).or_insert(one);
        if let Err(wrong) = check_schedule(spec) {
            errors.push(one.wrong(wrong.field, wrong.why));
        }
        if !functions.contains(&spec.function) {
            let why = format!(
                "there is no function `{}` here: add it, or correct the name",
                spec.function
            );
            errors.push(one.wrong("spec.function", why));
        }
    }
    errors.iter().map(ToString::to_string).collect()
}

fn walk(directory: &Path, files: &mut Vec<(PathBuf, String)>, found: &mut Found) {
    found.directories.insert(directory.to_owned());
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            return found
                .errors
                .push(format!("{}: {error}", directory.display()));
        }
    };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // Links to directories are not followed: they may lead back.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if !is_foreign(&entry.file_name()) {
                walk(&path, files, found);
            }
        } else if matches!(
            path.extension().and_then(OsStr::to_str),
            Some("yaml" | "yml")
        ) {
            match fs::read_to_string(&path) {
                Ok(text) if speaks_of_pilotlight(&text) => files.push((path, text)),
                Ok(_) => {}
                Err(error) => found.errors.push(format!("{}: {error}", path.display())),
            }
        }
    }
}

/// Directories of other tools: hidden ones, installed packages and build results.
fn is_foreign(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with('.') || matches!(&*name, "node_modules" | "target" | "__pycache__")
}

/// Tells manifests from all the other YAML of a project, also when they do not parse.
fn speaks_of_pilotlight(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start_matches(['-', ' ', '{', '"', '\'']);
        let value = line
            .strip_prefix("apiVersion")
            .map(|rest| rest.trim_start_matches(['"', '\'']));
        let value = value.and_then(|rest| rest.trim_start().strip_prefix(':'));
        value.is_some_and(|value| {
            value
                .trim_start_matches([' ', '"', '\''])
                .starts_with("pilotlight.dev/")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str) -> String {
        format!(
            "apiVersion: pilotlight.dev/v1alpha1\nkind: Function\nmetadata: {{ name: {name} }}\n\
             spec: {{ runtime: custom, code: {{ path: . }} }}\n"
        )
    }

    fn write(root: &Path, file: &str, text: &str) -> PathBuf {
        let path = root.join(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(&path, text).expect("written");
        path
    }

    fn names(found: &Found) -> Vec<&str> {
        assert_eq!(found.errors, Vec::<String>::new());
        found
            .manifests
            .iter()
            .map(|manifest| manifest.function.metadata.name.as_str())
            .collect()
    }

    #[test]
    fn a_directory_is_searched_for_manifests_and_other_yaml_is_ignored() {
        let root = tempfile::tempdir().expect("a directory");
        for (file, name) in [
            ("b.yml", "b"),
            ("a/deep/a.yaml", "a"),
            ("node_modules/n.yaml", "n"),
            (".hidden/h.yaml", "h"),
            ("target/t.yaml", "t"),
            ("c.txt", "c"),
        ] {
            write(root.path(), file, &manifest(name));
        }
        write(root.path(), "other.yaml", "apiVersion: apps/v1\nkind: [");
        let found = find(&[root.path().to_owned()], &Runtimes::built_in());
        assert_eq!(names(&found), ["a", "b"]);
        let directories: Vec<_> = found.directories.into_iter().collect();
        let root = root.path();
        assert_eq!(
            directories,
            [root.to_owned(), root.join("a"), root.join("a/deep")]
        );
    }

    #[test]
    fn a_file_named_twice_is_read_once() {
        let root = tempfile::tempdir().expect("a directory");
        let file = write(root.path(), "a.yaml", &manifest("a"));
        let found = find(
            &[file, root.path().to_owned(), root.path().join(".")],
            &Runtimes::built_in(),
        );
        assert_eq!(names(&found), ["a"]);
    }

    #[test]
    fn all_errors_of_all_files_are_reported() {
        let root = tempfile::tempdir().expect("a directory");
        write(root.path(), "one.yaml", &manifest("Bad_Name"));
        write(
            root.path(),
            "two.yaml",
            &manifest("two").replace("custom", "cobol"),
        );
        let found = find(
            &[root.path().to_owned(), root.path().join("absent.yaml")],
            &Runtimes::built_in(),
        );
        assert_eq!(found.errors.len(), 3, "{:#?}", found.errors);
        let errors = found.errors.join("\n");
        for part in [
            "one.yaml:3:",
            "metadata.name",
            "two.yaml:4:",
            "spec.runtime",
            "absent.yaml",
        ] {
            assert!(errors.contains(part), "{part} in {errors}");
        }
    }

    #[test]
    fn a_schedule_is_read_beside_its_function_and_refused_where_it_is_wrong() {
        let schedule = |name: &str, function: &str, when: &str| {
            format!(
                "---\napiVersion: pilotlight.dev/v1alpha1\nkind: Schedule\nmetadata:\n  name: {name}\n\
                 spec:\n  function: {function}\n  schedule: {when}\n"
            )
        };
        let root = tempfile::tempdir().expect("a directory");
        let good = [
            manifest("a"),
            schedule("nightly", "a", "cron(0 3 * * ? *)"),
            schedule("often", "b", "rate(1 minute)"),
        ];
        write(root.path(), "a.yaml", &good.concat());
        write(root.path(), "b.yaml", &manifest("b"));
        let find = || find(&[root.path().to_owned()], &Runtimes::built_in());
        let found = find();
        assert_eq!(names(&found), ["a", "b"]);
        let schedules: Vec<_> = found
            .schedules
            .iter()
            .map(|one| one.schedule.metadata.name.as_str())
            .collect();
        assert_eq!(schedules, ["nightly", "often"]);
        let bad = [
            schedule("nightly", "a", "rate(1 hour)"),
            schedule("other", "c", "cron(61 3 * * ? *)"),
        ];
        write(root.path(), "c.yaml", &bad.concat());
        let errors = find().errors;
        let file = root.path().join("c.yaml").display().to_string();
        for (error, expected) in errors.iter().zip([
            ":5:9: metadata.name: `nightly` is already the schedule at",
            ":15:3: spec.schedule: `cron(61 3 * * ? *)` is no schedule",
            ":15:3: spec.function: there is no function `c` here",
        ]) {
            assert!(error.starts_with(&format!("{file}{expected}")), "{error}");
        }
        assert_eq!(errors.len(), 3, "{errors:#?}");
    }

    #[test]
    fn a_directory_without_manifests_is_an_error() {
        let root = tempfile::tempdir().expect("a directory");
        write(root.path(), "values.yaml", "a: 1");
        let found = find(&[root.path().to_owned()], &Runtimes::built_in());
        assert!(
            found.errors[0].contains("no manifest in this directory"),
            "{:?}",
            found.errors
        );
    }

    #[test]
    fn a_manifest_is_known_by_its_api_version_in_any_spelling() {
        for text in [
            "apiVersion: pilotlight.dev/v1alpha1",
            "kind: Function\napiVersion:   'pilotlight.dev/v9'",
            "{\"apiVersion\": \"pilotlight.dev/v1alpha1\"",
            "---\n{ apiVersion: pilotlight.dev/v1alpha1 }",
        ] {
            assert!(speaks_of_pilotlight(text), "{text}");
        }
        for text in [
            "apiVersion: v1",
            "# pilotlight.dev/v1",
            "a: pilotlight.dev/v1alpha1",
        ] {
            assert!(!speaks_of_pilotlight(text), "{text}");
        }
    }
}
