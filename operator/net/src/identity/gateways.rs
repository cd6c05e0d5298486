//! Connections of an instance to the gateways' port for callers.
//!
//! The instance verifies that a gateway of its release answers, by the name that gateways have among parts and the
//! authorities of its pod's specification. It shows no certificate: a caller proves itself in its request.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pilotlight_core::identity::Role;
use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::version::TLS13;
use tokio_rustls::{TlsConnector, rustls};

use super::entrance::{HANDSHAKE_TIMEOUT, check_resumed, denied, provider, server_name};
use super::part::{MaterialError, PLAIN_TIME, certificates, roots, speaks_no_tls};
use crate::address::{self, Stream};
use crate::keepalive::Keepalive;

/// See the module. Clones share sessions.
#[derive(Clone)]
pub struct GatewayDialer(Arc<Inner>);

struct Inner {
    config: Arc<ClientConfig>,
    /// The same as in `config`, for sessions that are resumed.
    verifier: Arc<dyn ServerCertVerifier>,
    needs_tls: bool,
    /// When they did not speak TLS last.
    plain_since: Mutex<Option<Instant>>,
}

impl fmt::Debug for GatewayDialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GatewayDialer { .. }")
    }
}

impl GatewayDialer {
    /// `authorities`: certificates in PEM. `needs_tls`: gateways that do not speak TLS are not called without it.
    ///
    /// # Errors
    /// If the authorities cannot be used.
    pub fn new(authorities: &str, needs_tls: bool) -> Result<Self, MaterialError> {
        let roots = roots(&certificates("authorities", authorities.as_bytes())?)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
        let verifier = verifier.map_err(|error| MaterialError::Verifier(error.to_string()))?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(GatewayDialer(Arc::new(Inner {
            config: Arc::new(config),
            verifier,
            needs_tls,
            plain_since: Mutex::default(),
        })))
    }

    /// Connects to a gateway. `address`: `host:port`. Nothing of a request has left this process before it returns.
    ///
    /// # Errors
    /// If there is no connection within `timeout`, or the other end is not a gateway of this release.
    pub async fn connect(
        &self,
        address: &str,
        timeout: Duration,
        keepalive: Keepalive,
    ) -> io::Result<Stream> {
        let open = || address::connect(address, timeout, keepalive);
        if self.are_plain() {
            return Ok(Box::new(open().await?));
        }
        let name = server_name(Role::Gateway);
        let connector = TlsConnector::from(self.0.config.clone());
        let handshake = connector.connect(name.clone(), open().await?);
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await? {
            Ok(stream) => {
                check_resumed(stream.get_ref().1, |certificate, intermediates, now| {
                    let verifier = &self.0.verifier;
                    let verified =
                        verifier.verify_server_cert(certificate, intermediates, &name, &[], now);
                    verified.map(drop)
                })?;
                Ok(Box::new(stream))
            }
            // A gateway of an earlier release takes the handshake for a request that it cannot read.
            Err(error) if speaks_no_tls(&error) && !self.0.needs_tls => {
                *self.plain_since() = Some(Instant::now());
                Ok(Box::new(open().await?))
            }
            Err(error) if speaks_no_tls(&error) => Err(denied("it does not speak TLS")),
            Err(error) => Err(error),
        }
    }

    fn plain_since(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        let since = self.0.plain_since.lock();
        since.unwrap_or_else(PoisonError::into_inner)
    }

    fn are_plain(&self) -> bool {
        !self.0.needs_tls
            && self
                .plain_since()
                .is_some_and(|since| since.elapsed() < PLAIN_TIME)
    }
}
