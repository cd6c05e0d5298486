//! `package.json` and what it refers to: packages in folders, a workspace, a lock and its tool.
//!
//! Fed by `libraries` with the code's directory; `workspace` finds the root above it, `modules` collects
//! the installed packages in one folder. The copies of manifests have no development scripts (`prepare`), since
//! their tools are not installed. They have the function's own install scripts under other names: these run
//! afterwards, and may fail.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::{Map, Value};

use super::inputs::Inputs;
use super::manager;
use super::package_manifest::{MANIFEST, Manifest, for_npm, has_script, manifest, path_of};
use super::paths::{lexical, relative};
use super::workspace::{self, Workspace};

const FIELDS: [&str; 4] = [
    "dependencies",
    "optionalDependencies",
    "peerDependencies",
    "devDependencies",
];
/// Run by package managers in a package that is under development.
const DEVELOPMENT: [&str; 5] = [
    "preprepare",
    "prepare",
    "postprepare",
    "prepublish",
    "prepublishOnly",
];
const INSTALL: [&str; 3] = ["preinstall", "install", "postinstall"];
/// The prefix of the function's own install scripts in the copy.
const LATER: &str = "later-";
/// Files that belong to a project, besides its lock.
const SETTINGS: [&str; 5] = [
    ".npmrc",
    ".yarnrc",
    ".yarnrc.yml",
    "pnpm-workspace.yaml",
    ".pnpmfile.cjs",
];
const FOLDERS: [&str; 4] = [
    ".yarn/patches",
    ".yarn/plugins",
    ".yarn/releases",
    "patches",
];

pub(super) fn read(code: &Path) -> Result<Option<Inputs>> {
    let Some(own) = manifest(code)? else {
        return Ok(None);
    };
    let above = match manager::locks(code).next() {
        Some(_) => None,
        None => workspace::above(code)?,
    };
    let mut inputs = Inputs::of(code, MANIFEST);
    if let Some(workspace) = &above {
        inputs.root.clone_from(&workspace.root);
    }
    let root = inputs.root.clone();
    let manager = manager::of(&root, &own, &mut inputs)?;
    for name in SETTINGS {
        inputs.file_if_there(&root.join(name))?;
        inputs.file_if_there(&code.join(name))?;
    }
    for name in FOLDERS {
        let folder = root.join(name);
        if folder.is_dir() {
            inputs.folders.insert(folder);
        }
    }
    let scripts: Vec<&str> = INSTALL
        .into_iter()
        .filter(|name| has_script(&own, name))
        .collect();
    if !scripts.is_empty() {
        // The scripts may read any file of the code.
        inputs.folders.insert(code.to_owned());
    }
    let members = match above {
        Some(workspace) => Some(workspace),
        None => workspace::of(code, &own)?,
    };
    let package = relative(&root, code).display().to_string();
    inputs.values.extend([
        ("manager", manager.clone()),
        ("member", package),
        ("scripts", scripts.join(" ")),
    ]);
    let mut reader = Reader {
        is_npm: manager.starts_with("npm"),
        hashes_folders: manager.starts_with('@'),
        members,
        seen: BTreeSet::new(),
        inputs,
    };
    reader.package(code, own)?;
    reader.workspace()?;
    reader.linked();
    Ok(Some(reader.inputs))
}

struct Reader {
    is_npm: bool,
    /// Yarn's lock has a hash of a folder's content, and that includes its manifest.
    hashes_folders: bool,
    members: Option<Workspace>,
    seen: BTreeSet<PathBuf>,
    inputs: Inputs,
}

impl Reader {
    /// Adds a package whose dependencies are installed, and those of its dependencies that lie in folders.
    fn package(&mut self, folder: &Path, manifest: Manifest) -> Result<()> {
        if !self.seen.insert(folder.to_owned()) {
            return Ok(());
        }
        let is_own = folder == self.inputs.code;
        if !is_own {
            self.inputs.folders.insert(folder.to_owned());
        }
        for field in FIELDS {
            // The development dependencies of another package are not installed.
            if field == "devDependencies" && !is_own {
                continue;
            }
            let wanted = manifest.get(field).and_then(Value::as_object);
            for (name, spec) in wanted.into_iter().flatten() {
                let spec = spec.as_str().unwrap_or_default();
                self.dependency(folder, field, name, spec)?;
            }
        }
        self.keep(folder, manifest, is_own)
    }

