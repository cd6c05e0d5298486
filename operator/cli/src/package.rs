//! `pilotlight package`: each function's code and libraries as an archive, for a cluster.
//!
//! ```text
//! manifests ─► prepare, as in local mode ─► a zip beside its name, hash and the lines to paste
//! ```
//!
//! `[package]` of the runtime's description says which file goes where; `pilotlight-archive` writes the zip. Uploads nothing and changes no manifest.

mod native;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use pilotlight_api::{Code, Manifest};
use pilotlight_archive::Package;
use sha2::{Digest, Sha256};

use crate::exit::Exit;
use crate::local::hash;
use crate::local::make::WARNINGS;
use crate::local::manifests;
use crate::local::places::Places;
use crate::local::prepare::{Prepared, Preparer};
use crate::local::print::{self, Progress};
use crate::local::reload;
use crate::local::signals::Signals;
use crate::local::tree;

/// Write each function's code with its libraries as an archive that a cluster can fetch.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 all are written, 1 a function could not be packaged, 2 a manifest or \
                  an argument is wrong."
)]
pub(crate) struct Args {
    /// Manifests, or directories to search for them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The folder for the archives, each with its function's name; it is created if it does not exist.
    #[arg(long, default_value = ".", value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    places: Places,
}

/// An archive that has been written.
#[derive(Debug)]
struct Archive {
    function: String,
    file: PathBuf,
    /// The size of the file and of its unpacked content, in bytes.
    size: u64,
    unpacked: u64,
    sha256: String,
}

pub(crate) fn run(args: Args) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.context("no runtime for the tools")?;
    let exit = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        tokio::select! {
            exit = package(args) => exit,
            () = signals.next() => Ok(Exit::Interrupted),
        }
    });
    // An abandoned download must not delay the end.
    runtime.shutdown_background();
    exit
}

async fn package(args: Args) -> Result<Exit> {
    let runtimes = args.places.runtimes()?;
    let found = manifests::find(&args.paths, &runtimes);
    if !found.errors.is_empty() {
        found.errors.iter().for_each(|error| print::note(error));
        return Ok(Exit::Refused);
    }
    let mut preparer = args.places.preparer(runtimes)?;
    let output = fs::create_dir_all(&args.output).and_then(|()| args.output.canonicalize());
    output.with_context(|| format!("--output {}", args.output.display()))?;

    let progress = Progress::new();
    let (mut archives, mut failures) = (Vec::new(), Vec::new());
    for manifest in found.manifests {
        let name = &manifest.function.metadata.name;
        if let Some(form) = elsewhere(&manifest.function.spec.code) {
            progress.say(&format!("{name}: spec.code is {form}: nothing to package"));
            continue;
        }
        progress.at(name.as_str());
        match archive(&mut preparer, &manifest, &args.output, &progress).await {
            Ok(archive) => archives.push(archive),
            Err(error) => failures.push((manifest, error)),
        }
    }
    progress.done();
    for failure in &failures {
        print::error(&reload::worded(failure));
    }
    tell(&archives, &mut anstream::stdout().lock())?;
    Ok(if failures.is_empty() {
        Exit::Success
    } else {
        Exit::Failure
    })
}

/// The kind of code that a cluster can use without a package.
fn elsewhere(code: &Code) -> Option<&'static str> {
    match code {
        Code::Inline(_) | Code::Path(_) => None,
        Code::Archive(_) => Some("an archive already"),
        Code::ConfigMap(_) => Some("a config map"),
        Code::Image(_) => Some("an image"),
    }
}

