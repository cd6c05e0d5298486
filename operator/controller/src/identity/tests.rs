//! A leading controller and an API server that keeps Secrets and a ConfigMap by their versions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;

use super::*;
use crate::options::PublicTls;

const DAY: u64 = 24 * 60 * 60;
const NAMES: [&str; 3] = ["gateway.system.svc", "localhost", "127.0.0.1"];

/// Objects by path.
type Stored = Arc<Mutex<BTreeMap<String, Value>>>;

fn path(kind: &str, name: &str) -> String {
    format!("/api/v1/namespaces/system/{kind}/{name}")
}

/// The objects as the chart makes them.
fn empty() -> Stored {
    let object = |kind: &str, name: &str| {
        let object = json!({ "metadata": { "name": name, "resourceVersion": "1" } });
        (path(kind, name), object)
    };
    let objects = BTreeMap::from([
        object("secrets", "authorities"),
        object("secrets", "certificate"),
        object("secrets", "public"),
        object("configmaps", "ca"),
    ]);
    Arc::new(Mutex::new(objects))
}

/// Merges a patch of `data` into the object, if the patch is of its version.
fn patched(object: &mut Value, patch: &Value) -> bool {
    let version = &patch["metadata"]["resourceVersion"];
    if !version.is_null() && *version != object["metadata"]["resourceVersion"] {
        return false;
    }
    let changed = patch["data"].as_object().expect("data").clone();
    let before = object["data"].clone();
    let data = object.as_object_mut().expect("an object").entry("data");
    let data = data.or_insert_with(|| json!({}));
    data.as_object_mut().expect("data").extend(changed);
    if object["data"] != before {
        let version = object["metadata"]["resourceVersion"].as_str();
        let version: u64 = version.and_then(|text| text.parse().ok()).expect("one");
        object["metadata"]["resourceVersion"] = json!((version + 1).to_string());
    }
    true
}

fn client(stored: &Stored) -> Client {
    let stored = stored.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let stored = stored.clone();
        async move {
            let (head, body) = request.into_parts();
            assert_eq!(head.method, Method::PATCH, "it may do nothing else");
            let body = body.collect().await.expect("a body").to_bytes();
            let patch: Value = serde_json::from_slice(&body).expect("JSON");
            let mut stored = stored.lock().expect("not poisoned");
            let object = stored.get_mut(head.uri.path()).expect("it is there");
            let (code, answer) = match patched(object, &patch) {
                true => (StatusCode::OK, object.clone()),
                false => {
                    let status = json!({
                        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                        "reason": "Conflict", "code": 409, "message": "no",
                    });
                    (StatusCode::CONFLICT, status)
                }
            };
            let answer = Response::builder()
                .status(code)
                .body(Body::from(answer.to_string().into_bytes()));
            Ok::<_, std::convert::Infallible>(answer.expect("an answer"))
        }
    });
    Client::new(service, "system")
}

fn secret(stored: &Stored, name: &str) -> Secret {
    let stored = stored.lock().expect("not poisoned");
    serde_json::from_value(stored[&path("secrets", name)].clone()).expect("a Secret")
}

fn version(stored: &Stored, kind: &str, name: &str) -> Value {
    let stored = stored.lock().expect("not poisoned");
    stored[&path(kind, name)]["metadata"]["resourceVersion"].clone()
}

/// The authorities that callers get.
fn published(stored: &Stored) -> String {
    let stored = stored.lock().expect("not poisoned");
    let text = &stored[&path("configmaps", "ca")]["data"][AUTHORITIES];
    text.as_str().unwrap_or_default().to_owned()
}

/// A controller that leads, and has seen the Secrets.
fn keeper(stored: &Stored, names: &[&str]) -> (Keeper, watch::Sender<Term>) {
    let options = Options {
        parts_identity: Mode::Required,
        tls: PublicTls {
            mode: pilotlight_core::tls::Mode::Required,
            secret: Some("public".to_owned()),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            authorities: Some("ca".to_owned()),
        },
        ..Options::of_test()
    };
    let (term, leads) = watch::channel(Some(Instant::now() + Duration::from_secs(3600)));
    let identity = Identity::new(Mode::Required);
    let (mut keeper, _) = Keeper::new(client(stored), &options, identity, leads);
    keeper.shown = ["authorities", "certificate", "public"].map(|name| Some(secret(stored, name)));
    (keeper, term)
}

/// Whether a caller that trusts these authorities takes the certificate for this name.
fn is_verified(stored: &Stored, authorities: &str, name: &str) -> bool {
    let provider = Arc::new(default_provider());
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        roots.add(authority.expect("PEM")).expect("an authority");
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let secret = secret(stored, "public");
    let certificate = field(&secret, CERTIFICATE).expect("a certificate");
    let certificate = CertificateDer::from_pem_slice(certificate).expect("PEM");
    let name = ServerName::try_from(name).expect("a name");
    let now = UnixTime::now();
    let verified = verifier
        .expect("roots")
        .verify_server_cert(&certificate, &[], &name, &[], now);
    verified.is_ok()
}

#[tokio::test]
async fn callers_get_a_certificate_for_the_names_of_the_service_and_what_verifies_it() {
    let stored = empty();
    let (mut keeper, _term) = keeper(&stored, &NAMES);
    let pause = keeper.look().await;
    assert!(pause > WRITE_PAUSE, "{pause:?}");
    let authorities = published(&stored);
    for name in NAMES {
        assert!(is_verified(&stored, &authorities, name), "{name}");
    }
    assert!(!is_verified(&stored, &authorities, Role::Gateway.host()));
    let public = secret(&stored, "public");
    assert_eq!(field(&public, AUTHORITIES), Some(authorities.as_bytes()));
    assert!(field(&public, KEY).is_some());

    // Nothing is due any more.
    let before = version(&stored, "secrets", "public");
    keeper.look().await;
    assert_eq!(version(&stored, "secrets", "public"), before);
    assert_eq!(version(&stored, "configmaps", "ca"), "2");
}

#[tokio::test]
async fn a_certificate_for_callers_is_renewed_at_half_of_its_time_and_for_other_names() {
    let stored = empty();
    let (mut first, _term) = keeper(&stored, &NAMES);
    first.look().await;
    let before = version(&stored, "secrets", "public");
    let now = now();
    first.keep_public(now + DAY / 2 - 60).await.expect("kept");
    assert_eq!(version(&stored, "secrets", "public"), before);
    first.keep_public(now + DAY / 2).await.expect("signed");
    let renewed = version(&stored, "secrets", "public");
    assert_ne!(renewed, before);

    // Another controller, with another host in its values.
    let (mut second, _term) = keeper(&stored, &["functions.example"]);
    second.look().await;
    assert_ne!(version(&stored, "secrets", "public"), renewed);
    let authorities = published(&stored);
    assert!(is_verified(&stored, &authorities, "functions.example"));
    assert!(!is_verified(&stored, &authorities, "localhost"));
}

#[tokio::test]
async fn a_certificate_that_somebody_else_brings_is_left_alone() {
    let stored = empty();
    let (mut keeper, _term) = keeper(&stored, &[]);
    keeper.look().await;
    assert_eq!(keeper.public_secret(), None);
    assert_eq!(version(&stored, "secrets", "public"), "1");
    assert_eq!(published(&stored), "");
}
