//! The identity of a gateway or a controller: its certificate, and the connections that it makes and accepts with it.
//!
//! The certificate is replaced while connections are open ([`Identity::renew`]); these go on with the old one, and new
//! connections use the new one, so a renewal breaks nothing.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pilotlight_core::identity::{Caller, Mode, Role};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime, pem,
};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::{TlsConnector, client, rustls};

use super::entrance::{
    Accepted, Entrance, HANDSHAKE_TIMEOUT, check_resumed, denied, provider, server_name,
};
use crate::address::{self, Stream};
use crate::keepalive;

/// Sessions with instances that can be resumed without another exchange of certificates.
const SESSIONS: usize = 4096;
/// How long a part that does not speak TLS is not asked again whether it does ([`Mode::Permissive`]).
pub(super) const PLAIN_TIME: Duration = Duration::from_secs(60);

/// A certificate with its key, and the authorities that are trusted.
pub struct Material {
    pub(super) authorities: Vec<CertificateDer<'static>>,
    pub(super) certificates: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    #[error("{field} is not PEM: {error}")]
    Pem {
        field: &'static str,
        error: pem::Error,
    },
    #[error("{0} is empty")]
    Empty(&'static str),
    #[error("{field} has no valid certificate first: {error}")]
    NotX509 { field: &'static str, error: String },
    #[error("an authority is not valid: {0}")]
    Authority(#[source] rustls::Error),
    #[error("the authorities cannot be used: {0}")]
    Verifier(String),
    #[error("the certificate and its key cannot be used: {0}")]
    Own(#[source] rustls::Error),
    #[error("tls.key is not the key of the first certificate in tls.crt")]
    KeyMismatch,
}

impl Material {
    /// Reads texts in PEM, as Secrets for TLS have them.
    ///
    /// # Errors
    /// If one of them is not PEM, or is empty.
    pub fn of_pem(
        authorities: &[u8],
        certificate: &[u8],
        key: &[u8],
    ) -> Result<Self, MaterialError> {
        Ok(Material {
            authorities: certificates("ca.crt", authorities)?,
            certificates: certificates("tls.crt", certificate)?,
            key: PrivateKeyDer::from_pem_slice(key).map_err(|error| MaterialError::Pem {
                field: "tls.key",
                error,
            })?,
        })
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Material { .. }")
    }
}

/// Reads certificates in PEM.
pub(super) fn certificates(
    field: &'static str,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let read = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    match read {
        Ok(read) if read.is_empty() => Err(MaterialError::Empty(field)),
        Ok(read) => Ok(read),
        Err(error) => Err(MaterialError::Pem { field, error }),
    }
}

/// A certificate with its key, once it is clear that the two belong together.
pub(super) fn certified(
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, MaterialError> {
    CertifiedKey::from_der(certificates, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => MaterialError::KeyMismatch,
        error => MaterialError::Own(error),
    })
}

/// The key that an instance has shown, as DER. Two connections that show the same key lead to the same process.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerKey(Vec<u8>);

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerKey { .. }")
    }
}

/// Checks that a certificate comes from one of these authorities.
pub(super) fn verifier(
    authorities: &[CertificateDer<'static>],
) -> Result<Arc<dyn ClientCertVerifier>, MaterialError> {
    let roots = roots(authorities)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
    verifier.map_err(|error| MaterialError::Verifier(error.to_string()))
}

pub(super) fn roots(
    authorities: &[CertificateDer<'static>],
) -> Result<Arc<RootCertStore>, MaterialError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        let added = roots.add(authority.clone());
        added.map_err(MaterialError::Authority)?;
    }
    Ok(Arc::new(roots))
}

/// The identity of this process. Clones share it.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    mode: Mode,
    /// `None` until the first certificate is there.
    configs: watch::Sender<Option<Arc<Configs>>>,
    sessions: Resumption,
    /// Parts that did not speak TLS, and when that was.
    plain: Mutex<HashMap<SocketAddr, Instant>>,
}

struct Configs {
    accepts: Arc<ServerConfig>,
    /// What `accepts` shows.
    #[cfg(feature = "server")]
    own: Arc<CertifiedKey>,
    /// Checks who connects.
    callers: Arc<dyn ClientCertVerifier>,
    gateways: Connector,
    instances: Connector,
}

