//! Collects installed packages of Node.js in one `node_modules` folder that can be moved.
//!
//! Fed by `make` after a package manager has installed into a mirror. Linked packages, such as members of
//! a workspace, become copies. The packages of a workspace's root lie beside those of the function's folder.
//! If both have a package in different versions, each package that needs the root's version gets a copy in
//! its own `node_modules`, so every package finds the versions that it found before.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;

const MODULES: &str = "node_modules";
const PROGRAMS: &str = ".bin";
/// Folders of package managers. Other hidden folders belong to packages, such as Prisma's.
const THEIRS: [&str; 4] = [PROGRAMS, ".cache", ".ignored", ".pnpm"];

/// The real folders of packages, by name.
type Packages = BTreeMap<String, PathBuf>;

/// Copies packages from the folders `node_modules` of `code` and of the folders above it, up to `root`, into that of `out`.
///
/// # Errors
/// If something cannot be read or written.
pub(crate) fn collect(root: &Path, code: &Path, out: &Path) -> io::Result<()> {
    let out = out.join(MODULES);
    fs::create_dir_all(&out)?;
    let mut levels = Vec::new();
    for folder in code.ancestors() {
        let modules = folder.join(MODULES);
        if modules.is_dir() {
            programs(&modules.join(PROGRAMS), &out.join(PROGRAMS))?;
            levels.push((folder.to_owned(), packages(&modules)?));
        }
        if folder == root {
            break;
        }
    }
    let mut placed = Packages::new();
    let mut is_hidden = false;
    for (_, packages) in &levels {
        for (name, real) in packages {
            if let Some(other) = placed.get(name) {
                is_hidden |= other != real;
                continue;
            }
            // The function itself may be linked as a member of its workspace.
            if real != code {
                copy(real, &out.join(name), &[])?;
            }
            placed.insert(name.clone(), real.clone());
        }
    }
    if is_hidden {
        let levels = Levels(levels);
        for (name, real) in &placed {
            levels.nest(real, &out.join(name), &[&placed])?;
        }
    }
    Ok(())
}

/// Folders with their packages, the innermost first.
struct Levels(Vec<(PathBuf, Packages)>);

impl Levels {
    /// Copies into a package's copy the packages that the original finds and the copy would not.
    fn nest(&self, real: &Path, to: &Path, seen: &[&Packages]) -> io::Result<()> {
        let mut own = Packages::new();
        for name in needs(real) {
            if real.join(MODULES).join(&name).exists() {
                continue;
            }
            let Some(wanted) = self.found_from(real, &name) else {
                continue;
            };
            let found = seen.iter().rev().find_map(|packages| packages.get(&name));
            if found != Some(wanted) {
                copy(wanted, &to.join(MODULES).join(&name), &[])?;
                own.insert(name, wanted.clone());
            }
        }
        let seen = [seen, &[&own]].concat();
        for (name, real) in &own {
            self.nest(real, &to.join(MODULES).join(name), &seen)?;
        }
        Ok(())
    }

    fn found_from(&self, real: &Path, name: &str) -> Option<&PathBuf> {
        let above = self.0.iter().filter(|(folder, _)| real.starts_with(folder));
        above
            .into_iter()
            .find_map(|(_, packages)| packages.get(name))
    }
}

fn packages(modules: &Path) -> io::Result<Packages> {
    let mut found = Packages::new();
    for entry in fs::read_dir(modules)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if THEIRS.contains(&&*name) {
            continue;
        }
        let Ok(real) = entry.path().canonicalize() else {
            // A workspace's member that is not needed is not in the mirror.
            continue;
        };
        if !real.is_dir() {
            continue;
        }
        if name.starts_with('@') {
            let scoped = packages(&real)?.into_iter();
            found.extend(scoped.map(|(inner, real)| (format!("{name}/{inner}"), real)));
        } else {
            found.insert(name, real);
        }
    }
    Ok(found)
}

