//! Code and its libraries as a zip: equal files give equal bytes on every machine and at any time.
//!
//! Fed by `pilotlight package`, which decides which file goes where. Names are sorted, times fixed, modes 0644
//! or 0755. A link is kept if it stays inside the package, or if it dangles on this machine, such as one to
//! a layer's files in `/opt`; any other link is replaced by its target. The limits are `unpack`'s.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::limits::{ENTRY_LIMIT, UNPACKED_LIMIT};

const MEBIBYTE: u64 = 1024 * 1024;
/// How many of the largest folders and files an error about size names.
const LARGEST: usize = 3;

/// What goes into an archive.
#[derive(Debug, Default)]
pub struct Package {
    entries: BTreeMap<String, Entry>,
    size: u64,
}

#[derive(Debug)]
enum Entry {
    File {
        from: PathBuf,
        size: u64,
        is_executable: bool,
    },
    Link(String),
}

/// A directory that is being packed: its real path, and its name in the package.
struct Base<'a> {
    real: PathBuf,
    name: String,
    /// The directory with the link that led here.
    outer: Option<&'a Base<'a>>,
}

impl Package {
    /// Adds the content of a directory below `prefix`. A name that was added before stays, as the first entry
    /// of a search path wins.
    ///
    /// # Errors
    /// If a name is not UTF-8 or has a `\`, a link leads back to a directory above it, or a limit is exceeded.
    pub fn add(
        &mut self,
        directory: &Path,
        prefix: &str,
        is_left_out: impl Fn(&OsStr) -> bool,
    ) -> Result<()> {
        let base = Base {
            real: directory.canonicalize()?,
            name: prefix.to_owned(),
            outer: None,
        };
        self.directory(&base, &base.real, prefix, &is_left_out)
    }

    /// The unpacked size, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Each file's name in the archive, and where it is now.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.entries.iter().filter_map(|(name, entry)| match entry {
            Entry::File { from, .. } => Some((name.as_str(), from.as_path())),
            Entry::Link(_) => None,
        })
    }

    /// Each link in the package, with its target.
    pub fn links(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().filter_map(|(name, entry)| match entry {
            Entry::Link(to) => Some((name.as_str(), to.as_str())),
            Entry::File { .. } => None,
        })
    }

    /// # Errors
    /// If a file has disappeared, or `to` cannot be written.
    pub fn write(&self, to: impl Write + Seek) -> Result<()> {
        let mut archive = ZipWriter::new(to);
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(DateTime::default());
        for (name, entry) in &self.entries {
            match entry {
                Entry::Link(to) => archive.add_symlink(name, to, options)?,
                Entry::File {
                    from,
                    is_executable,
                    ..
                } => {
                    let mode = if *is_executable { 0o755 } else { 0o644 };
                    archive.start_file(name, options.unix_permissions(mode))?;
                    let mut file = File::open(from).with_context(|| from.display().to_string())?;
                    io::copy(&mut file, &mut archive)
                        .with_context(|| from.display().to_string())?;
                }
            }
        }
        archive.finish()?;
        Ok(())
    }

    fn directory(
        &mut self,
        base: &Base<'_>,
        directory: &Path,
        name: &str,
        is_left_out: &impl Fn(&OsStr) -> bool,
    ) -> Result<()> {
        let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
        for entry in entries {
            let entry = entry?;
            let (path, own) = (entry.path(), entry.file_name());
            if is_left_out(&own) {
                continue;
            }
            let own = own.to_str().with_context(|| {
                format!("{} is not UTF-8: give it another name", path.display())
            })?;
            ensure!(
                !own.contains('\\'),
                "{} has a `\\` in its name, which is read as a folder's end: give it another name",
                path.display()
            );
            let name = match name {
                "" => own.to_owned(),
                above => format!("{above}/{own}"),
            };
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.directory(base, &path, &name, is_left_out)?;
            } else if kind.is_symlink() {
                self.link(base, &path, &name, is_left_out)?;
            } else if kind.is_file() {
                self.file(path, name)?;
            }
        }
        Ok(())
    }

    fn link(
        &mut self,
        base: &Base<'_>,
        path: &Path,
        name: &str,
        is_left_out: &impl Fn(&OsStr) -> bool,
    ) -> Result<()> {
        let to = fs::read_link(path)?;
        let real = path.canonicalize().ok();
        let depth = name.split('/').count() - base.depth() - 1;
        let stays = |real: &PathBuf| real.starts_with(&base.real) && stays_inside(&to, depth);
        let Some(real) = real.filter(|real| !stays(real)) else {
            let to = to
                .to_str()
                .with_context(|| format!("the link {} is not UTF-8", path.display()))?;
            return self.enter(name.to_owned(), Entry::Link(to.to_owned()));
        };
        if !real.is_dir() {
            return self.file(real, name.to_owned());
        }
        if base.leads_to(&real) {
            bail!(
                "the link {} leads to a directory that holds it: remove it",
                path.display()
            );
        }
        let inner = Base {
            real,
            name: name.to_owned(),
            outer: Some(base),
        };
        self.directory(&inner, &inner.real, name, is_left_out)
    }

    fn file(&mut self, from: PathBuf, name: String) -> Result<()> {
        let file = fs::metadata(&from).with_context(|| from.display().to_string())?;
        let entry = Entry::File {
            from,
            size: file.len(),
            is_executable: file.permissions().mode() & 0o111 != 0,
        };
        self.enter(name, entry)
    }

    fn enter(&mut self, name: String, entry: Entry) -> Result<()> {
        if self.has(&name) {
            return Ok(());
        }
        if let Entry::File { size, .. } = &entry {
            self.size += size;
        }
        self.entries.insert(name, entry);
        ensure!(
            self.entries.len() <= ENTRY_LIMIT,
            "it holds more than {ENTRY_LIMIT} files: take away what the function does not need"
        );
        ensure!(
            self.size <= UNPACKED_LIMIT,
            "it holds more than {} MiB, the most that an instance unpacks; the largest so far: {}",
            UNPACKED_LIMIT / MEBIBYTE,
            self.largest()
        );
        Ok(())
    }

    /// Whether the name is taken: by an entry of this name, by a file or link above it, or by files below it.
    fn has(&self, name: &str) -> bool {
        let above = name.match_indices('/').map(|(end, _)| &name[..end]);
        let below = format!("{name}/");
        let next = self.entries.range(below.clone()..).next();
        self.entries.contains_key(name)
            || above.into_iter().any(|one| self.entries.contains_key(one))
            || next.is_some_and(|(next, _)| next.starts_with(&below))
    }

    fn largest(&self) -> String {
        let mut sizes = BTreeMap::<_, u64>::new();
        for (name, entry) in &self.entries {
            if let Entry::File { size, .. } = entry {
                let top = name.split('/').next().unwrap_or(name);
                *sizes.entry(top).or_default() += size;
            }
        }
        let mut sizes = Vec::from_iter(sizes);
        sizes.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        let sizes = sizes.into_iter().take(LARGEST);
        let sizes = sizes.map(|(name, size)| format!("{name} ({} MiB)", size / MEBIBYTE));
        Vec::from_iter(sizes).join(", ")
    }
}

