//! Calls by TLS through the whole listener for callers, and the readiness of a gateway without a certificate.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pilotlight_core::intake::connection::SHORT_HEAD_LIMIT;
use pilotlight_core::intake::limits::IntakeLimits;
use pilotlight_core::tls::Mode;
use pilotlight_net::identity::Identity;
use pilotlight_net::identity::public::PublicDoor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsConnector, rustls};
use tokio_util::sync::CancellationToken;

use super::authority::Authority;
use super::stage::{Stage, function, on_stage, settled};
use crate::config::Config;
use crate::http::https_only::HTTPS_ONLY;
use crate::http::server;
use crate::intake::Listener;

const NAME: &str = "functions.test";
const GET: &[u8] = b"GET /2015-03-31/functions HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

async fn stage(mode: Mode, api_connections: usize) -> (Stage, PublicDoor) {
    let door = PublicDoor::new(mode, Identity::off(), HTTPS_ONLY).expect("random numbers");
    let limits = IntakeLimits {
        api_connections,
        ..Config::default().limits
    };
    let config = Config {
        door: door.clone(),
        limits,
        ..Config::default()
    };
    let stage = Stage::new(config, None);
    stage.gateway.deploy(vec![function("timeout: 3")]).await;
    (stage, door)
}

async fn listen(stage: &Stage, whose: Listener) -> SocketAddr {
    let routes = match whose {
        Listener::status => stage.gateway.status(),
        _ => stage.gateway.api(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let served = stage.gateway.served(routes, whose);
    task::spawn_local(server::serve(served, listener, CancellationToken::new()));
    address
}

async fn connect(
    authority: &Authority,
    address: SocketAddr,
    protocol: &str,
) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    let trusted = CertificateDer::from_pem_slice(authority.certificate.as_bytes());
    roots.add(trusted.expect("PEM")).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(address).await.expect("a connection");
    let name = ServerName::try_from(NAME).expect("a name");
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream);
    connected.await.expect("verified")
}

async fn plain(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test(start_paused = true)]
async fn callers_with_tls_speak_both_versions_of_http_and_those_without_learn_why_not() {
    on_stage(async {
        let (stage, door) = stage(Mode::Required, 64).await;
        let authority = Authority::new();
        door.renew(authority.public(NAME));
        let address = listen(&stage, Listener::api).await;

        let mut stream = connect(&authority, address, "http/1.1").await;
        stream.write_all(GET).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("whole");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("\"FunctionName\":\"hello\""), "{answer}");

        let stream = connect(&authority, address, "h2").await;
        let builder = http2::Builder::new(TokioExecutor::new());
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.expect("h2");
        task::spawn_local(connection);
        let request = Request::get("https://functions.test/2015-03-31/functions/");
        let request = request.body(Full::<Bytes>::default()).expect("a request");
        let answer = sender.send_request(request).await.expect("an answer");
        assert_eq!(
            (answer.status(), answer.version()),
            (StatusCode::OK, Version::HTTP_2)
        );
        let body = answer.into_body().collect().await.expect("whole");
        assert!(body.to_bytes().starts_with(b"{\"Functions\":"));

        assert_eq!(plain(address, GET).await, HTTPS_ONLY);
        for (metric, count) in [
            ("pilotlight_tls_handshakes_total{result=\"done\"}", 2.0),
            ("pilotlight_tls_handshakes_total{result=\"failed\"}", 0.0),
            ("pilotlight_plain_text_refused_total", 1.0),
        ] {
            assert_eq!(stage.metric(metric).await, count, "{metric}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_stalls_gives_its_place_to_a_caller_that_waits() {
    on_stage(async {
        let (stage, door) = stage(Mode::Required, 1).await;
        let authority = Authority::new();
        door.renew(authority.public(NAME));
        let address = listen(&stage, Listener::api).await;
        let begun = Instant::now();
        let mut stalled = TcpStream::connect(address).await.expect("a connection");
        stalled.write_all(&[0x16, 3, 1]).await.expect("sent");
        settled().await;
        let mut stream = connect(&authority, address, "http/1.1").await;
        let waited = begun.elapsed();
        assert!(
            (SHORT_HEAD_LIMIT..SHORT_HEAD_LIMIT * 2).contains(&waited),
            "{waited:?}"
        );
        stream.write_all(GET).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("whole");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(door.counts().failed, 1);
        assert_eq!(stalled.read(&mut [0]).await.unwrap_or(0), 0, "it was cut");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_needs_tls_is_ready_once_it_has_a_certificate() {
    on_stage(async {
        let ready = b"GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let (stage_of_required, door) = stage(Mode::Required, 64).await;
        let address = listen(&stage_of_required, Listener::status).await;
        let answer = plain(address, ready).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(
            answer.contains("no certificate for callers yet"),
            "{answer}"
        );
        door.renew(Authority::new().public(NAME));
        assert!(plain(address, ready).await.starts_with("HTTP/1.1 200"));

        let (stage_of_optional, _) = stage(Mode::Optional, 64).await;
        let address = listen(&stage_of_optional, Listener::status).await;
        assert!(plain(address, ready).await.starts_with("HTTP/1.1 200"));
    })
    .await;
}
