//! The gateway's cache of functions' code, which `claim` sends to supervisors.
//!
//! Owns a directory of archives, each named by its SHA-256, and of tars that were made from archives and are sealed with
//! their own. Pods of warm pools get tars, which are unpacked in less time. Pods that were made for one function get its
//! archives, whose digests they know from its author. The gateway fetches and verifies each once, however many instances
//! wait for it and however many functions share a layer; a tar is made of the archive in the cache if that is there. What
//! an instance refuses is looked at, and removed if it was damaged. Inline code is packed for each claim. Fed by
//! `functions` with the deployed specs; never runs code.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::{fs, io};

use anyhow::Context;
use bytes::Bytes;
use pilotlight_api::{Archive, Code, FunctionSpec, TASK};
use pilotlight_archive::Fetcher;
use pilotlight_core::code_cache::CacheLimits;
use pilotlight_core::credentials::Credentials;
use pilotlight_core::instance::parts::Digest;
use pilotlight_core::reason::Reason;
use tokio::sync::{OwnedMutexGuard, Semaphore};

use super::archive_secrets::ArchiveSecrets;
use super::code_store::{ARCHIVE, Pinned, Reserved, Store, TAR};
use super::sealed::{Sealed, Sealing};

/// A part of a function's code, as a claim brings it.
#[derive(Clone, Debug)]
pub(crate) struct CodePart {
    /// The field of the Function that it comes from.
    pub(crate) field: String,
    pub(crate) content: Content,
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// A sealed tar of the cache.
    Tar(Pinned),
    /// A tar in memory.
    Held(Bytes),
    /// An archive of the cache, and the digest that its author gives.
    Archive(Pinned, Digest),
}

/// In which form the cache has an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Archive,
    /// A tar of its content.
    Tar,
}

/// The cache. Cheap to clone; all clones are the same cache.
#[derive(Clone, Debug)]
pub(crate) struct Codes {
    store: Store,
    /// Where archives may come from.
    fetcher: Arc<Fetcher>,
    secrets: ArchiveSecrets,
    /// Each fetch holds a permit.
    fetches: Arc<Semaphore>,
    /// By the names of their files.
    fetching: Arc<Mutex<HashMap<String, Weak<Turn>>>>,
}

/// A task that holds it may fetch the file.
type Turn = tokio::sync::Mutex<()>;

impl Codes {
    pub(crate) fn new(
        root: PathBuf,
        limits: CacheLimits,
        fetcher: Fetcher,
        secrets: ArchiveSecrets,
    ) -> Self {
        Codes {
            store: Store::open(root, limits),
            fetcher: Arc::new(fetcher),
            secrets,
            fetches: Arc::new(Semaphore::new(limits.fetches)),
            fetching: Arc::default(),
        }
    }

    /// The whole code of the function, for an instance of a warm pool. Archives that are not in the cache are
    /// fetched.
    ///
    /// # Errors
    /// The reason for a person, with the field of the manifest. The next call retries.
    pub(crate) async fn all_of(&self, spec: &FunctionSpec) -> Result<Vec<CodePart>, Reason> {
        let mut parts = self.brought_to(spec, Form::Tar).await?;
        if let Code::Inline(files) = &spec.code {
            let texts = files.iter().map(|(name, text)| (name.as_str(), text));
            let packed = pilotlight_archive::pack_texts(texts, TASK);
            let packed = packed.map_err(|error| Reason::from(format!("spec.code: {error}")))?;
            parts.push(CodePart {
                field: "spec.code.inline".to_owned(),
                content: Content::Held(packed.into()),
            });
        }
        Ok(parts)
    }

    /// The code that the function's own pods lack when they start: its archive and its layers. The errors are
    /// those of [`Codes::all_of`].
    pub(crate) async fn brought_to(
        &self,
        spec: &FunctionSpec,
        form: Form,
    ) -> Result<Vec<CodePart>, Reason> {
        let mut parts = Vec::new();
        for (field, folder, archive) in spec.placed_archives() {
            let pinned = self.get(&field, form, folder, archive).await?;
            let content = match form {
                Form::Archive => Content::Archive(pinned, archive.digest()),
                Form::Tar => Content::Tar(pinned),
            };
            parts.push(CodePart { field, content });
        }
        Ok(parts)
    }

