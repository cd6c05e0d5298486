//! What a call through the door shows to a gateway, and what becomes of it.

use http_body_util::BodyExt;
use pilotlight_core::identity::{self, Role};
use pilotlight_core::tls;
use pilotlight_net::identity::public::PublicDoor;
use pilotlight_net::identity::{Accepted, Identity, Material};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use super::*;

fn door(address: &str) -> Door {
    door_of(address, None)
}

fn door_of(address: &str, token: Option<&Path>) -> Door {
    let config = DoorConfig {
        address: address.to_owned(),
        namespace: "shop".to_owned(),
        tls: None,
        token: token.map(Path::to_owned),
    };
    Door::new(&config, None, &"hello".parse().expect("a name")).expect("an address")
}

async fn text(answer: Answer) -> String {
    let body = answer.into_body().collect().await.expect("whole");
    String::from_utf8_lossy(&body.to_bytes()).into_owned()
}

#[test]
fn a_call_carries_this_functions_identity_whatever_the_function_claims() {
    let mut request = Request::builder()
        .uri("http://127.0.0.1:9/2015-03-31/functions/b%3A1/invocations?Qualifier=1")
        .header("host", "127.0.0.1:9")
        .header("connection", "keep-alive, x-mine")
        .header("x-mine", "1")
        .header("pilotlight-caller", "shop/admin")
        .header("pilotlight-hops", "3")
        .header("x-amz-log-type", "Tail")
        .body(())
        .expect("a request");
    door("gateway:80").sign(&mut request);
    let uri = request.uri().to_string();
    assert_eq!(uri, "/2015-03-31/functions/b%3A1/invocations?Qualifier=1");
    let headers = request.headers();
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["host", "pilotlight-caller", "x-amz-log-type"]);
    assert_eq!(headers["host"], "gateway:80");
    assert_eq!(headers[CALLER], "shop/hello");
}

