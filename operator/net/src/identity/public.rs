//! The port for callers: TLS with a certificate that everybody can verify, beside plain text or instead of it.
//!
//! Callers show no certificate. The certificate is replaced while connections are open ([`PublicDoor::renew`]). A caller
//! that asks for the name of a gateway among parts gets the part's certificate, which the release's authority has signed: so
//! instances can verify it, whatever certificate the operator of the cluster has chosen for everybody else.
//! `core::tls` decides what a connection gets.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pilotlight_core::identity::Role;
use pilotlight_core::tls::{Mode, Treatment};
use rustls::crypto::ring::Ticketer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, rustls};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::entrance::{Accepted, HANDSHAKE_TIMEOUT, denied, first_byte, provider};
use super::part::{Identity, MaterialError, certificates, certified};

/// 1.2 as well, with keys that are thrown away (ECDHE) alone: `rustls` has no others.
static VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
/// The protocols that callers may choose by ALPN. Most choose the first one that they know too.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// Bytes of an answer that TLS buffers beyond those of the kernel: one record.
const BUFFER: usize = 16 * 1024;
/// How long a caller may take to read that this port speaks HTTPS.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// The most bytes of a refused request that are read. Otherwise the kernel would break the connection before the caller
/// has the answer.
const REFUSED_BYTES: u64 = 64 * 1024;

/// The certificate for callers, with its key.
pub struct PublicCertificate {
    own: Arc<CertifiedKey>,
    expires: i64,
}

impl fmt::Debug for PublicCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicCertificate { .. }")
    }
}

impl PublicCertificate {
    /// Reads texts in PEM, as Secrets for TLS have them. `certificate`: the caller's own first, then those by which it is
    /// verified.
    ///
    /// # Errors
    /// If one of them is not PEM or empty, or if they do not belong together. The error names the field of the Secret.
    pub fn of_pem(certificate: &[u8], key: &[u8]) -> Result<Self, MaterialError> {
        let certificates = certificates("tls.crt", certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| MaterialError::Pem {
            field: "tls.key",
            error,
        })?;
        let first = certificates
            .first()
            .ok_or(MaterialError::Empty("tls.crt"))?;
        let (_, read) =
            X509Certificate::from_der(first).map_err(|error| MaterialError::NotX509 {
                field: "tls.crt",
                error: error.to_string(),
            })?;
        let expires = read.validity().not_after.timestamp();
        Ok(PublicCertificate {
            own: Arc::new(certified(certificates, key)?),
            expires,
        })
    }

    /// The last second in which it is valid, since 1970.
    pub fn expires(&self) -> i64 {
        self.expires
    }
}

/// What has come of connections since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoorCounts {
    /// Handshakes that ended well.
    pub handshakes: u64,
    /// Handshakes that failed or took too long.
    pub failed: u64,
    /// Requests in plain text that were refused.
    pub plain_refused: u64,
}

/// See the module. Clones share it.
#[derive(Clone)]
pub struct PublicDoor(Arc<Inner>);

struct Inner {
    mode: Mode,
    /// The answer to plain text that is refused, with its head.
    refusal: &'static str,
    certificate: watch::Sender<Option<Arc<CertifiedKey>>>,
    /// `None` if nothing is served by TLS.
    acceptor: Option<TlsAcceptor>,
    handshakes: AtomicU64,
    failed: AtomicU64,
    plain_refused: AtomicU64,
}

impl fmt::Debug for PublicDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicDoor({:?})", self.0.mode)
    }
}

/// Chooses the certificate for a handshake.
#[derive(Debug)]
struct Chosen {
    public: watch::Receiver<Option<Arc<CertifiedKey>>>,
    part: Identity,
}

impl ResolvesServerCert for Chosen {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if hello.server_name() == Some(Role::Gateway.host())
            && let Some(own) = self.part.own()
        {
            return Some(own);
        }
        self.public.borrow().clone()
    }
}

impl PublicDoor {
    /// Plain text alone.
    pub fn off() -> Self {
        PublicDoor::with(Mode::Off, "", watch::Sender::new(None), None)
    }