async fn archive(
    preparer: &mut Preparer,
    manifest: &Manifest,
    output: &Path,
    progress: &Progress,
) -> Result<Archive> {
    let function = manifest.function.metadata.name.to_string();
    let prepared = preparer
        .function(manifest, progress, &mut BTreeSet::new())
        .await?;
    if let Some(advice) = &prepared.made.advice {
        bail!("{advice}");
    }
    if prepared.code.is_live && output.canonicalize()?.starts_with(&prepared.code.directory) {
        bail!(
            "--output: {} is part of the code, which would hold its own archive: name a directory \
             outside",
            output.display()
        );
    }
    let package = content(&prepared).context("spec.code")?;
    for (name, version) in native::too_new(&package)? {
        print::note(&format!(
            "warning: {function}: {name} needs version {version} of the C library, and the images have \
             {}: build it on Debian bookworm",
            native::OF_IMAGES
        ));
    }
    for (name, to) in package.links().filter(|(_, to)| !is_of_instance(to)) {
        if !prepared.made.task_root.join(name).exists() {
            print::note(&format!(
                "warning: {function}: the link {name} leads to {to}, which does not exist: it is packed as it is"
            ));
        }
    }
    let file = output.join(format!("{function}.zip"));
    let (size, sha256) =
        write(&package, output, &file).with_context(|| file.display().to_string())?;
    Ok(Archive {
        function,
        file,
        size,
        unpacked: package.size(),
        sha256,
    })
}

/// Whether a link leads to a folder that an instance has, and this machine need not have.
fn is_of_instance(to: &str) -> bool {
    let places = ["/opt/", "/tmp/", "/var/task/", "/var/runtime/"];
    places.iter().any(|place| to.starts_with(place))
}

/// The code, with the libraries where the runtime's image looks for them.
fn content(prepared: &Prepared) -> Result<Package> {
    let (made, description) = (&prepared.made, prepared.ready.package());
    let mut package = Package::default();
    package.add(&made.task_root, "", |name: &OsStr| {
        let is_source = made.is_built && description.leaves_out(&name.to_string_lossy());
        is_source || tree::is_noise(name)
    })?;
    if let (Some(libraries), Some(folder)) = (&made.libraries, &description.libraries) {
        let prefix = if folder == "." { "" } else { folder };
        let is_left_out = |name: &OsStr| tree::is_noise(name) || name == WARNINGS;
        package.add(libraries, prefix, is_left_out)?;
    }
    Ok(package)
}

/// Writes the archive. Under its final name it is complete, or does not exist.
fn write(package: &Package, output: &Path, file: &Path) -> Result<(u64, String)> {
    let mut partial = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(output)?;
    package.write(partial.as_file_mut())?;
    let (mut hash, mut size) = (Sha256::new(), 0);
    let mut written = fs::File::open(partial.path())?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = written.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        size += read as u64;
        hash.update(&buffer[..read]);
    }
    partial.persist(file)?;
    Ok((size, hash::hex(hash)))
}

fn tell(archives: &[Archive], out: &mut impl Write) -> io::Result<()> {
    for archive in archives {
        let Archive {
            function,
            file,
            sha256,
            ..
        } = archive;
        let (size, unpacked) = (readable(archive.size), readable(archive.unpacked));
        let file = file.display();
        writeln!(out, "{function}  {file}  {size}, {unpacked} unpacked")?;
        writeln!(
            out,
            "  code: {{archive: {{url: \"https://HOST/{function}.zip\", sha256: \"{sha256}\"}}}}"
        )?;
    }
    Ok(())
}