    fn dependency(&mut self, folder: &Path, field: &str, name: &str, spec: &str) -> Result<()> {
        if let Some(path) = path_of(spec) {
            let path = lexical(folder, &path);
            if path.is_dir() {
                let manifest = manifest(&path)?.unwrap_or_default();
                return self.package(&path, manifest);
            }
            if !self.inputs.path(&path)? && field != "devDependencies" {
                let folder = relative(&self.inputs.code, folder);
                bail!(
                    "{}: {field}.{name}: {spec} is not there",
                    lexical(&folder, MANIFEST).display()
                );
            }
            return Ok(());
        }
        let member = self
            .members
            .as_ref()
            .and_then(|all| all.members.get(name))
            .cloned();
        match member {
            Some(folder) if field != "devDependencies" => {
                let manifest = manifest(&folder)?.unwrap_or_default();
                self.package(&folder, manifest)
            }
            Some(_) => Ok(()),
            None if spec.starts_with("workspace:") => {
                bail!("{MANIFEST}: {field}.{name}: no workspace above has a package of this name")
            }
            None => Ok(()),
        }
    }

    /// Adds the manifests of the root and of all members, since one lock covers all of them.
    fn workspace(&mut self) -> Result<()> {
        let Some(workspace) = self.members.take() else {
            return Ok(());
        };
        if self.is_npm {
            self.root_for_npm(&workspace)?;
        }
        let is_root = workspace.root == self.inputs.code;
        let folders = workspace.members.into_values().chain([workspace.root]);
        for folder in folders {
            if !self.seen.insert(folder.clone()) {
                continue;
            }
            match manifest(&folder)? {
                // The root of a workspace finds all members by name.
                Some(manifest) if is_root => {
                    self.seen.remove(&folder);
                    self.package(&folder, manifest)?;
                }
                Some(manifest) => self.keep(&folder, manifest, true)?,
                None => {}
            }
        }
        Ok(())
    }

    /// If only pnpm's own file names the members, the copy of the root's manifest names them for npm as well.
    fn root_for_npm(&mut self, workspace: &Workspace) -> Result<()> {
        let root = &workspace.root;
        let mut manifest = manifest(root)?.unwrap_or_default();
        if !manifest.contains_key("workspaces") && self.seen.insert(root.clone()) {
            self.keep(root, manifest.clone(), true)?;
            if let Some(content) = self.inputs.files.get(&root.join(MANIFEST)) {
                manifest = serde_json::from_slice(content)?;
            }
            let patterns = workspace.patterns.iter().cloned().map(Value::String);
            manifest.insert("workspaces".to_owned(), patterns.collect());
            let content = serde_json::to_vec_pretty(&manifest)?;
            self.inputs.file(root.join(MANIFEST), content);
        }
        Ok(())
    }

    /// Lists the packages in folders outside the root: npm does not install their own dependencies.
    fn linked(&mut self) {
        let needs = |folder: &&PathBuf| {
            let manifest = manifest(folder).ok().flatten().unwrap_or_default();
            FIELDS[..2].iter().any(|field| {
                let needed = manifest.get(*field).and_then(Value::as_object);
                needed.is_some_and(|needed| !needed.is_empty())
            })
        };
        let Inputs {
            folders,
            root,
            code,
            ..
        } = &self.inputs;
        let outside = folders.iter().filter(|folder| !folder.starts_with(root));
        let ways = outside.filter(needs).map(|folder| relative(code, folder));
        let ways: Vec<_> = ways.map(|way| way.display().to_string()).collect();
        self.inputs.values.insert("linked", ways.join("\n"));
    }

    /// Adds a manifest without the scripts that must not run. If nothing has to change, adds the file itself.
    fn keep(&mut self, folder: &Path, mut manifest: Manifest, is_of_project: bool) -> Result<()> {
        let path = folder.join(MANIFEST);
        let mut is_changed = false;
        if self.hashes_folders && !is_of_project && self.inputs.folders.contains(folder) {
            return Ok(());
        }
        let scripts = manifest.get_mut("scripts").and_then(Value::as_object_mut);
        if let Some(scripts) = scripts {
            for name in DEVELOPMENT {
                is_changed |= scripts.remove(name).is_some();
            }
            for name in INSTALL.into_iter().filter(|_| is_of_project) {
                // Under another name the package manager does not run it.
                if let Some(script) = scripts.remove(name) {
                    scripts.insert(format!("{LATER}{name}"), script);
                    is_changed = true;
                }
            }
        }
        for field in FIELDS.into_iter().filter(|_| self.is_npm) {
            let wanted = manifest.get_mut(field).and_then(Value::as_object_mut);
            for spec in wanted.into_iter().flat_map(Map::values_mut) {
                if let Some(known) = spec.as_str().and_then(for_npm) {
                    *spec = Value::String(known);
                    is_changed = true;
                }
            }
        }
        if is_changed {
            let content = serde_json::to_vec_pretty(&manifest)?;
            self.inputs.file(path, content);
        } else {
            self.inputs.file_if_there(&path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
