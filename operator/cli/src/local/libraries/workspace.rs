//! A workspace of npm, Yarn or pnpm: packages in one tree that find each other by name.
//!
//! Fed by `package_json` with a function's folder. The root is the nearest folder above whose
//! `package.json` (`workspaces`) or `pnpm-workspace.yaml` (`packages`) names the function's; its lock is
//! the function's lock.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

use super::globs;
use super::package_manifest::{Manifest, manifest};
use super::paths::text;

/// The most folders that are searched for members: a bound for a pattern such as `**`.
const LOOKED_AT: usize = 10_000;

#[derive(Debug)]
pub(super) struct Workspace {
    pub(super) root: PathBuf,
    pub(super) patterns: Vec<String>,
    /// The folders of the packages, by name.
    pub(super) members: BTreeMap<String, PathBuf>,
}

/// The workspace that a folder is a member of.
pub(super) fn above(folder: &Path) -> Result<Option<Workspace>> {
    for root in folder.ancestors().skip(1) {
        // A broken file above may belong to another project, so it is no error.
        let own = manifest(root).ok().flatten().unwrap_or_default();
        let patterns = patterns(root, &own)?;
        let inside = folder.strip_prefix(root).unwrap_or(folder);
        if globs::name(&patterns, inside) {
            return members(root, &patterns).map(Some);
        }
    }
    Ok(None)
}

/// The workspace that a folder is the root of.
pub(super) fn of(root: &Path, own: &Manifest) -> Result<Option<Workspace>> {
    let patterns = patterns(root, own)?;
    if patterns.is_empty() {
        return Ok(None);
    }
    members(root, &patterns).map(Some)
}

fn patterns(root: &Path, own: &Manifest) -> Result<Vec<String>> {
    let listed = own.get("workspaces").map(|listed| match listed {
        Value::Object(listed) => listed.get("packages").unwrap_or(&Value::Null),
        listed => listed,
    });
    let listed = listed.and_then(Value::as_array).into_iter().flatten();
    let mut patterns: Vec<_> = listed
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    if let Some(yaml) = text(&root.join("pnpm-workspace.yaml")).unwrap_or_default() {
        patterns.extend(of_pnpm(&yaml));
    }
    Ok(patterns)
}

/// The list `packages` of a `pnpm-workspace.yaml`, in either of its two forms.
fn of_pnpm(yaml: &str) -> Vec<String> {
    let plain = |text: &str| {
        let text = text.split(" #").next().unwrap_or(text);
        text.trim().trim_matches(['"', '\'']).to_owned()
    };
    let mut lines = yaml.lines();
    let Some(list) = lines.find_map(|line| line.strip_prefix("packages:")) else {
        return Vec::new();
    };
    let within = list
        .trim()
        .strip_prefix('[')
        .and_then(|list| list.split(']').next());
    if let Some(list) = within {
        return list
            .split(',')
            .map(plain)
            .filter(|one| !one.is_empty())
            .collect();
    }
    let blank = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('#');
    let items = lines.filter(|line| !blank(line));
    let items = items.map_while(|line| line.trim_start().strip_prefix("- ").map(plain));
    items.collect()
}

fn members(root: &Path, patterns: &[String]) -> Result<Workspace> {
    let mut members = BTreeMap::new();
    let depth = patterns.iter().map(|pattern| match pattern.contains("**") {
        true => usize::MAX,
        false => pattern.split('/').count(),
    });
    let depth = depth.max().unwrap_or_default();
    let mut open = vec![PathBuf::new()];
    let mut left = LOOKED_AT;
    while let Some(inside) = open.pop() {
        let folder = root.join(&inside);
        let manifest = match globs::name(patterns, &inside) {
            true => manifest(&folder)?,
            false => None,
        };
        if let Some(manifest) = manifest {
            // A package without a name has the name of its folder.
            let name = manifest
                .get("name")
                .and_then(Value::as_str)
                .map(str::to_owned);
            let name = name.or_else(|| Some(inside.file_name()?.to_string_lossy().into_owned()));
            members.insert(name.unwrap_or_default(), folder.clone());
        }
        if inside.iter().count() >= depth {
            continue;
        }
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_other = name == "node_modules" || name.to_string_lossy().starts_with('.');
            if !is_other && entry.file_type().is_ok_and(|kind| kind.is_dir()) && left > 0 {
                left -= 1;
                open.push(inside.join(name));
            }
        }
    }
    Ok(Workspace {
        root: root.to_owned(),
        patterns: patterns.to_owned(),
        members,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pnpms_list_is_read_in_both_forms() {
        for yaml in [
            "packages:\n  - 'packages/*' # all\n\n  # old\n  - \"!packages/old\"\ncatalog:\n  x: 1\n",
            "a: 1\npackages: ['packages/*', \"!packages/old\"]\n",
            "packages:\n- packages/*\n- '!packages/old'\n",
        ] {
            assert_eq!(of_pnpm(yaml), ["packages/*", "!packages/old"], "{yaml}");
        }
        assert_eq!(of_pnpm("catalog: {}\n"), Vec::<String>::new());
    }
}
