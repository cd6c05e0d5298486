//! Chooses the package manager that installs a project's packages: the one whose lock the project has.
//!
//! Fed by `package_json` with the project's root. A lock is never ignored, as another package manager
//! would install other versions.

use std::path::Path;

use anyhow::{Result, bail};

use super::inputs::Inputs;
use super::package_manifest::{MANIFEST, Manifest, manifest};
use super::paths::text;

/// Each lock with its package manager, in order of preference.
const LOCKS: [(&str, &str); 7] = [
    ("npm-shrinkwrap.json", "npm"),
    ("package-lock.json", "npm"),
    ("pnpm-lock.yaml", "pnpm"),
    ("yarn.lock", "yarn"),
    ("bun.lock", "bun"),
    ("bun.lockb", "bun"),
    ("deno.lock", "deno"),
];

/// `npm`; `npm-ci` if the project has a lock of npm; or the npm package of another manager with its version.
pub(super) fn of(root: &Path, own: &Manifest, inputs: &mut Inputs) -> Result<String> {
    let top = manifest(root)?.unwrap_or_default();
    let named = [&top, own]
        .into_iter()
        .find_map(|one| one.get("packageManager")?.as_str());
    let named = named.and_then(|named| named.split('+').next());
    let is_named = |tool: &str| named.is_some_and(|named| named.split('@').next() == Some(tool));
    let found = locks(root).find(|(_, tool)| is_named(tool));
    let Some((lock, tool)) = found.or_else(|| locks(root).find(|(_, tool)| *tool != "deno")) else {
        return Ok("npm".to_owned());
    };
    inputs.file_if_there(&root.join(lock))?;
    let content = text(&root.join(lock))?.unwrap_or_default();
    let version = named
        .filter(|_| is_named(tool))
        .and_then(|named| named.split_once('@'));
    let version = version.map(|(_, version)| version);
    Ok(match tool {
        "npm" => "npm-ci".to_owned(),
        "pnpm" => format!("pnpm@{}", version.unwrap_or(pnpm_for(&content))),
        "yarn" if content.contains("__metadata:") => {
            let version = version.unwrap_or(yarn_for(&content));
            if version.starts_with(['1', '2', '3']) {
                bail!(
                    "yarn.lock: Yarn {version} cannot leave out development dependencies: \
                     update the lock with Yarn 4, or run `yarn install` with `nodeLinker: node-modules` yourself, \
                     as a folder node_modules beside {MANIFEST} is taken as it is"
                );
            }
            format!("@yarnpkg/cli-dist@{version}")
        }
        "yarn" => format!(
            "yarn@{}",
            version
                .filter(|one| one.starts_with('1'))
                .unwrap_or("1.22.22")
        ),
        _ => bail!(
            "{lock}: the locks of npm, pnpm and Yarn are read: install with {tool} yourself, as a folder \
             node_modules beside {MANIFEST} is taken as it is"
        ),
    })
}

pub(super) fn locks(folder: &Path) -> impl Iterator<Item = (&'static str, &'static str)> {
    LOCKS
        .into_iter()
        .filter(|(name, _)| folder.join(name).is_file())
}

/// The newest version of pnpm that writes locks of this format.
fn pnpm_for(lock: &str) -> &'static str {
    let version = lock
        .lines()
        .find_map(|line| line.strip_prefix("lockfileVersion:"));
    let version = version.map(|version| version.trim().trim_matches(['\'', '"']));
    match version.and_then(|version| version.split('.').next()) {
        Some("5") => "7.33.7",
        Some("6") => "8.15.9",
        _ => "10.18.3",
    }
}

fn yarn_for(lock: &str) -> &'static str {
    let after = lock
        .split_once("__metadata:")
        .map_or("", |(_, after)| after);
    let version = after
        .lines()
        .find_map(|line| line.trim().strip_prefix("version:"));
    match version.map(str::trim) {
        Some("4" | "5") => "2.4.3",
        Some("6" | "7") => "3.8.7",
        _ => "4.10.3",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::super::package_json::read;

    fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            fs::write(root.path().join(name), text).expect("written");
        }
        let path = root.path().canonicalize().expect("a directory");
        (root, path)
    }

    #[test]
    fn the_lock_decides_which_package_manager_installs() {
        for (name, lock, field, manager) in [
            ("package-lock.json", "{}", "", "npm-ci"),
            ("npm-shrinkwrap.json", "{}", "", "npm-ci"),
            (
                "pnpm-lock.yaml",
                "lockfileVersion: '6.0'\n",
                "",
                "pnpm@8.15.9",
            ),
            (
                "pnpm-lock.yaml",
                "lockfileVersion: '9.0'\n",
                "pnpm@9.1.0+sha512.0",
                "pnpm@9.1.0",
            ),
            ("yarn.lock", "# yarn lockfile v1\n", "", "yarn@1.22.22"),
            (
                "yarn.lock",
                "__metadata:\n  version: 8\n",
                "yarn@4.2.2",
                "@yarnpkg/cli-dist@4.2.2",
            ),
            (
                "yarn.lock",
                "__metadata:\n  version: 8\n",
                "",
                "@yarnpkg/cli-dist@4.10.3",
            ),
        ] {
            let manifest = format!(r#"{{"packageManager": "{field}"}}"#);
            let (_root, root) = project(&[("package.json", &manifest), (name, lock)]);
            let inputs = read(&root).expect("read").expect("a list");
            assert_eq!(inputs.values["manager"], manager, "{name} {lock}");
            assert!(inputs.files.contains_key(&root.join(name)));
        }
        for (name, lock) in [
            ("bun.lock", "{}"),
            ("yarn.lock", "__metadata:\n  version: 6\n"),
        ] {
            let (_root, root) = project(&[("package.json", "{}"), (name, lock)]);
            let error = read(&root).expect_err(name).to_string();
            assert!(
                error.starts_with(name) && error.contains("node_modules"),
                "{error}"
            );
        }
    }
}