/// How to connect, and what checks the other end.
struct Connector {
    config: Arc<ClientConfig>,
    /// The same as in `config`, for sessions that are resumed.
    verifier: Arc<dyn ServerCertVerifier>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?})", self.0.mode)
    }
}

impl Identity {
    /// Without a certificate yet.
    pub fn new(mode: Mode) -> Self {
        Identity(Arc::new(Inner {
            mode,
            configs: watch::Sender::new(None),
            sessions: Resumption::in_memory_sessions(SESSIONS),
            plain: Mutex::default(),
        }))
    }

    pub fn off() -> Self {
        Identity::new(Mode::Off)
    }

    pub fn mode(&self) -> Mode {
        self.0.mode
    }

    /// New connections use this certificate from now on. Open ones are not touched.
    ///
    /// # Errors
    /// If the certificate, its key or an authority cannot be used. The present certificate stays in force then.
    pub fn renew(&self, material: Material) -> Result<(), MaterialError> {
        let configs = Configs::of(material, &self.0.sessions)?;
        self.0.configs.send_replace(Some(Arc::new(configs)));
        Ok(())
    }

    /// The present certificate and its key.
    #[cfg(feature = "server")]
    pub(super) fn own(&self) -> Option<Arc<CertifiedKey>> {
        let configs = self.0.configs.borrow();
        configs.as_ref().map(|configs| configs.own.clone())
    }

    /// Whether it has a certificate, or needs none.
    pub fn is_ready(&self) -> bool {
        self.0.mode != Mode::Required || self.0.configs.borrow().is_some()
    }

    /// Returns once it has a certificate, or at once if it needs none.
    pub async fn ready(&self) {
        if !self.is_ready() {
            // The sender lives as long as this does.
            let _ = self.0.configs.subscribe().wait_for(Option::is_some).await;
        }
    }

    fn configs(&self) -> io::Result<Option<Arc<Configs>>> {
        let configs = self.0.configs.borrow().clone();
        match (self.0.mode, configs) {
            (Mode::Off, _) => Ok(None),
            (Mode::Required, None) => Err(denied("this part has no certificate yet")),
            (_, configs) => Ok(configs),
        }
    }

    /// Connects to the port of a gateway for parts.
    ///
    /// # Errors
    /// If there is no connection within `timeout`, or the other end is not a gateway of this release.
    pub async fn connect_gateway(
        &self,
        address: SocketAddr,
        timeout: Duration,
    ) -> io::Result<Stream> {
        let configs = self.configs()?;
        let connector = configs.as_ref().map(|configs| &configs.gateways);
        let connected = self.connect(address, timeout, connector, server_name(Role::Gateway));
        Ok(match connected.await? {
            Connected::Plain(stream) => Box::new(stream),
            Connected::Tls(stream) => stream,
        })
    }

    /// Connects to a supervisor. The caller checks whose key it is. `None`: a connection without TLS, which proves
    /// nothing. `name`: differs for each pod, so that no session is resumed with another one.
    ///
    /// # Errors
    /// If there is no connection within `timeout`.
    pub async fn connect_instance(
        &self,
        address: SocketAddr,
        timeout: Duration,
        name: &str,
    ) -> io::Result<(Stream, Option<ServerKey>)> {
        let configs = self.configs()?;
        let connector = configs.as_ref().map(|configs| &configs.instances);
        let name = ServerName::try_from(name.to_owned());
        let name = name.unwrap_or_else(|_| ServerName::from(address.ip()));
        match self.connect(address, timeout, connector, name).await? {
            Connected::Plain(stream) => Ok((Box::new(stream), None)),
            Connected::Tls(stream) => {
                let shown = stream.get_ref().1.peer_certificates();
                let key = shown.and_then(<[_]>::first);
                let key = key.ok_or_else(|| denied("it shows no key"))?;
                let key = ServerKey(key.as_ref().to_owned());
                Ok((stream, Some(key)))
            }
        }
    }