    /// Removes those of the parts that are damaged, so that the next start fetches them again. Call it when an instance
    /// has refused them. A part that is being sent to another instance stays until that one has refused it too.
    pub(crate) async fn recheck(&self, parts: Vec<CodePart>) {
        let store = self.store.clone();
        let checking = tokio::task::spawn_blocking(move || {
            for CodePart { field, content } in parts {
                let (pinned, opened) = match content {
                    Content::Held(_) => continue,
                    Content::Tar(pinned) => {
                        let opened = Sealed::open(pinned.path());
                        (pinned, opened)
                    }
                    Content::Archive(pinned, sha256) => {
                        let opened = Sealed::named(pinned.path(), sha256);
                        (pinned, opened)
                    }
                };
                if opened.is_ok_and(|file| file.is_intact().unwrap_or(false)) {
                    continue;
                }
                tracing::warn!(field, path = %pinned.path().display(), "code in the cache is damaged, and is removed");
                let name = pinned.name().to_owned();
                drop(pinned);
                store.retain(|other| other != name);
            }
        });
        if let Err(error) = checking.await {
            tracing::warn!(%error, "the cache of code could not be checked");
        }
    }

    async fn get(
        &self,
        field: &str,
        form: Form,
        folder: &'static str,
        archive: &Archive,
    ) -> Result<Pinned, Reason> {
        let name = file_name(form, folder, archive);
        if let Some(found) = self.store.pin(&name) {
            return Ok(found);
        }
        let turn = self.turn(&name).await;
        // The task that had the turn before has fetched it, unless that failed.
        if let Some(found) = self.store.pin(&name) {
            return Ok(found);
        }
        let permit = self.fetches.clone().acquire_owned().await;
        let credentials = match &archive.secret_ref {
            Some(secret) => {
                let read = self.secrets.read(secret.name.as_str()).await;
                Some(read.map_err(|error| Reason::from(format!("{field}.secretRef: {error:#}")))?)
            }
            None => None,
        };
        let (store, archive, fetcher) = (self.store.clone(), archive.clone(), self.fetcher.clone());
        let fetching = tokio::task::spawn_blocking(move || {
            // Until the fetch ends, even if nobody waits for it any more.
            let _held = (turn, permit);
            let reserved = store.reserve(&name)?;
            fetch(
                &store,
                reserved,
                (form, folder),
                &archive,
                &fetcher,
                credentials.as_ref(),
            )
        });
        let fetched = fetching.await;
        fetched
            .context("the fetch was cancelled")
            .flatten()
            .with_context(|| field.to_owned())
            .map_err(|error| Reason::from(format!("{error:#}")))
    }

    /// Waits until nobody else fetches this file.
    async fn turn(&self, name: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
            fetching.retain(|_, turn| turn.strong_count() > 0);
            let known = fetching.get(name).and_then(Weak::upgrade);
            let turn = known.unwrap_or_default();
            fetching.insert(name.to_owned(), Arc::downgrade(&turn));
            turn
        };
        turn.lock_owned().await
    }

    /// Removes the archives that none of these functions uses.
    pub(crate) fn keep<'a>(&self, specs: impl Iterator<Item = &'a FunctionSpec>) {
        let wanted = specs.flat_map(FunctionSpec::placed_archives);
        let wanted: HashSet<_> = wanted
            .flat_map(|(_, folder, archive)| {
                [Form::Archive, Form::Tar].map(|form| file_name(form, folder, archive))
            })
            .collect();
        self.store.retain(|name| wanted.contains(name));
    }
}

/// Whether the function's own pods wait for a gateway that sends them code.
pub(crate) fn are_brought(spec: &FunctionSpec) -> bool {
    spec.archives().next().is_some()
}

