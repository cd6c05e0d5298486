//! The cache of code against a server of archives on this machine.

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
        (AllowedSecrets::default(), ConfigMaps::default()),
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
            let answer =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
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
        (AllowedSecrets::default(), ConfigMaps::default()),
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
async fn code_of_a_config_map_that_is_not_known_cannot_be_brought() {
    let codes = cache("/nowhere".as_ref());
    let function = spec("code: {configMap: mine}");
    assert!(!codes.can_bring(&function));
    let error = codes.all_of(&function).await.unwrap_err();
    assert!(
        error.detail().starts_with("spec.code.configMap: "),
        "{error:?}"
    );
    assert!(codes.can_bring(&spec("code: {inline: {main: x}}")));
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