    async fn connect(
        &self,
        address: SocketAddr,
        timeout: Duration,
        connector: Option<&Connector>,
        name: ServerName<'static>,
    ) -> io::Result<Connected> {
        let open = || address::connect(address, timeout, keepalive::PARTS);
        let Some(connector) = connector.filter(|_| !self.is_plain(address)) else {
            return Ok(Connected::Plain(open().await?));
        };
        let stream = open().await?;
        let handshake = TlsConnector::from(connector.config.clone()).connect(name.clone(), stream);
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await? {
            Ok(stream) => {
                check_resumed(stream.get_ref().1, |certificate, intermediates, now| {
                    let verifier = &connector.verifier;
                    let verified =
                        verifier.verify_server_cert(certificate, intermediates, &name, &[], now);
                    verified.map(drop)
                })?;
                Ok(Connected::Tls(Box::new(stream)))
            }
            // A part of an earlier release takes the handshake for a request that it cannot read.
            Err(error) if self.0.mode == Mode::Permissive && speaks_no_tls(&error) => {
                self.plain().insert(address, Instant::now());
                Ok(Connected::Plain(open().await?))
            }
            Err(error) if speaks_no_tls(&error) => Err(denied(
                "it does not speak TLS: it is of an earlier release, or none of Pilotlight's parts",
            )),
            Err(error) => Err(error),
        }
    }

    fn plain(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, Instant>> {
        self.0.plain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_plain(&self, address: SocketAddr) -> bool {
        if self.0.mode != Mode::Permissive {
            return false;
        }
        let mut plain = self.plain();
        plain.retain(|_, since| since.elapsed() < PLAIN_TIME);
        plain.contains_key(&address)
    }

    /// Finds out who has connected to the port for parts.
    ///
    /// # Errors
    /// If the other end does not prove its role although it has to, or breaks off.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(Accepted, Caller)> {
        match (self.0.mode, self.configs()?) {
            (Mode::Off, _) | (_, None) => Ok((Accepted::Left(stream), Caller::Unproven)),
            (mode, Some(configs)) => {
                let entrance = Entrance {
                    config: configs.accepts.clone(),
                    verifier: configs.callers.clone(),
                    needs_tls: mode == Mode::Required,
                };
                entrance.accept(stream).await
            }
        }
    }
}

enum Connected {
    Plain(TcpStream),
    Tls(Box<client::TlsStream<TcpStream>>),
}

/// Whether the other end has answered the handshake with something else than TLS. An end that breaks off says nothing
/// of that kind.
pub(super) fn speaks_no_tls(error: &io::Error) -> bool {
    let inner = error.get_ref();
    let error = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(error, Some(rustls::Error::InvalidMessage(_)))
}

impl Configs {
    fn of(material: Material, sessions: &Resumption) -> Result<Self, MaterialError> {
        let Material {
            authorities,
            certificates,
            key,
        } = material;
        let callers = verifier(&authorities)?;
        let own = Arc::new(certified(certificates.clone(), key.clone_key())?);
        let shown = SingleCertAndKey::from(own.clone());
        let accepts = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has TLS 1.3")
            .with_client_cert_verifier(callers.clone())
            .with_cert_resolver(Arc::new(shown));
        let roots = roots(&authorities)?;
        let gateways = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
        let gateways = gateways.map_err(|error| MaterialError::Verifier(error.to_string()))?;
        let connector = |verifier: Arc<dyn ServerCertVerifier>, sessions: Resumption| {
            let config = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&[&TLS13])
                .expect("the provider has TLS 1.3")
                .dangerous()
                .with_custom_certificate_verifier(verifier.clone())
                .with_client_auth_cert(certificates.clone(), key.clone_key());
            let mut config = config.map_err(MaterialError::Own)?;
            config.enable_sni = false;
            config.resumption = sessions;
            Ok(Connector {
                config: Arc::new(config),
                verifier,
            })
        };
        Ok(Configs {
            accepts: Arc::new(accepts),
            #[cfg(feature = "server")]
            own,
            callers,
            gateways: connector(gateways, Resumption::default())?,
            instances: connector(Arc::new(AnyKey(provider())), sessions.clone())?,
        })
    }
}

/// Accepts any key of an instance, and checks that the instance holds it. A key says nothing by itself: whoever
/// connects compares it with the key whose owner has shown a pod's token.
#[derive(Debug)]
struct AnyKey(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyKey {
    fn verify_server_cert(
        &self,
        _key: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // Only TLS 1.3 is offered.
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(key.as_ref()),
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