fn file_name(form: Form, folder: &str, archive: &Archive) -> String {
    let sha256 = archive.sha256.as_str();
    match form {
        Form::Archive => format!("{sha256}{ARCHIVE}"),
        Form::Tar => {
            let kind = folder.rsplit('/').next().unwrap_or(folder);
            format!("{sha256}.{kind}{TAR}")
        }
    }
}

fn fetch(
    store: &Store,
    reserved: Reserved,
    (form, folder): (Form, &str),
    archive: &Archive,
    fetcher: &Fetcher,
    credentials: Option<&Credentials>,
) -> anyhow::Result<Pinned> {
    let root = store.root();
    let (url, sha256) = (archive.url.as_str(), archive.sha256.as_str());
    let no_room = || format!("the gateway's cache {} cannot be written", root.display());
    fs::create_dir_all(root).with_context(no_room)?;
    let cached = match form {
        Form::Tar => cached(store, archive),
        Form::Archive => None,
    };
    let mut archive = match cached {
        Some(file) => file,
        None => fetcher.fetch(url, sha256, root, credentials)?,
    };
    let kept = store.file().with_context(no_room)?;
    let mut file = kept.reopen().with_context(no_room)?;
    match form {
        Form::Archive => {
            io::copy(&mut archive, &mut file).with_context(no_room)?;
        }
        Form::Tar => {
            let unpacked = store.directory().with_context(no_room)?;
            pilotlight_archive::unpack(archive, unpacked.path())?;
            let sealing = pilotlight_archive::pack(unpacked.path(), folder, Sealing::new(file));
            let sealed = sealing.and_then(|sealing| Ok(sealing.seal()?));
            sealed.with_context(no_room)?;
        }
    }
    reserved.store(kept).with_context(no_room)
}

