//! The port for gateways: strangers cannot use it, and do not see the token of the pod.

mod instance;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use pilotlight_core::identity::{Mode, Role};
use pilotlight_net::address::Stream;
use pilotlight_net::client::HttpClient;
use pilotlight_net::identity::{Identity, Material};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;

use instance::Instance;

const LIMIT: Duration = Duration::from_secs(300);

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed").pem();
        Authority {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    fn part(&self, role: Role) -> Identity {
        let params = CertificateParams::new([role.host().to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed").pem();
        let material = Material::of_pem(
            self.certificate.as_bytes(),
            certificate.as_bytes(),
            key.serialize_pem().as_bytes(),
        );
        let identity = Identity::new(Mode::Required);
        identity.renew(material.expect("PEM")).expect("valid");
        identity
    }

    /// The configuration that a controller gives to a pod.
    fn config(&self, token: &Path, needs_tls: bool) -> String {
        let config = json!({
            "authorities": self.certificate, "token": token, "needsTls": needs_tls,
        });
        config.to_string()
    }
}

fn address(instance: &Instance) -> SocketAddr {
    instance
        .control
        .trim_start_matches("http://")
        .parse()
        .expect("an address")
}

/// Sends a request to the port for gateways as this part. `None`: the connection was not served.
fn ask(
    part: &Identity,
    instance: &Instance,
    method: Method,
    path: &str,
) -> Option<(StatusCode, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let connected = part
            .connect_instance(address(instance), LIMIT, "uid-1")
            .await;
        let stream: Stream = connected.ok()?.0;
        let mut client = HttpClient::over(stream).await.ok()?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "pod");
        let request = request.body(Full::new(Bytes::new())).expect("a request");
        let (head, body) = client.send(request).await.ok()?.into_parts();
        let body = client.during(body.collect()).await.ok()?.to_bytes();
        Some((head.status, String::from_utf8_lossy(&body).into_owned()))
    })
}

#[test]
fn a_supervisor_serves_gateways_of_its_release_and_shows_them_the_token_alone() {
    let root = tempfile::tempdir().expect("a directory");
    let token = root.path().join("token");
    fs::write(&token, "first").expect("written");
    let (ours, others) = (Authority::new(), Authority::new());
    let config = ours.config(&token, true);
    let variables = [("PILOTLIGHT_INSTANCE_IDENTITY", config.as_str())];
    let instance = Instance::with_variables(&variables, "sleep 600", json!({}));
    let gateway = ours.part(Role::Gateway);
    let shown = ask(&gateway, &instance, Method::GET, "/identity");
    assert_eq!(shown, Some((StatusCode::OK, "first".to_owned())));
    // As the kubelet does.
    fs::write(&token, "second").expect("written");
    let shown = ask(&gateway, &instance, Method::GET, "/identity");
    assert_eq!(shown, Some((StatusCode::OK, "second".to_owned())));
    fs::remove_file(&token).expect("removed");
    let (status, why) = ask(&gateway, &instance, Method::GET, "/identity").expect("an answer");
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        why.starts_with("the token of the pod cannot be read"),
        "{why}"
    );
    fs::write(&token, "third").expect("written");

    for stranger in [
        others.part(Role::Gateway),
        ours.part(Role::Controller),
        Identity::off(),
    ] {
        for (method, path) in [
            (Method::GET, "/identity"),
            (Method::GET, "/status"),
            (Method::POST, "/drain"),
            (Method::POST, "/lease"),
            (Method::POST, "/claim"),
        ] {
            let answered = ask(&stranger, &instance, method, path);
            assert_eq!(answered, None, "{path} for {stranger:?}");
        }
    }
    // No stranger has drained it.
    let shown = ask(&gateway, &instance, Method::GET, "/identity");
    assert_eq!(shown, Some((StatusCode::OK, "third".to_owned())));
    assert_eq!(
        instance
            .lines()
            .iter()
            .filter(|line| line.contains("third"))
            .count(),
        0
    );
}

#[test]
fn strangers_neither_claim_nor_drain_an_unclaimed_supervisor_and_do_not_keep_a_gateway_out() {
    let root = tempfile::tempdir().expect("a directory");
    let token = root.path().join("token");
    fs::write(&token, "token").expect("written");
    let ours = Authority::new();
    let config = ours.config(&token, true);
    let instance =
        Instance::unclaimed_and(root.path(), &[("PILOTLIGHT_INSTANCE_IDENTITY", &config)]);
    // They stall before they have proven anything; more than may do so at a time.
    let stalled: Vec<_> = (0..80)
        .map(|_| std::net::TcpStream::connect(address(&instance)).expect("a connection"))
        .collect();
    for path in ["/claim", "/drain"] {
        let answered = ask(&Identity::off(), &instance, Method::POST, path);
        assert_eq!(answered, None, "{path}");
    }
    let gateway = ours.part(Role::Gateway);
    let shown = ask(&gateway, &instance, Method::GET, "/identity");
    assert_eq!(shown, Some((StatusCode::OK, "token".to_owned())));
    let (status, why) = ask(&gateway, &instance, Method::POST, "/claim").expect("an answer");
    assert_eq!(status, StatusCode::BAD_REQUEST, "{why}");
    drop(stalled);
}

#[test]
fn during_an_upgrade_a_supervisor_serves_who_proves_nothing_and_shows_the_token_to_nobody_else() {
    let root = tempfile::tempdir().expect("a directory");
    let token = root.path().join("token");
    fs::write(&token, "token").expect("written");
    let ours = Authority::new();
    let config = ours.config(&token, false);
    let variables = [("PILOTLIGHT_INSTANCE_IDENTITY", config.as_str())];
    let instance = Instance::with_variables(&variables, "sleep 600", json!({}));
    let (status, _) =
        ask(&Identity::off(), &instance, Method::GET, "/identity").expect("an answer");
    assert_eq!(status, StatusCode::NOT_FOUND);
    let shown = ask(
        &ours.part(Role::Gateway),
        &instance,
        Method::GET,
        "/identity",
    );
    assert_eq!(shown, Some((StatusCode::OK, "token".to_owned())));
    let (status, _) = ask(&Identity::off(), &instance, Method::POST, "/mark").expect("an answer");
    assert_eq!(status, StatusCode::BAD_REQUEST);
}
