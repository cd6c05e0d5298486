//! A gateway and real supervisors in this thread. The test is the cluster that signs tokens, and says which pod is where.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::Response;
use kube::Client;
use kube::client::Body;
use pilotlight_core::identity::{Mode, Role};
use pilotlight_wire::config::IdentityConfig;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use super::*;
use crate::cluster::claim::{Found, NotClaimed, claim, look};
use crate::cluster::codes::Form;
use crate::tests::authority::Authority;

/// Signs certificates and tokens.
struct Cluster {
    authority: Authority,
    pair: EcdsaKeyPair,
}

impl Cluster {
    fn new() -> Self {
        let (random, kind) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let pair = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("a key");
        Cluster {
            authority: Authority::new(),
            pair: EcdsaKeyPair::from_pkcs8(kind, pair.as_ref(), &random).expect("valid"),
        }
    }

    fn token(&self, uid: &str) -> String {
        let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({
            "iss": "issuer", "aud": ["pilotlight.dev/instance"], "exp": 4_000_000_000_u64,
            "kubernetes.io": { "namespace": "shop", "pod": { "uid": uid } },
        });
        let header = json!({ "alg": "ES256", "kid": "a" });
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature.expect("signed").as_ref());
        format!("{signed}.{signature}")
    }

    /// Publishes the keys as an API server does.
    fn client(&self) -> Client {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        let encode = |number| BASE64_URL_SAFE_NO_PAD.encode(number);
        let key = json!({
            "kid": "a", "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y),
        });
        let answer = tower::service_fn(move |request: http::Request<Body>| {
            let answer = match request.uri().path() {
                "/openid/v1/jwks" => json!({ "keys": [key.clone()] }),
                _ => json!({ "issuer": "issuer" }),
            };
            let answer = Response::new(Body::from(answer.to_string().into_bytes()));
            async move { Ok::<_, std::convert::Infallible>(answer) }
        });
        Client::new(answer, "shop")
    }

    fn supervisors(&self) -> Supervisors {
        self.supervisors_in(Mode::Required)
    }

    fn supervisors_in(&self, mode: Mode) -> Supervisors {
        let tokens = Tokens::new(self.client(), "shop");
        let pods = ProvenPods::default();
        for uid in ["uid-1", "uid-2"] {
            pods.waits(&uid.into());
        }
        Supervisors::new(
            self.authority.identity(mode, Role::Gateway),
            Some(tokens),
            pods,
        )
    }
}

/// A supervisor that waits for a claim, in the pod with this token.
async fn pod(
    cluster: &Cluster,
    root: &Path,
    token: &str,
) -> (SocketAddr, JoinHandle<anyhow::Result<()>>) {
    let path = root.join("token");
    std::fs::write(&path, token).expect("written");
    let identity = IdentityConfig {
        authorities: cluster.authority.certificate.clone(),
        token: path,
        needs_tls: true,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, root) = (listener.local_addr().expect("bound"), root.to_owned());
    let supervisor = spawn_local(async move {
        pilotlight_supervisor::in_process::unclaimed(listener, root, Some(&identity)).await
    });
    (address, supervisor)
}

/// Runs the test with the cluster, and the address of the pod `uid-1`, which waits for a claim.
async fn with_pod(test: impl AsyncFnOnce(&Cluster, SocketAddr)) {
    let (cluster, root) = (Cluster::new(), tempfile::tempdir().expect("a directory"));
    let here = LocalSet::new();
    here.run_until(async {
        let token = cluster.token("uid-1");
        let (address, supervisor) = pod(&cluster, root.path(), &token).await;
        test(&cluster, address).await;
        supervisor.abort();
    })
    .await;
}

fn own(name: &str) -> pilotlight_wire::claim::Claim {
    let config = json!({
        "listen": "memory", "endsWithParent": false, "function": "hello", "memory": 128,
        "timeout": 3, "sanitizeErrors": false, "logFormat": "Text", "logs": true,
        "logGroup": "/aws/lambda/hello", "logStream": "2026/01/31/[$LATEST]0",
        "runtime": "custom", "command": ["/var/task/main"], "taskRoot": "/", "environment": {},
    });
    pilotlight_wire::claim::Claim {
        instance: name.to_owned(),
        config: Some(serde_json::from_value(config).expect("a configuration")),
        defaults: None,
        parts: None,
    }
}