impl Base<'_> {
    /// Parts of its name.
    fn depth(&self) -> usize {
        self.name.split('/').filter(|part| !part.is_empty()).count()
    }

    /// Whether walking that directory would lead back to this one.
    fn leads_to(&self, real: &Path) -> bool {
        self.real.starts_with(real) || self.outer.is_some_and(|outer| outer.leads_to(real))
    }
}

/// Whether a link, `folders` deep below the root, never leads above the root, whatever other links are on its way.
/// Therefore `..` is only allowed at the beginning: after a name, which may be a link's, `..` does not mean what
/// the text says.
fn stays_inside(to: &Path, folders: usize) -> bool {
    let (mut up, mut is_down) = (0, false);
    to.components().all(|component| match component {
        Component::CurDir => true,
        Component::Normal(_) => {
            is_down = true;
            true
        }
        Component::ParentDir => {
            up += 1;
            !is_down && up <= folders
        }
        Component::RootDir | Component::Prefix(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        }
        root
    }

    fn bytes(package: &Package) -> Vec<u8> {
        let mut written = io::Cursor::new(Vec::new());
        package.write(&mut written).expect("written");
        written.into_inner()
    }

    fn unpacked(package: &Package) -> tempfile::TempDir {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&bytes(package)).expect("written");
        file.rewind().expect("at its start");
        let root = tempfile::tempdir().expect("a directory");
        crate::unpack(file, root.path()).expect("unpacked");
        root
    }

    fn read(root: &tempfile::TempDir, name: &str) -> String {
        fs::read_to_string(root.path().join(name)).expect(name)
    }

    fn package(root: &tempfile::TempDir) -> Package {
        let mut package = Package::default();
        package.add(root.path(), "", |_| false).expect("packed");
        package
    }

    #[test]
    fn equal_files_become_equal_bytes() {
        let (one, other) = (
            directory(&[("a", "1"), ("lib/b", "2")]),
            directory(&[("lib/b", "2"), ("a", "1")]),
        );
        let old = std::time::SystemTime::UNIX_EPOCH;
        let file = File::open(other.path().join("a")).expect("a file");
        file.set_modified(old).expect("changed");
        fs::set_permissions(other.path().join("a"), fs::Permissions::from_mode(0o600))
            .expect("changed");
        assert_eq!(bytes(&package(&one)), bytes(&package(&other)));
        fs::set_permissions(other.path().join("a"), fs::Permissions::from_mode(0o700))
            .expect("changed");
        assert_ne!(bytes(&package(&one)), bytes(&package(&other)));
    }

    #[test]
    fn modes_and_links_inside_are_kept() {
        let root = directory(&[("bin/run", "#!"), ("text", "")]);
        let run = root.path().join("bin/run");
        fs::set_permissions(run, fs::Permissions::from_mode(0o711)).expect("changed");
        symlink("../text", root.path().join("bin/link")).expect("linked");
        symlink(".", root.path().join("here")).expect("linked");
        let there = unpacked(&package(&root));
        let mode = |name: &str| {
            let file = fs::metadata(there.path().join(name)).expect(name);
            file.permissions().mode() & 0o777
        };
        assert_eq!((mode("bin/run"), mode("text")), (0o755, 0o644));
        let link = fs::read_link(there.path().join("bin/link")).expect("a link");
        assert_eq!(link, Path::new("../text"));
        assert!(there.path().join("here").is_symlink());
    }

    #[test]
    fn a_link_that_leads_outside_is_replaced_by_its_target() {
        let shared = directory(&[("shop/index.js", "shop"), ("word", "said")]);
        symlink("../shop/index.js", shared.path().join("shop/again")).expect("linked");
        let root = directory(&[("index.js", "")]);
        symlink(shared.path(), root.path().join("node_modules")).expect("linked");
        symlink(shared.path().join("word"), root.path().join("word")).expect("linked");
        let there = unpacked(&package(&root));
        assert_eq!(read(&there, "node_modules/shop/index.js"), "shop");
        assert_eq!(read(&there, "word"), "said");
        assert!(!there.path().join("word").is_symlink());
        let again = fs::read_link(there.path().join("node_modules/shop/again"));
        assert_eq!(again.expect("kept"), Path::new("../shop/index.js"));
    }

    #[test]
    fn links_that_cannot_be_packed_are_refused() {
        let root = directory(&[("text", "")]);
        symlink("..", root.path().join("link")).expect("linked");
        let refused = Package::default().add(root.path(), "", |_| false);
        let error = refused.expect_err("a loop").to_string();
        assert!(error.contains("that holds it"), "{error}");
    }

    #[test]
    fn dangling_links_are_packed_as_they_are() {
        let root = directory(&[("lib/text", "")]);
        for (name, to) in [
            ("modules", "/opt/absent/modules"),
            ("lib/up", "../../absent/x"),
        ] {
            symlink(to, root.path().join(name)).expect("linked");
        }
        let there = unpacked(&package(&root));
        for (name, to) in [
            ("modules", "/opt/absent/modules"),
            ("lib/up", "../../absent/x"),
        ] {
            let link = fs::read_link(there.path().join(name)).expect("a link");
            assert_eq!(link, Path::new(to));
        }
    }

    #[test]
    fn code_takes_precedence_over_libraries_and_excluded_files_are_missing() {
        let code = directory(&[("six.py", "own"), ("flat", ""), ("notes.md", "")]);
        let libraries = directory(&[("six.py", "theirs"), ("flat/a", ""), ("deep/b", "b")]);
        let mut package = Package::default();
        let added = package.add(code.path(), "", |name| name == "notes.md");
        added.expect("packed");
        package
            .add(libraries.path(), "", |_| false)
            .expect("packed");
        package
            .add(libraries.path(), "vendor", |_| false)
            .expect("packed");
        let there = unpacked(&package);
        assert_eq!(read(&there, "six.py"), "own");
        assert_eq!(read(&there, "flat"), "");
        assert_eq!(read(&there, "deep/b"), "b");
        assert_eq!(read(&there, "vendor/six.py"), "theirs");
        assert!(!there.path().join("notes.md").exists());
    }

    #[test]
    fn a_package_that_is_too_large_is_refused_and_its_largest_parts_are_named() {
        let root = directory(&[("app.py", "1"), ("model/weights", "")]);
        let file = File::create(root.path().join("model/weights")).expect("a file");
        file.set_len(UNPACKED_LIMIT).expect("sparse");
        let refused = Package::default().add(root.path(), "", |_| false);
        let error = refused.expect_err("too large").to_string();
        assert!(
            error.contains("more than 250 MiB") && error.contains("model (250 MiB)"),
            "{error}"
        );
    }
}
