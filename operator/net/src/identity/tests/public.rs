//! The port for callers, as TLS clients of two versions and callers without TLS see it.

use std::net::SocketAddr;
use std::sync::Arc;

use pilotlight_core::tls;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::{TlsConnector, client};

use super::super::entrance::HANDSHAKE_TIMEOUT;
use super::super::entrance::provider;
use super::super::public::{DoorCounts, PublicCertificate, PublicDoor};
use super::*;

const REFUSAL: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 5\r\n\r\nHTTPS";
const NAME: &str = "functions.test";

/// The authority that callers trust, a door with a certificate of it, and the release's authority.
struct House {
    callers: Authority,
    release: Authority,
    door: PublicDoor,
}

impl House {
    fn new(mode: tls::Mode) -> Self {
        let (callers, release) = (Authority::new(), Authority::new());
        let part = release.identity(Mode::Required, Role::Gateway);
        let door = PublicDoor::new(mode, part, REFUSAL).expect("random numbers");
        House {
            callers,
            release,
            door,
        }
    }

    /// The serial number of the new certificate's public key, which is new too.
    fn renew(&self) {
        let Material {
            certificates, key, ..
        } = self.callers.material(NAME);
        let certificate = pem("CERTIFICATE", certificates.first().expect("one"));
        let key = pem("PRIVATE KEY", key.secret_der());
        let certificate = PublicCertificate::of_pem(certificate.as_bytes(), key.as_bytes());
        let certificate = certificate.expect("valid");
        assert_eq!(certificate.expires(), 4_000_000_000);
        self.door.renew(certificate);
    }

    /// Lets callers in as long as the test lasts, and answers each byte with the next one.
    async fn opens(&self) -> (SocketAddr, JoinHandle<()>) {
        let (listener, address) = listener().await;
        let door = self.door.clone();
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let door = door.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = door.accept(stream).await else {
                        return;
                    };
                    while let Ok(byte) = stream.read_u8().await {
                        let _ = stream.write_all(&[byte + 1]).await;
                        let _ = stream.flush().await;
                    }
                });
            }
        });
        (address, serving)
    }
}

fn pem(kind: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n")
}

struct Caller<'a> {
    trusts: &'a Authority,
    asks_for: &'static str,
    version: &'static SupportedProtocolVersion,
    protocols: &'static [&'static str],
}

impl Caller<'_> {
    fn of(trusts: &Authority) -> Caller<'_> {
        Caller {
            trusts,
            asks_for: NAME,
            version: &TLS13,
            protocols: &[],
        }
    }

    async fn connects(&self, to: SocketAddr) -> io::Result<client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.trusts.certificate.as_bytes());
        roots.add(authority.expect("PEM")).expect("an authority");
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[self.version])
            .expect("a version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let protocols = self.protocols.iter().map(|name| name.as_bytes().to_vec());
        config.alpn_protocols = protocols.collect();
        let name = ServerName::try_from(self.asks_for).expect("a name");
        let stream = TcpStream::connect(to).await?;
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }
}

async fn echoes(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> io::Result<()> {
    stream.write_all(b"a").await?;
    stream.flush().await?;
    match stream.read_u8().await? {
        b'b' => Ok(()),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn callers_choose_the_version_of_tls_and_of_http() {
    let house = House::new(tls::Mode::Required);
    house.renew();
    let (address, _serving) = house.opens().await;
    for version in [&TLS12, &TLS13] {
        for (protocols, chosen) in [
            (&[][..], None),
            (&["http/1.1"], Some("http/1.1")),
            (&["h2", "http/1.1"], Some("h2")),
        ] {
            let caller = Caller {
                version,
                protocols,
                ..Caller::of(&house.callers)
            };
            let mut stream = caller.connects(address).await.expect("a connection");
            let protocol = stream.get_ref().1.alpn_protocol();
            assert_eq!(protocol, chosen.map(str::as_bytes));
            echoes(&mut stream).await.expect("it is served");
        }
    }
    assert_eq!(
        house.door.counts(),
        DoorCounts {
            handshakes: 6,
            ..DoorCounts::default()
        }
    );
}

#[tokio::test]
async fn instances_get_the_certificate_of_the_release_and_callers_the_public_one() {
    let house = House::new(tls::Mode::Required);
    house.renew();
    let (address, _serving) = house.opens().await;
    let instance = Caller {
        asks_for: Role::Gateway.host(),
        ..Caller::of(&house.release)
    };
    let mut stream = instance.connects(address).await.expect("verified");
    echoes(&mut stream).await.expect("it is served");
    for stranger in [
        Caller::of(&house.release),
        Caller {
            asks_for: Role::Gateway.host(),
            ..Caller::of(&house.callers)
        },
        Caller {
            asks_for: "elsewhere.test",
            ..Caller::of(&house.callers)
        },
    ] {
        assert!(stranger.connects(address).await.is_err());
    }
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_open_ones_go_on() {
    let house = House::new(tls::Mode::Required);
    assert!(!house.door.is_ready());
    let (address, _serving) = house.opens().await;
    let caller = Caller::of(&house.callers);
    assert!(
        caller.connects(address).await.is_err(),
        "no certificate yet"
    );
    house.renew();
    assert!(house.door.is_ready());
    let mut open = caller.connects(address).await.expect("a connection");
    house.renew();
    let mut new = caller.connects(address).await.expect("a connection");
    let shown = |stream: &client::TlsStream<TcpStream>| {
        let certificates = stream.get_ref().1.peer_certificates();
        certificates.expect("verified")[0].clone()
    };
    assert_ne!(shown(&open), shown(&new));
    for stream in [&mut open, &mut new] {
        echoes(stream).await.expect("it is served");
    }
    assert_eq!(house.door.counts().failed, 1);
}

#[tokio::test]
async fn plain_text_is_served_or_gets_an_answer_that_names_https() {
    for (mode, is_served) in [
        (tls::Mode::Off, true),
        (tls::Mode::Optional, true),
        (tls::Mode::Required, false),
    ] {
        let house = House::new(mode);
        house.renew();
        let (address, _serving) = house.opens().await;
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        if is_served {
            echoes(&mut stream).await.expect("it is served");
            continue;
        }
        // More than is read before the answer.
        let request = format!("POST / HTTP/1.1\r\ncontent-length: 5000\r\n\r\n{:5000}", "");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer).await;
        read.expect("the connection ends, and is not broken");
        assert_eq!(answer, REFUSAL);
        assert_eq!(house.door.counts().plain_refused, 1);

        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(&[0x80, 0x2e, 1]).await.expect("sent");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert_eq!(answer, [0; 0], "what is no HTTP gets no answer");
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_does_not_end_its_handshake_is_cut_off() {
    let house = House::new(tls::Mode::Required);
    house.renew();
    for sent in [&[][..], &[0x16, 3]] {
        let (listener, address) = listener().await;
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(sent).await.expect("sent");
        let (accepted, _) = listener.accept().await.expect("a connection");
        let begun = tokio::time::Instant::now();
        let ended = house.door.accept(accepted).await;
        assert!(ended.is_err());
        assert_eq!(begun.elapsed().as_secs(), HANDSHAKE_TIMEOUT.as_secs());
    }
    assert_eq!(house.door.counts().failed, 1, "nothing is no handshake");
}