    /// Without a certificate yet. `part`: this gateway among the parts. `refusal`: a whole answer of HTTP/1.1.
    ///
    /// # Errors
    /// If the machine gives no random numbers.
    pub fn new(mode: Mode, part: Identity, refusal: &'static str) -> Result<Self, MaterialError> {
        let certificate = watch::Sender::new(None);
        let acceptor = match mode {
            Mode::Off => None,
            Mode::Optional | Mode::Required => {
                let chosen = Chosen {
                    public: certificate.subscribe(),
                    part,
                };
                let mut config = ServerConfig::builder_with_provider(provider())
                    .with_protocol_versions(&VERSIONS)
                    .expect("the provider has both versions")
                    .with_no_client_auth()
                    .with_cert_resolver(Arc::new(chosen));
                config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
                // The caller keeps its session, encrypted: sessions take no memory here.
                config.ticketer = Ticketer::new().map_err(MaterialError::Own)?;
                Some(TlsAcceptor::from(Arc::new(config)))
            }
        };
        Ok(PublicDoor::with(mode, refusal, certificate, acceptor))
    }

    fn with(
        mode: Mode,
        refusal: &'static str,
        certificate: watch::Sender<Option<Arc<CertifiedKey>>>,
        acceptor: Option<TlsAcceptor>,
    ) -> Self {
        PublicDoor(Arc::new(Inner {
            mode,
            refusal,
            certificate,
            acceptor,
            handshakes: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            plain_refused: AtomicU64::new(0),
        }))
    }

    pub fn mode(&self) -> Mode {
        self.0.mode
    }

    /// New connections get this certificate from now on. Open ones are not touched.
    pub fn renew(&self, certificate: PublicCertificate) {
        self.0.certificate.send_replace(Some(certificate.own));
    }

    /// Whether it can serve: it has a certificate, or does without one.
    pub fn is_ready(&self) -> bool {
        self.0.mode != Mode::Required || self.0.certificate.borrow().is_some()
    }

    pub fn counts(&self) -> DoorCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        DoorCounts {
            handshakes: of(&self.0.handshakes),
            failed: of(&self.0.failed),
            plain_refused: of(&self.0.plain_refused),
        }
    }

    /// Lets a caller in.
    ///
    /// # Errors
    /// If the connection may not be served, breaks off, or takes too long.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Accepted> {
        let Some(acceptor) = &self.0.acceptor else {
            return Ok(Accepted::Left(stream));
        };
        let accepting = async {
            match self.0.mode.treatment(first_byte(&stream).await?) {
                Treatment::Plain => Ok(Accepted::Left(stream)),
                Treatment::Tls => {
                    let mut handshake = Handshake {
                        door: &self.0,
                        is_done: false,
                    };
                    let mut stream = acceptor.accept(stream).await?;
                    handshake.is_done = true;
                    stream.get_mut().1.set_buffer_limit(Some(BUFFER));
                    Ok(Accepted::Right(Box::new(stream)))
                }
                Treatment::Refusal => {
                    self.0.plain_refused.fetch_add(1, Ordering::Relaxed);
                    refuse(stream, self.0.refusal).await;
                    Err(denied("it does not speak TLS"))
                }
                Treatment::Close => Err(denied("it speaks neither TLS nor HTTP")),
            }
        };
        tokio::time::timeout(HANDSHAKE_TIMEOUT, accepting).await?
    }
}

/// DoorCounts a handshake when it ends, also if nobody waits for it any more.
struct Handshake<'a> {
    door: &'a Inner,
    is_done: bool,
}

impl Drop for Handshake<'_> {
    fn drop(&mut self) {
        let count = match self.is_done {
            true => &self.door.handshakes,
            false => &self.door.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Answers, and then reads until the caller has closed the connection, within bounds.
async fn refuse(mut stream: TcpStream, answer: &str) {
    let answering = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        let mut rest = (&mut stream).take(REFUSED_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // A caller that does not wait for its answer needs none.
    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, answering).await;
}