fn readable(bytes: u64) -> String {
    match bytes.div_ceil(1024) {
        kibibytes @ ..1024 => format!("{kibibytes} KiB"),
        kibibytes => format!("{:.1} MiB", kibibytes as f64 / 1024.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A runtime that builds by copying the code, and whose libraries are one file each.
    const TINY: &str = r#"
handler = "main"
[runtime.tiny]
[image]
command = ["/bin/tiny"]
[local]
command = ["sh"]
libraries = { files = ["libs"], say = "libs", run = [["sh", "-c", "touch {out}/$(cat libs)"]] }
build = { when = ["*.src"], say = "build", run = [["sh", "-c", "cp *.src {out}; touch {out}/built"]] }
[package]
libraries = "vendor/tiny"
leave-out = ["*.src"]
"#;

    struct Fixture {
        root: tempfile::TempDir,
    }

    impl Fixture {
        fn new(code: &str) -> Self {
            let root = tempfile::tempdir().expect("a directory");
            let fixture = Self { root };
            fixture.write("runtimes/tiny.toml", TINY);
            let manifest = format!(
                "apiVersion: pilotlight.dev/v1alpha1\nkind: Function\nmetadata: {{name: shop}}\n\
                 spec: {{runtime: tiny, code: {code}}}\n"
            );
            fixture.write("shop.yaml", &manifest);
            fixture
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.path(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        async fn package(&self, output: &str) -> Result<Exit> {
            let path = |name: &str| self.path(name).into_os_string();
            let arguments = [
                "pilotlight".into(),
                "package".into(),
                path("shop.yaml"),
                "--output".into(),
                path(output),
                "--cache".into(),
                path("cache"),
                "--runtimes".into(),
                path("runtimes"),
            ];
            let cli = <crate::Cli as clap::Parser>::try_parse_from(arguments)?;
            let crate::Command::Package(args) = cli.command else {
                bail!("another command");
            };
            package(args).await
        }

        fn names(&self) -> Vec<String> {
            let root = tempfile::tempdir().expect("a directory");
            let file = fs::File::open(self.path("out/shop.zip")).expect("an archive");
            pilotlight_archive::unpack(file, root.path()).expect("unpacked");
            let tree = tree::of(root.path()).expect("readable");
            let inside = tree.directories.iter().flat_map(|directory| {
                let entries = fs::read_dir(directory).expect("a directory");
                entries.map(|entry| entry.expect("an entry").path())
            });
            let files = inside.filter(|path| path.is_file());
            let names = files.map(|path| {
                let name = path.strip_prefix(root.path()).expect("inside");
                name.display().to_string()
            });
            names.collect()
        }
    }

    #[tokio::test]
    async fn code_is_packed_unchanged_and_libraries_where_the_description_says() {
        let fixture = Fixture::new("{path: code}");
        fixture.write("code/main", "");
        fixture.write("code/__pycache__/main", "");
        fixture.write("code/libs", "six");
        assert_eq!(
            fixture.package("out").await.expect("packaged"),
            Exit::Success
        );
        assert_eq!(fixture.names(), ["libs", "main", "vendor/tiny/six"]);
        let first = fs::read(fixture.path("out/shop.zip")).expect("read");
        fixture.package("out").await.expect("packaged");
        assert_eq!(
            first,
            fs::read(fixture.path("out/shop.zip")).expect("read"),
            "the same bytes"
        );
    }

    #[tokio::test]
    async fn built_code_is_packed_without_its_sources() {
        let fixture = Fixture::new("{inline: {main.src: x}}");
        fixture.package("out").await.expect("packaged");
        assert_eq!(fixture.names(), ["built"]);
    }

    #[tokio::test]
    async fn an_archive_is_not_written_into_its_own_code() {
        let fixture = Fixture::new("{path: .}");
        let exit = fixture.package("out").await.expect("told");
        assert_eq!(exit, Exit::Failure);
        assert!(!fixture.path("out/shop.zip").exists());
    }

    #[tokio::test]
    async fn code_that_a_cluster_can_use_directly_is_skipped() {
        let fixture = Fixture::new("{image: \"registry/shop:1\"}");
        let exit = fixture.package("out").await.expect("told");
        assert_eq!(exit, Exit::Success);
        assert!(!fixture.path("out/shop.zip").exists());
    }

    #[test]
    fn the_printed_lines_can_be_pasted() {
        let archive = Archive {
            function: "shop".to_owned(),
            file: "out/shop.zip".into(),
            size: 1000,
            unpacked: 3 * 1024 * 1024,
            sha256: "00".repeat(32),
        };
        let mut told = Vec::new();
        tell(&[archive], &mut told).expect("told");
        let told = String::from_utf8(told).expect("text");
        let snippet = format!(
            "shop  out/shop.zip  1 KiB, 3.0 MiB unpacked\n  code: {{archive: {{url: \
             \"https://HOST/shop.zip\", sha256: \"{}\"}}}}\n",
            "00".repeat(32)
        );
        assert_eq!(told, snippet);
    }
}