/// The archive itself, if the cache has it, for a tar of it. It is read once more, because the tar's seal would hide damage.
fn cached(store: &Store, archive: &Archive) -> Option<fs::File> {
    let pinned = store.pin(&file_name(Form::Archive, "", archive))?;
    let kept = Sealed::named(pinned.path(), archive.digest()).ok()?;
    let is_intact = kept.is_intact().unwrap_or(false);
    is_intact.then(|| fs::File::open(pinned.path()).ok())?
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use pilotlight_core::address_rule::AddressRule;

    use super::*;

    fn spec(code: &str) -> FunctionSpec {
        let manifest = format!(
            "apiVersion: pilotlight.dev/v1alpha1\nkind: Function\nmetadata: {{name: hello}}\n\
             spec: {{runtime: custom, handler: main, {code}}}\n"
        );
        let read = pilotlight_api::read("f.yaml".as_ref(), &manifest);
        read.expect("a manifest").remove(0).function.spec
    }

    fn of_archive(url: &str, sha256: &str) -> FunctionSpec {
        spec(&format!(
            "code: {{archive: {{url: \"{url}\", sha256: {sha256}}}}}"
        ))
    }

    /// The tests' servers are on this machine.
    fn loopback() -> Fetcher {
        within(AddressRule {
            allow: vec!["127.0.0.1".parse().expect("a range")],
            deny: Vec::new(),
        })
    }

    fn within(rule: AddressRule) -> Fetcher {
        Fetcher::Within { rule, proxy: None }
    }

    const LIMITS: CacheLimits = CacheLimits {
        bytes: 16 * 1024,
        fetch: 8 * 1024,
        fetches: 2,
    };

    fn cache(root: &Path) -> Codes {
        Codes::new(
            root.to_owned(),
            LIMITS,
            loopback(),
            ArchiveSecrets::default(),
        )
    }

    /// An archive of one file, and its SHA-256.
    fn archive() -> (Vec<u8>, String) {
        archive_of(b"hello")
    }

    /// The same with this text.
    fn archive_of(text: &[u8]) -> (Vec<u8>, String) {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        let appended = builder.append_data(&mut header, "main", text);
        appended.expect("in memory");
        let tar = builder.into_inner().expect("in memory");
        let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        zipped.write_all(&tar).expect("in memory");
        let bytes = zipped.finish().expect("in memory");
        let hex = Digest::of(&bytes).to_string();
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

    fn names(part: &CodePart) -> Vec<String> {
        let bytes = match &part.content {
            Content::Tar(file) => fs::read(file.path()).expect("a tar"),
            Content::Held(bytes) => bytes.to_vec(),
            Content::Archive(..) => panic!("{part:?} is no tar"),
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
        let (url, served) = serve(bytes.clone());
        let source = format!("{{url: \"{url}\", sha256: {sha256}}}");
        let function = spec(&format!("code: {{archive: {source}}}, layers: [{source}]"));
        assert!(are_brought(&function));
        let codes = cache(&root.path().join("cache"));
        let (one, other) = tokio::join!(
            codes.all_of(&function),
            codes.brought_to(&function, Form::Tar)
        );
        for tars in [one.unwrap(), other.unwrap()] {
            let names: Vec<_> = tars.iter().flat_map(names).collect();
            assert_eq!(names, ["var/task/main", "opt/main"]);
        }
        // One request for the code and one for the layer.
        assert_eq!(served.load(Ordering::Relaxed), 2);
        // One more for both of them as their author made them.
        for part in codes.brought_to(&function, Form::Archive).await.unwrap() {
            let Content::Archive(file, sha256) = &part.content else {
                panic!("{part:?}");
            };
            assert_eq!(Digest::of(&fs::read(file.path()).unwrap()), *sha256);
            assert_eq!(fs::read(file.path()).unwrap(), bytes);
        }
        assert_eq!(served.load(Ordering::Relaxed), 3);
        // A restarted gateway finds them in its cache.
        let again = cache(&root.path().join("cache"));
        assert_eq!(again.all_of(&function).await.unwrap().len(), 2);
        let archives = again.brought_to(&function, Form::Archive).await;
        assert_eq!(archives.unwrap().len(), 2);
        assert_eq!(served.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_tar_is_made_of_the_archive_in_the_cache_unless_that_is_damaged() {
        for is_damaged in [false, true] {
            let root = tempfile::tempdir().unwrap();
            let (bytes, sha256) = archive();
            let (url, served) = serve(bytes);
            let function = of_archive(&url, &sha256);
            let codes = cache(root.path());
            let archives = codes.brought_to(&function, Form::Archive).await;
            drop(archives.unwrap());
            if is_damaged {
                let path = root.path().join(format!("{sha256}.archive"));
                let mut damaged = fs::read(&path).unwrap();
                damaged[20] ^= 1;
                fs::write(&path, damaged).unwrap();
            }
            let tars = codes.all_of(&function).await.unwrap();
            let names: Vec<_> = tars.iter().flat_map(names).collect();
            assert_eq!(names, ["var/task/main"]);
            let requests = served.load(Ordering::Relaxed);
            assert_eq!(requests, 1 + usize::from(is_damaged));
        }
    }

    #[tokio::test]
    async fn code_that_was_damaged_in_the_cache_is_fetched_again_once_an_instance_has_refused_it() {
        for form in [Form::Tar, Form::Archive] {
            let root = tempfile::tempdir().unwrap();
            let (bytes, sha256) = archive();
            let (url, served) = serve(bytes);
            let function = of_archive(&url, &sha256);
            let codes = cache(root.path());
            let get = async || codes.brought_to(&function, form).await.unwrap();
            let parts = get().await;
            let (Content::Tar(file) | Content::Archive(file, _)) = &parts[0].content else {
                panic!("{parts:?}");
            };
            let path = file.path().to_owned();
            codes.recheck(parts).await;
            assert!(path.exists(), "it was refused for another reason");

            let mut damaged = fs::read(&path).unwrap();
            damaged[20] ^= 1;
            fs::write(&path, damaged).unwrap();
            let (one, other) = (get().await, get().await);
            codes.recheck(one).await;
            assert!(path.exists(), "another instance gets it now");
            codes.recheck(other).await;
            assert!(!path.exists());
            let again = get().await;
            assert_eq!(served.load(Ordering::Relaxed), 2);
            codes.recheck(again).await;
            assert!(path.exists());
        }
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
        let codes = cache(root.path());
        for times in 1..=2 {
            let error = codes.all_of(&function).await.unwrap_err();
            assert!(
                error.detail().starts_with("spec.layers[0]: sha256: "),
                "{error:?}"
            );
            assert_eq!(served.load(Ordering::Relaxed), times);
        }
    }

    #[tokio::test]
    async fn an_archive_with_a_secret_that_gateways_may_not_read_is_not_fetched_without_it() {
        let root = tempfile::tempdir().unwrap();
        let (bytes, sha256) = archive();
        let (url, served) = serve(bytes);
        let function = spec(&format!(
            "code: {{archive: {{url: \"{url}\", sha256: {sha256}, secretRef: {{name: login}}}}}}"
        ));
        let error = cache(root.path()).all_of(&function).await.unwrap_err();
        let start = "spec.code.archive.secretRef: gateways may not read the Secret login";
        assert!(error.detail().starts_with(start), "{error:?}");
        assert_eq!(served.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn an_archive_from_a_refused_address_is_not_fetched() {
        let root = tempfile::tempdir().unwrap();
        let (bytes, sha256) = archive();
        let (url, served) = serve(bytes);
        let function = of_archive(&url, &sha256);
        let codes = Codes::new(
            root.path().to_owned(),
            LIMITS,
            within(AddressRule::default()),
            ArchiveSecrets::default(),
        );
        let error = codes.all_of(&function).await.unwrap_err();
        assert!(
            error.detail().starts_with("spec.code.archive: url: "),
            "{error:?}"
        );
        assert_eq!(served.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn code_that_was_not_used_for_the_longest_time_makes_room_and_is_fetched_again() {
        let root = tempfile::tempdir().unwrap();
        let codes = cache(root.path());
        let functions = [b"a", b"b", b"c"].map(|text| {
            let (bytes, sha256) = archive_of(&text.repeat(4096));
            let (url, served) = serve(bytes);
            let code = format!("code: {{archive: {{url: \"{url}\", sha256: {sha256}}}}}");
            (spec(&code), served)
        });
        let requests = || {
            let counts = functions.iter();
            Vec::from_iter(counts.map(|(_, served)| served.load(Ordering::Relaxed)))
        };
        let [(a, _), (b, _), (c, _)] = &functions;
        let held = codes.all_of(a).await.unwrap();
        for one in [b, a, c] {
            codes.all_of(one).await.unwrap();
        }
        assert_eq!(requests(), [1, 1, 1]);
        codes.all_of(a).await.unwrap();
        codes.all_of(b).await.unwrap();
        assert_eq!(requests(), [1, 2, 1]);
        assert_eq!(held.iter().flat_map(names).next().unwrap(), "var/task/main");

        let also_held = codes.all_of(b).await.unwrap();
        let error = codes.all_of(c).await.unwrap_err();
        let detail = error.detail();
        assert!(
            detail.starts_with("spec.code.archive: the gateway's cache has no room"),
            "{detail}"
        );
        drop((held, also_held));
        codes.all_of(c).await.unwrap();
        assert_eq!(requests(), [1, 2, 2]);
    }

    #[tokio::test]
    async fn inline_code_is_packed_and_own_pods_wait_for_no_code() {
        let codes = cache("/nowhere".as_ref());
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
        for letter in ["a", "b"] {
            let name = format!("{}.task.tar", letter.repeat(64));
            fs::write(root.path().join(name), "").unwrap();
        }
        let codes = cache(root.path());
        for function in [&kept, &gone] {
            codes.all_of(function).await.unwrap();
        }
        codes.keep([&kept].into_iter());
        let left = fs::read_dir(root.path()).unwrap();
        let left: Vec<_> = left.map(|file| file.unwrap().file_name()).collect();
        assert_eq!(left, [format!("{}.task.tar", "a".repeat(64)).as_str()]);
    }
}