#[tokio::test]
async fn a_pod_is_claimed_once_it_has_proven_itself_and_the_proof_is_asked_for_once() {
    let (cluster, root) = (Cluster::new(), tempfile::tempdir().expect("a directory"));
    let here = LocalSet::new();
    here.run_until(async {
        let token = cluster.token("uid-1");
        let (address, supervisor) = pod(&cluster, root.path(), &token).await;
        let supervisors = cluster.supervisors();
        let at = supervisors.at(address, &"uid-1".into());
        assert_eq!(look(&at).await, Ok(Found::Unclaimed(Form::Tar)));
        // It would fail now if it were asked again.
        std::fs::remove_file(root.path().join("token")).expect("removed");
        claim(&at, &own("first"), &[]).await.expect("claimed");
        // The first answer takes the connection of the claim, and has no end.
        for _ in 0..2 {
            let first = Found::Instance("first".to_owned());
            assert_eq!(look(&at).await, Ok(first));
        }
        supervisors.proven.forget("uid-1");
        // Another pod, which would have to prove itself.
        supervisors.proven.waits(&"uid-1".into());
        assert!(at.open().await.is_err());
        supervisor.abort();
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_the_watch_shows_has_proven_itself_before_it_is_claimed() {
    with_pod(async |cluster, address| {
        let supervisors = cluster.supervisors();
        let (announced, announcements) = Supervisors::queue();
        announced.try_send((address, "uid-1".into())).expect("room");
        drop(announced);
        supervisors.meet(announcements).await;
        assert!(supervisors.proven.all()[&Uid::from("uid-1")].kept.is_some());
    })
    .await;
}

#[tokio::test]
async fn no_connection_waits_for_a_pod_that_is_claimed_or_gone() {
    with_pod(async |cluster, address| {
        let (uid, kept) = (Uid::from("uid-1"), |known: &Supervisors| {
            let all = known.proven.all();
            all.get("uid-1").map(|pod| pod.kept.is_some())
        });
        // The watch shows each before and after the connection is there.
        for (happens, afterwards) in [
            (ProvenPods::belongs as fn(&ProvenPods, &Uid), Some(false)),
            (|pods, uid| pods.forget(uid.as_str()), None),
        ] {
            let known = cluster.supervisors();
            let at = known.at(address, &uid);
            let stream = at.open().await.expect("proven");
            happens(&known.proven, &uid);
            at.keep_for_claim(stream);
            assert_eq!(kept(&known), afterwards);

            let known = cluster.supervisors();
            let at = known.at(address, &uid);
            at.keep_for_claim(at.open().await.expect("proven"));
            assert_eq!(kept(&known), Some(true));
            happens(&known.proven, &uid);
            assert_eq!(kept(&known), afterwards);
        }
        // One that nobody may claim any more is not asked.
        let known = cluster.supervisors();
        known.proven.belongs(&uid);
        let (announced, announcements) = Supervisors::queue();
        announced.try_send((address, uid.clone())).expect("room");
        drop(announced);
        known.meet(announcements).await;
        assert!(known.proven.all()[&uid].key.is_none());
    })
    .await;
}

/// Carries one connection to the address, and accepts no other.
async fn only_one_connection_to(address: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let near = listener.local_addr().expect("bound");
    spawn_local(async move {
        let (mut near, _) = listener.accept().await.expect("a connection");
        drop(listener);
        let mut far = TcpStream::connect(address).await.expect("a supervisor");
        tokio::io::copy_bidirectional(&mut near, &mut far).await
    });
    near
}

#[tokio::test]
async fn the_connection_on_which_a_pod_has_proven_itself_carries_its_claim_and_its_leases() {
    with_pod(async |cluster, address| {
        let supervisors = cluster.supervisors();
        let at = supervisors.at(only_one_connection_to(address).await, &"uid-1".into());
        assert_eq!(look(&at).await, Ok(Found::Unclaimed(Form::Tar)));
        claim(&at, &own("first"), &[]).await.expect("claimed");
        let mut client = HttpClient::over(at.open().await.expect("kept"))
            .await
            .expect("open");
        let request = Request::get("/status").body(Empty::<Bytes>::new());
        let response = client
            .send(request.expect("valid"))
            .await
            .expect("answered");
        assert_eq!(
            response.headers()[pilotlight_wire::status::INSTANCE],
            "first"
        );
    })
    .await;
}

#[tokio::test]
async fn a_gateway_whose_connection_was_closed_by_another_ones_claim_connects_again() {
    with_pod(async |cluster, address| {
        let [one, other] = [(); 2].map(|()| cluster.supervisors());
        let [one, other] = [&one, &other].map(|known| known.at(address, &"uid-1".into()));
        assert_eq!(look(&other).await, Ok(Found::Unclaimed(Form::Tar)));
        claim(&one, &own("first"), &[]).await.expect("claimed");
        let late = claim(&other, &own("second"), &[]).await;
        assert_eq!(late, Err(NotClaimed::Lost));
        let first = Found::Instance("first".to_owned());
        assert_eq!(look(&other).await, Ok(first));
    })
    .await;
}

#[tokio::test]
async fn a_claim_goes_over_a_new_connection_if_the_one_that_was_kept_breaks() {
    with_pod(async |cluster, address| {
        let supervisors = cluster.supervisors();
        let at = supervisors.at(address, &"uid-1".into());
        drop(at.open().await.expect("proven"));
        // It looks open until the claim is on its way.
        let (kept, mut far) = tokio::io::duplex(1024);
        at.keep(Box::new(kept));
        let breaks = spawn_local(async move { far.read(&mut [0]).await });
        claim(&at, &own("first"), &[]).await.expect("claimed");
        assert_eq!(breaks.await.expect("no panic").expect("read"), 1);
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_ends_waits_for_no_stranger_that_stalls() {
    let (cluster, root) = (Cluster::new(), tempfile::tempdir().expect("a directory"));
    let here = LocalSet::new();
    here.run_until(async {
        let token = cluster.token("uid-1");
        let (address, supervisor) = pod(&cluster, root.path(), &token).await;
        let mut stranger = TcpStream::connect(address).await.expect("accepted");
        let at = cluster.supervisors().at(address, &"uid-1".into());
        let stream = at.open().await.expect("proven");
        let mut client = HttpClient::over(stream).await.expect("open");
        let drain = Request::post("/drain").body(Empty::<Bytes>::new());
        client.send(drain.expect("valid")).await.expect("answered");
        drop(client);
        // By itself the supervisor would end the handshake later than this.
        let closed = tokio::time::timeout(TOKEN_TIMEOUT, stranger.read(&mut [0])).await;
        assert_eq!(closed.expect("in time").expect("no error"), 0);
        supervisor.await.expect("no panic").expect("no error");
    })
    .await;
}

#[tokio::test]
async fn nobody_gets_a_claim_at_the_address_of_a_pod_without_that_pods_token() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let here = LocalSet::new();
    here.run_until(async {
        // Another pod of the cluster, a pod of another cluster, and no pod.
        for token in [
            cluster.token("uid-2"),
            other.token("uid-1"),
            "no token".to_owned(),
        ] {
            let root = tempfile::tempdir().expect("a directory");
            let (address, supervisor) = pod(&cluster, root.path(), &token).await;
            let at = cluster.supervisors().at(address, &"uid-1".into());
            let refused = claim(&at, &own("first"), &[]).await.expect_err("refused");
            let refused = refused.to_string();
            assert!(
                refused.contains("it has not proven that it is the pod uid-1"),
                "{refused}"
            );
            supervisor.abort();
        }
    })
    .await;
}

#[tokio::test]
async fn a_process_that_takes_the_place_of_a_proven_pod_has_to_prove_itself_again() {
    let cluster = Cluster::new();
    let roots = [0, 1].map(|_| tempfile::tempdir().expect("a directory"));
    let here = LocalSet::new();
    here.run_until(async {
        let supervisors = cluster.supervisors();
        let token = cluster.token("uid-1");
        let (address, first) = pod(&cluster, roots[0].path(), &token).await;
        let at = supervisors.at(address, &"uid-1".into());
        at.open().await.expect("proven");
        let (elsewhere, second) = pod(&cluster, roots[1].path(), &cluster.token("uid-2")).await;
        let moved = supervisors.at(elsewhere, &"uid-1".into());
        assert!(moved.open().await.is_err());
        first.abort();
        second.abort();
    })
    .await;
}

#[tokio::test]
async fn a_supervisor_of_an_earlier_release_is_used_while_identity_is_permissive_and_not_when_it_is_required()
 {
    let (cluster, root) = (Cluster::new(), tempfile::tempdir().expect("a directory"));
    let here = LocalSet::new();
    here.run_until(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let earlier =
            pilotlight_supervisor::in_process::unclaimed(listener, root.path().to_owned(), None);
        let earlier = spawn_local(earlier);
        let required = cluster.supervisors().at(address, &"uid-1".into());
        let refused = look(&required).await.expect_err("refused");
        let refused = refused.detail().to_owned();
        assert!(refused.contains("it does not speak TLS"), "{refused}");
        let permissive = cluster.supervisors_in(Mode::Permissive);
        let permissive = permissive.at(address, &"uid-1".into());
        assert_eq!(look(&permissive).await, Ok(Found::Unclaimed(Form::Tar)));
        claim(&permissive, &own("first"), &[])
            .await
            .expect("claimed");
        earlier.abort();
    })
    .await;
}