/// The names of all packages that a package may load.
fn needs(package: &Path) -> Vec<String> {
    let manifest = fs::read(package.join("package.json")).unwrap_or_default();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap_or_default();
    let fields = ["dependencies", "optionalDependencies", "peerDependencies"];
    let names = fields
        .iter()
        .filter_map(|field| manifest[field].as_object());
    names.flat_map(|names| names.keys().cloned()).collect()
}

/// Copies the links to the packages' programs. They are relative, and the packages lie beside them.
fn programs(from: &Path, to: &Path) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(from) else {
        return Ok(());
    };
    fs::create_dir_all(to)?;
    for entry in entries {
        let entry = entry?;
        let to = to.join(entry.file_name());
        let Ok(link) = fs::read_link(entry.path()) else {
            // These are shell scripts with paths of the mirror, so they cannot be moved.
            continue;
        };
        if !to.is_symlink() {
            symlink(link, to)?;
        }
    }
    Ok(())
}

/// Copies a package. A link that leads out is replaced by its target, unless that is being copied.
fn copy(real: &Path, to: &Path, above: &[&Path]) -> io::Result<()> {
    let above = [above, &[real]].concat();
    contents(real, real, to, &above)
}

fn contents(package: &Path, from: &Path, to: &Path, above: &[&Path]) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            contents(package, &path, &to, above)?;
        } else if kind.is_symlink() {
            let link = fs::read_link(&path)?;
            match path.canonicalize() {
                Ok(real) if real.starts_with(package) && link.is_relative() => symlink(link, to)?,
                Ok(real) if real.is_dir() && !above.contains(&&*real) => copy(&real, &to, above)?,
                Ok(real) if real.is_file() => {
                    fs::copy(real, to)?;
                }
                _ => {}
            }
        } else if kind.is_file() && fs::hard_link(&path, &to).is_err() {
            fs::copy(&path, &to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        }
    }

    #[test]
    fn links_become_copies_and_each_package_finds_its_own_versions() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path().canonicalize().expect("a directory");
        write(
            &root,
            &[
                ("packages/shop/node_modules/ms/v", "1"),
                ("packages/shop/node_modules/ms/package.json", "{}"),
                (
                    "packages/shared/package.json",
                    r#"{"dependencies": {"ms": "2", "base": "*"}}"#,
                ),
                ("packages/shared/node_modules/deep/v", "1"),
                (
                    "packages/base/package.json",
                    r#"{"dependencies": {"@x/shared": "*"}}"#,
                ),
                ("node_modules/ms/v", "2"),
                (
                    "node_modules/ms/package.json",
                    r#"{"dependencies": {"ms": "2", "tiny": "1"}}"#,
                ),
                ("node_modules/tiny/v", "1"),
                ("node_modules/tiny/cli.js", ""),
                ("node_modules/.package-lock.json", "{}"),
            ],
        );
        for folder in ["node_modules/@x", "node_modules/.bin"] {
            fs::create_dir_all(root.join(folder)).expect("made");
        }
        for (link, to) in [
            ("node_modules/@x/shared", "../../packages/shared"),
            ("node_modules/base", "../packages/base"),
            ("node_modules/shop", "../packages/shop"),
            ("node_modules/absent", "../packages/absent"),
            ("node_modules/.bin/tiny", "../tiny/cli.js"),
        ] {
            symlink(to, root.join(link)).expect("linked");
        }
        let out = root.join("out");
        collect(&root, &root.join("packages/shop"), &out).expect("collected");
        let read = |name: &str| fs::read_to_string(out.join(MODULES).join(name)).expect(name);
        assert_eq!(read("ms/v"), "1");
        assert_eq!(read("@x/shared/node_modules/ms/v"), "2");
        assert_eq!(read("@x/shared/node_modules/deep/v"), "1");
        assert_eq!(read("tiny/v"), "1");
        assert_eq!(read(".bin/tiny"), "");
        assert!(!out.join("node_modules/@x/shared").is_symlink());
        for absent in ["shop", "absent", "base/node_modules", ".package-lock.json"] {
            assert!(!out.join(MODULES).join(absent).exists(), "{absent}");
        }
    }
}
