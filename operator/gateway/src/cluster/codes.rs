//! The gateway's cache of functions' code, which `claim` sends to supervisors.
//!
//! Owns a directory of tars, each named by the SHA-256 of the archive from which it was made. The gateway fetches
//! and verifies each archive once, however many instances wait for it and however many functions share a layer.
//! Inline code is packed for each claim. Fed by `functions` with the deployed specs; never runs code.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use bytes::Bytes;
use pilotlight_api::{Archive, Code, FunctionSpec};
use tokio::sync::OnceCell;

/// The prefixes of the names in a tar: the directory of code in the images, and that of layers.
const TASK: &str = "var/task";
const OPT: &str = "opt";

/// Code as a tar.
#[derive(Clone, Debug)]
pub(crate) enum Tar {
    /// A file of the cache.
    File(PathBuf),
    /// In memory.
    Held(Bytes),
}

/// The cache. Cheap to clone; all clones are the same cache.
#[derive(Clone, Debug)]
pub(crate) struct Codes {
    root: PathBuf,
    tars: Arc<Mutex<Tars>>,
}

/// By the names of their files.
type Tars = HashMap<String, Arc<OnceCell<PathBuf>>>;

impl Codes {
    pub(crate) fn new(root: PathBuf) -> Self {
        let tars = Arc::default();
        Codes { root, tars }
    }

    /// The whole code of the function, for an instance of a warm pool. Archives that are not in the cache are
    /// fetched.
    ///
    /// # Errors
    /// The reason for a person, with the field of the manifest. The next call retries.
    pub(crate) async fn all_of(&self, spec: &FunctionSpec) -> Result<Vec<Tar>, Arc<str>> {
        let mut tars = self.brought_to(spec).await?;
        if let Code::Inline(files) = &spec.code {
            let texts = files.iter().map(|(name, text)| (name.as_str(), text));
            let packed = pilotlight_archive::pack_texts(texts, TASK);
            let packed = packed.map_err(|error| Arc::from(format!("spec.code: {error}")))?;
            tars.push(Tar::Held(packed.into()));
        }
        Ok(tars)
    }

    /// The code that the function's own pods lack when they start: its archive and its layers. The errors are
    /// those of [`Codes::all_of`].
    pub(crate) async fn brought_to(&self, spec: &FunctionSpec) -> Result<Vec<Tar>, Arc<str>> {
        let mut tars = Vec::new();
        for (field, prefix, archive) in archives(spec) {
            tars.push(Tar::File(self.get(&field, prefix, archive).await?));
        }
        Ok(tars)
    }

    async fn get(
        &self,
        field: &str,
        prefix: &'static str,
        archive: &Archive,
    ) -> Result<PathBuf, Arc<str>> {
        let name = file_name(prefix, archive);
        let cell = {
            let mut tars = self.tars.lock().unwrap_or_else(PoisonError::into_inner);
            tars.entry(name.clone()).or_default().clone()
        };
        let fetch = async || {
            let (path, archive) = (self.root.join(name), archive.clone());
            let fetched = tokio::task::spawn_blocking(move || fetch(&path, prefix, &archive)).await;
            fetched
                .context("the fetch was cancelled")
                .flatten()
                .with_context(|| field.to_owned())
                .map_err(|error| Arc::from(format!("{error:#}")))
        };
        cell.get_or_try_init(fetch).await.cloned()
    }

    /// Removes the archives that none of these functions uses.
    pub(crate) fn keep<'a>(&self, specs: impl Iterator<Item = &'a FunctionSpec>) {
        let wanted = specs.flat_map(archives);
        let wanted: HashSet<_> = wanted
            .map(|(_, prefix, archive)| file_name(prefix, archive))
            .collect();
        let mut tars = self.tars.lock().unwrap_or_else(PoisonError::into_inner);
        let unwanted = tars.extract_if(|name, _| !wanted.contains(name));
        for (_, tar) in unwanted {
            if let Some(path) = tar.get()
                && let Err(error) = fs::remove_file(path)
            {
                tracing::warn!(path = %path.display(), %error, "cannot remove code that no function uses");
            }
        }
    }
}

