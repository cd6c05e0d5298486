//! The entrance of a listener: whether the other end speaks TLS, and which role its certificate has.
//!
//! `part` and `instance` make entrances, each with its own certificate.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pilotlight_core::identity::{Caller, Role};
use pilotlight_core::tls::TLS_HANDSHAKE;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::{CommonState, HandshakeKind, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, rustls};
use tokio_util::either::Either;
use webpki::EndEntityCert;

/// How long the other end may take from the connection to the end of the handshake.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that was accepted, with TLS or without.
pub type Accepted<S = TcpStream> = Either<S, Box<TlsStream<S>>>;

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The name for which a certificate with this role is valid.
pub(super) fn server_name(role: Role) -> ServerName<'static> {
    ServerName::try_from(role.host()).expect("a role's name is a DNS name")
}

/// The role in a certificate that was checked already.
fn role_of(certificates: Option<&[CertificateDer<'_>]>) -> Option<Role> {
    let certificate = EndEntityCert::try_from(certificates?.first()?).ok()?;
    let has = |role: &Role| {
        certificate
            .verify_is_valid_for_subject_name(&server_name(*role))
            .is_ok()
    };
    Role::ALL.into_iter().find(has)
}

/// Checks the other end's certificate again if the session was resumed: TLS itself checks it in the first handshake of
/// a session alone, and each resumption renews the session. So a certificate is good for no longer than its own time.
/// This costs one check of the authority's signature.
///
/// # Errors
/// If the certificate is not valid any more.
pub(super) fn check_resumed(
    session: &CommonState,
    verify: impl FnOnce(
        &CertificateDer<'_>,
        &[CertificateDer<'_>],
        UnixTime,
    ) -> Result<(), rustls::Error>,
) -> io::Result<()> {
    if session.handshake_kind() != Some(HandshakeKind::Resumed) {
        return Ok(());
    }
    let shown = session.peer_certificates().and_then(<[_]>::split_first);
    let (certificate, intermediates) =
        shown.ok_or_else(|| denied("its session has no certificate"))?;
    verify(certificate, intermediates, UnixTime::now()).map_err(|error| {
        let reason = format!("the certificate of its session is not valid any more: {error}");
        io::Error::new(io::ErrorKind::PermissionDenied, reason)
    })
}

/// Who may connect to a listener, and how.
pub(super) struct Entrance {
    pub(super) config: Arc<ServerConfig>,
    /// The same as in `config`, for sessions that are resumed.
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    /// Whether connections without TLS are refused.
    pub(super) needs_tls: bool,
}

impl Entrance {
    /// Finds out whether the other end speaks TLS, and then who it is.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<(Accepted, Caller)> {
        let accepting = async {
            if first_byte(&stream).await? == TLS_HANDSHAKE {
                let stream = TlsAcceptor::from(self.config.clone())
                    .accept(stream)
                    .await?;
                let session = stream.get_ref().1;
                check_resumed(session, |certificate, intermediates, now| {
                    let verified =
                        self.verifier
                            .verify_client_cert(certificate, intermediates, now);
                    verified.map(drop)
                })?;
                let role = role_of(session.peer_certificates());
                let role = role.ok_or_else(|| denied("its certificate has no role"))?;
                Ok((Either::Right(Box::new(stream)), Caller::Proven(role)))
            } else if self.needs_tls {
                Err(denied("it does not speak TLS"))
            } else {
                Ok((Either::Left(stream), Caller::Unproven))
            }
        };
        tokio::time::timeout(HANDSHAKE_TIMEOUT, accepting).await?
    }
}

pub(super) fn denied(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, reason)
}

/// Waits for it, and leaves it in the stream.
pub(super) async fn first_byte(stream: &TcpStream) -> io::Result<u8> {
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(first[0]),
    }
}