#[test]
fn a_call_belongs_to_the_trace_of_its_invocation_unless_it_names_another_one() {
    let value = |text: &str| HeaderValue::try_from(text).expect("a header");
    let own = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=0f1b758a73ce5eaa;Sampled=1;Lineage=1:38a5ab94:0";
    let counted = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=00000000000000aa;Sampled=1;Lineage=1:38a5ab94:0";
    let deeper = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=00000000000000aa;Sampled=1";
    let other = "Root=1-5759e988-bd862e3fe1be46a994272794;Parent=0f1b758a73ce5eaa;Sampled=1";
    let w3c = "00-5759e988bd862e3fe1be46a994272794-0f1b758a73ce5eaa-00";
    let trace = "00-5759e988bd862e3fe1be46a994272793";
    let lease = LeaseRequest {
        request_id: "8f3c".into(),
        event: Bytes::new(),
        function_arn: value("arn"),
        trace_id: Some(value(own)),
        trace_state: Some(value("vendor=1")),
        client_context: None,
        wants_log_tail: false,
        wants_report: false,
        accepts_stream: false,
        phases: None,
    };
    for (sent, xray, traceparent) in [
        (
            None,
            Some(own),
            Some(format!("{trace}-0f1b758a73ce5eaa-01")),
        ),
        (
            Some((XRAY, deeper)),
            Some(counted),
            Some(format!("{trace}-00000000000000aa-01")),
        ),
        (Some((XRAY, other)), Some(other), None),
        (Some((TRACEPARENT, w3c)), None, Some(w3c.to_owned())),
    ] {
        let sent = sent.map(|(name, text)| (name, value(text)));
        let mut headers = HeaderMap::from_iter(sent);
        let has_own = headers.contains_key(TRACEPARENT);
        continue_trace(&mut headers, &lease);
        let text = |name| {
            headers
                .get(name)
                .map(|value| value.to_str().expect("ASCII"))
        };
        assert_eq!(
            (text(XRAY), text(TRACEPARENT)),
            (xray, traceparent.as_deref())
        );
        assert_eq!(
            text(TRACESTATE).is_some(),
            traceparent.is_some() && !has_own
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_shows_the_token_of_this_function_and_nothing_made_with_other_keys() {
    let root = tempfile::tempdir().expect("a directory");
    let file = root.path().join("caller");
    let door = door_of("gateway:80", Some(&file));
    let signed = || {
        let mut request = Request::builder()
            .uri("http://127.0.0.1:9/2015-03-31/functions/b/invocations?X-Amz-Signature=0&Qualifier=1")
            .header("authorization", "AWS4-HMAC-SHA256 Credential=AKIA")
            .header("x-amz-date", "20261130T000000Z")
            .header("x-amz-security-token", "session")
            .header("x-amz-content-sha256", "00")
            .header("x-amz-log-type", "Tail")
            .body(())
            .expect("a request");
        door.sign(&mut request);
        let mut names = Vec::from_iter(request.headers().keys().map(HeaderName::as_str));
        names.sort_unstable();
        let uri = request.uri().to_string();
        assert_eq!(uri, "/2015-03-31/functions/b/invocations?Qualifier=1");
        let shown = request.headers().get("authorization");
        let shown = shown.map(|shown| shown.to_str().expect("text").to_owned());
        assert_eq!(names.contains(&"authorization"), shown.is_some());
        names.retain(|name| *name != "authorization");
        assert_eq!(names, ["host", "pilotlight-caller", "x-amz-log-type"]);
        shown
    };
    assert_eq!(
        signed(),
        None,
        "no token yet, and not the other keys either"
    );
    fs::write(&file, "first\n").expect("written");
    assert_eq!(signed().as_deref(), Some("Bearer first"));
    fs::write(&file, "second").expect("written");
    assert_eq!(signed().as_deref(), Some("Bearer first"), "it is fresh");
    tokio::time::advance(TOKEN_FRESH).await;
    assert_eq!(signed().as_deref(), Some("Bearer second"));
    fs::remove_file(&file).expect("removed");
    tokio::time::advance(TOKEN_FRESH).await;
    assert_eq!(signed().as_deref(), Some("Bearer second"));
}

#[tokio::test]
async fn an_unreachable_gateway_is_a_service_error_that_says_nothing_ran() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = free.local_addr().expect("bound").to_string();
    drop(free);
    let request = Request::new(Full::new(Bytes::new()));
    let answer = LocalSet::new()
        .run_until(door(&address).answer(request))
        .await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(answer.headers()["x-amzn-errortype"], "ServiceException");
    let text = text(answer).await;
    assert!(text.contains("nothing was executed"), "{text}");
}

#[tokio::test]
async fn a_broken_connection_is_an_error_that_says_the_event_may_have_run() {
    let gateway = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = gateway.local_addr().expect("bound").to_string();
    let here = LocalSet::new();
    let answered = here.run_until(async {
        let breaks = async {
            let (mut stream, _) = gateway.accept().await.expect("a connection");
            let mut read = [0; 16];
            stream.read_exact(&mut read).await.expect("a request");
        };
        let request = Request::new(Full::new(Bytes::from_static(b"{}")));
        let door = door(&address);
        tokio::join!(breaks, door.answer(request)).1
    });
    let answer = answered.await;
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let text = text(answer).await;
    assert!(text.contains("may have taken effect"), "{text}");
}

#[tokio::test]
async fn the_first_piece_of_an_answer_is_forwarded_before_the_last_arrives() {
    let gateway = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = gateway.local_addr().expect("bound").to_string();
    let here = LocalSet::new();
    let streamed = here.run_until(async {
        let (done, is_done) = tokio::sync::oneshot::channel::<()>();
        let serves = async {
            let (mut stream, _) = gateway.accept().await.expect("a connection");
            assert!(stream.read(&mut [0; 1024]).await.expect("a request") > 0);
            let head =
                "HTTP/1.1 200 OK\r\nx-amz-executed-version: 1\r\ncontent-length: 4\r\n\r\nab";
            stream.write_all(head.as_bytes()).await.expect("sent");
            is_done.await.expect("the first piece has come");
            stream.write_all(b"cd").await.expect("sent");
        };
        let calls = async {
            let request = Request::new(Full::new(Bytes::from_static(b"{}")));
            let mut answer = door(&address).answer(request).await;
            assert_eq!(answer.headers()["x-amz-executed-version"], "1");
            let first = answer.body_mut().frame().await.expect("a piece");
            assert_eq!(first.expect("read").into_data().expect("data"), "ab");
            done.send(()).expect("the gateway waits");
            text(answer).await
        };
        tokio::join!(serves, calls).1
    });
    assert_eq!(streamed.await, "cd");
}

/// A gateway's listener with TLS, and the release's authority.
struct Release {
    authority: String,
    door: PublicDoor,
}

impl Release {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = params.self_signed(&key).expect("signed").pem();
        let issuer = Issuer::new(params, key);
        let part = CertificateParams::new([Role::Gateway.host().to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let certificate = part.signed_by(&key, &issuer).expect("signed").pem();
        let material = Material::of_pem(
            authority.as_bytes(),
            certificate.as_bytes(),
            key.serialize_pem().as_bytes(),
        );
        let identity = Identity::new(identity::Mode::Required);
        identity.renew(material.expect("PEM")).expect("valid");
        Release {
            authority,
            door: PublicDoor::new(tls::Mode::Required, identity, "").expect("random numbers"),
        }
    }
}

/// The door of an instance that trusts this release, and gateways whose address this is.
fn door_with_tls(address: &str, release: &Release, tls: DoorTls) -> Door {
    let config = DoorConfig {
        address: address.to_owned(),
        namespace: "shop".to_owned(),
        tls: Some(tls),
        token: None,
    };
    let function = "hello".parse().expect("a name");
    Door::new(&config, Some(&release.authority), &function).expect("valid")
}

/// Answers one call after another; with `None`, without TLS.
async fn gateway(listener: TcpListener, door: Option<PublicDoor>) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let accepted = match &door {
            Some(door) => door.accept(stream).await,
            None => Ok(Accepted::Left(stream)),
        };
        let Ok(mut stream) = accepted else {
            continue;
        };
        let mut read = [0; 1024];
        let length = stream.read(&mut read).await.unwrap_or(0);
        let is_call = read[..length].starts_with(b"GET / HTTP/1.1\r\n");
        let answer = match is_call {
            true => "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nsafe",
            false => "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
        };
        // A caller that wanted TLS closes at once.
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.flush().await;
    }
}

#[tokio::test]
async fn a_call_by_tls_reaches_gateways_of_the_release_and_nobody_else() {
    let (release, stranger) = (Release::new(), Release::new());
    for (answers, tls, is_served) in [
        (Some(&release), DoorTls::Required, true),
        (Some(&release), DoorTls::Preferred, true),
        (Some(&stranger), DoorTls::Required, false),
        (Some(&stranger), DoorTls::Preferred, false),
        (None, DoorTls::Required, false),
        (None, DoorTls::Preferred, true),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let gateway = gateway(listener, answers.map(|release| release.door.clone()));
        let here = LocalSet::new();
        let called = here.run_until(async {
            let _gateway = tokio::task::spawn_local(gateway);
            let door = door_with_tls(&address, &release, tls);
            // The second call resumes the session of the first, or goes on without TLS.
            for _ in 0..2 {
                let request = Request::new(Full::new(Bytes::new()));
                let answer = door.answer(request).await;
                match is_served {
                    true => assert_eq!(text(answer).await, "safe", "{tls:?}"),
                    false => {
                        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY, "{tls:?}");
                        assert!(text(answer).await.contains("nothing was executed"));
                    }
                }
            }
        });
        called.await;
    }
}