/// Whether the function's own pods wait for a gateway that sends them code.
pub(crate) fn are_brought(spec: &FunctionSpec) -> bool {
    archives(spec).next().is_some()
}

/// The archives of a function, each with its field in the manifest and its prefix. Supervisors unpack them in this
/// order: a later layer replaces files of an earlier one.
fn archives(spec: &FunctionSpec) -> impl Iterator<Item = (String, &'static str, &Archive)> {
    let code = match &spec.code {
        Code::Archive(archive) => Some(("spec.code.archive".to_owned(), TASK, archive)),
        _ => None,
    };
    let layers = spec.layers.iter().enumerate();
    let layers = layers.map(|(place, layer)| (format!("spec.layers[{place}]"), OPT, layer));
    code.into_iter().chain(layers)
}

fn file_name(prefix: &str, archive: &Archive) -> String {
    let kind = prefix.rsplit('/').next().unwrap_or(prefix);
    format!("{}.{kind}.tar", archive.sha256.as_str())
}

fn fetch(path: &Path, prefix: &str, archive: &Archive) -> anyhow::Result<PathBuf> {
    if path.is_file() {
        // This gateway fetched it before it was restarted.
        return Ok(path.to_owned());
    }
    let root = path.parent().context("a file in a directory")?;
    let (url, sha256) = (archive.url.as_str(), archive.sha256.as_str());
    let no_room = || format!("the gateway's cache {} cannot be written", root.display());
    fs::create_dir_all(root).with_context(no_room)?;
    let archive = pilotlight_archive::fetch(url, sha256, root)?;
    let unpacked = tempfile::tempdir_in(root).with_context(no_room)?;
    pilotlight_archive::unpack(archive, unpacked.path())?;
    let packed = tempfile::NamedTempFile::new_in(root).with_context(no_room)?;
    let file: File = packed.reopen().with_context(no_room)?;
    pilotlight_archive::pack(unpacked.path(), prefix, file).with_context(no_room)?;
    packed.persist(path).with_context(no_room)?;
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use sha2::{Digest, Sha256};

    use super::*;

    fn spec(code: &str) -> FunctionSpec {
        let manifest = format!(
            "apiVersion: pilotlight.dev/v1alpha1\nkind: Function\nmetadata: {{name: hello}}\n\
             spec: {{runtime: custom, handler: main, {code}}}\n"
        );
        let read = pilotlight_api::read("f.yaml".as_ref(), &manifest);
        read.expect("a manifest").remove(0).function.spec
    }

    /// An archive of one file, and its SHA-256.
    fn archive() -> (Vec<u8>, String) {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o644);
        let appended = builder.append_data(&mut header, "main", &b"hello"[..]);
        appended.expect("in memory");
        let tar = builder.into_inner().expect("in memory");
        let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        zipped.write_all(&tar).expect("in memory");
        let bytes = zipped.finish().expect("in memory");
        let digest = Sha256::digest(&bytes);
        let hex = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        (bytes, hex)
    }

    /// Serves these bytes at any path, and counts the requests.
    fn serve(bytes: Vec<u8>) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!(
            "http://{}/code.tar.gz",
            listener.local_addr().expect("bound")
        );
        let served = Arc::new(AtomicUsize::new(0));
        let counted = served.clone();
        // The thread ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                counted.fetch_add(1, Ordering::Relaxed);
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).expect("a request");
                    head.extend(byte);
                }
                let length = bytes.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
                );
                stream.write_all(answer.as_bytes()).expect("read");
                stream.write_all(&bytes).expect("read");
            }
        });
        (url, served)
    }

    fn names(tar: &Tar) -> Vec<String> {
        let bytes = match tar {
            Tar::File(path) => fs::read(path).expect("a tar"),
            Tar::Held(bytes) => bytes.to_vec(),
        };
        let mut archive = tar::Archive::new(&bytes[..]);
        let entries = archive
            .entries()
            .expect("a tar")
            .map(|entry| entry.expect("an entry"));
        let files = entries.filter(|entry| entry.header().entry_type().is_file());
        files
            .map(|entry| entry.path().expect("a name").display().to_string())
            .collect()
    }

    #[tokio::test]
    async fn an_archive_is_fetched_once_for_all_instances_and_each_prefix_has_its_own_tar() {
        let root = tempfile::tempdir().unwrap();
        let (bytes, sha256) = archive();
        let (url, served) = serve(bytes);
        let source = format!("{{url: \"{url}\", sha256: {sha256}}}");
        let function = spec(&format!("code: {{archive: {source}}}, layers: [{source}]"));
        assert!(are_brought(&function));
        let codes = Codes::new(root.path().join("cache"));
        let (one, other) = tokio::join!(codes.all_of(&function), codes.brought_to(&function));
        for tars in [one.unwrap(), other.unwrap()] {
            let names: Vec<_> = tars.iter().flat_map(names).collect();
            assert_eq!(names, ["var/task/main", "opt/main"]);
        }
        // One request for the code and one for the layer.
        assert_eq!(served.load(Ordering::Relaxed), 2);
        // A restarted gateway finds them in its cache.
        let again = Codes::new(root.path().join("cache"))
            .all_of(&function)
            .await;
        assert_eq!(again.unwrap().len(), 2);
        assert_eq!(served.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn an_archive_with_another_digest_is_refused_with_its_field_and_fetched_again() {
        let root = tempfile::tempdir().unwrap();
        let (bytes, _) = archive();
        let (url, served) = serve(bytes);
        let sha256 = "0".repeat(64);
        let function = spec(&format!(
            "code: {{inline: {{main: x}}}}, layers: [{{url: \"{url}\", sha256: \"{sha256}\"}}]"
        ));
        let codes = Codes::new(root.path().to_owned());
        for times in 1..=2 {
            let error = codes.all_of(&function).await.unwrap_err();
            assert!(error.starts_with("spec.layers[0]: sha256: "), "{error}");
            assert_eq!(served.load(Ordering::Relaxed), times);
        }
    }

    #[tokio::test]
    async fn inline_code_is_packed_and_own_pods_wait_for_no_code() {
        let codes = Codes::new("/nowhere".into());
        let function = spec("code: {inline: {main: x}}");
        assert!(!are_brought(&function));
        let tars = codes.all_of(&function).await.unwrap();
        let names: Vec<_> = tars.iter().flat_map(names).collect();
        assert_eq!(names, ["var/task/main"]);
    }

    #[tokio::test]
    async fn code_that_no_function_uses_any_more_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let kept = spec(&format!(
            "code: {{archive: {{url: \"http://127.0.0.1:9/a\", sha256: \"{}\"}}}}",
            "a".repeat(64)
        ));
        let gone = spec(&format!(
            "code: {{archive: {{url: \"http://127.0.0.1:9/b\", sha256: \"{}\"}}}}",
            "b".repeat(64)
        ));
        let codes = Codes::new(root.path().to_owned());
        for letter in ["a", "b"] {
            let name = format!("{}.task.tar", letter.repeat(64));
            fs::write(root.path().join(name), "").unwrap();
        }
        for function in [&kept, &gone] {
            codes.all_of(function).await.unwrap();
        }
        codes.keep([&kept].into_iter());
        let left = fs::read_dir(root.path()).unwrap();
        let left: Vec<_> = left.map(|file| file.unwrap().file_name()).collect();
        assert_eq!(left, [format!("{}.task.tar", "a".repeat(64)).as_str()]);
    }
}
