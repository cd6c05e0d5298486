//! The published vectors of Signature Version 4, read from the package of AWS' own signer.

use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::MetadataCommand;
use http::request::Parts;
use http::{HeaderName, Request, Uri};

use crate::digest::{hex, hmac, sha256};
use crate::verify::Scope;
use crate::{canonical, moment};

/// Requests whose path is signed as it is, as for S3.
const UNNORMALIZED: &str = "-unnormalized";

fn suite() -> PathBuf {
    let metadata = MetadataCommand::new().exec().expect("cargo metadata runs");
    let mut packages = metadata.packages.iter();
    let signer = packages
        .find(|package| *package.name == "aws-sigv4")
        .expect("a dependency");
    let root = signer
        .manifest_path
        .parent()
        .expect("a manifest is in a folder");
    root.join("aws-signing-test-suite/v4").into()
}

/// Reads a request as it is on the wire. `None` if its target has raw characters that no HTTP server here accepts.
fn request(text: &str) -> Option<(Parts, Vec<u8>)> {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let head = head.replace("\n ", " ");
    let mut lines = head.lines();
    let (method, target) = lines
        .next()
        .and_then(|line| line.split_once(' '))
        .expect("a request");
    let target = target.trim_end_matches(" HTTP/1.1");
    let target: Uri = target.parse().ok()?;
    let mut request = Request::builder().method(method).uri(target);
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').expect("a header");
        request = request.header(name, value);
    }
    let (parts, ()) = request.body(()).expect("a request").into_parts();
    Some((parts, body.as_bytes().to_vec()))
}

/// The canonical form of what is in `signed`, and its signature, compared with the files of this kind. Whether there was
/// something to compare.
fn check(folder: &Path, kind: &str) -> bool {
    let read = |name: String| fs::read_to_string(folder.join(name)).expect("a file of the suite");
    let context: serde_json::Value =
        serde_json::from_str(&read("context.json".into())).expect("JSON");
    let expected = read(format!("{kind}-canonical-request.txt"));
    let Some((parts, body)) = request(&read(format!("{kind}-signed-request.txt"))) else {
        return false;
    };
    let signed = expected
        .lines()
        .rev()
        .nth(1)
        .expect("the names of headers")
        .split(';');
    let signed = Vec::from_iter(signed.map(|name| name.parse::<HeaderName>().expect("a name")));
    let mut pairs = canonical::pairs(parts.uri.query().unwrap_or_default()).expect("a query");
    if context["omit_session_token"] == true {
        // Such a token is added after the request was signed, which the APIs here do not allow.
        pairs.retain(|(name, _)| name != b"X-Amz-Security-Token");
    }
    let mut form = canonical::head(&parts.method, &parts.uri, &pairs, &parts.headers, &signed)
        .expect("all headers are there");
    form.extend(hex(&sha256(&body)).into_bytes());
    assert_eq!(
        String::from_utf8_lossy(&form),
        expected,
        "{kind} of {}",
        folder.display()
    );

    let word = |name: &str| context[name].as_str().expect("a text").to_owned();
    let time = moment::basic(moment::of_extended(&word("timestamp")).expect("a time"));
    let (region, service) = (word("region"), word("service"));
    let scope = Scope {
        date: time[..8].to_owned(),
        region,
        service,
    };
    let secret = context["credentials"]["secret_access_key"]
        .as_str()
        .expect("a secret");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&sha256(&form)));
    assert_eq!(text, read(format!("{kind}-string-to-sign.txt")));
    let signature = hex(&hmac(&scope.signing_key(secret), text.as_bytes()));
    assert_eq!(signature, read(format!("{kind}-signature.txt")));
    true
}

#[test]
fn the_published_vectors_have_their_canonical_forms_and_signatures() {
    let folders = fs::read_dir(suite()).expect("the suite is in the package");
    let folders = folders.map(|folder| folder.expect("readable").path());
    let normal = folders.filter(|folder| !folder.to_string_lossy().ends_with(UNNORMALIZED));
    let mut checked = 0;
    for folder in normal {
        let has_form = |kind: &&str| folder.join(format!("{kind}-signature.txt")).exists();
        for kind in ["header", "query"].into_iter().filter(has_form) {
            checked += usize::from(check(&folder, kind));
        }
    }
    assert!(checked >= 60, "{checked}");
}
