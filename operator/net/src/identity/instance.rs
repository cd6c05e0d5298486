//! The identity of an instance: a key of its own, and the token of its pod.
//!
//! The supervisor makes the key when it starts, so nothing can be stolen from the pod's specification, and no Secret is
//! made for a pod. It serves gateways of the release alone, and shows the token to them alone: whoever else had it
//! could pretend to be this pod.

use std::fmt;
use std::io;
use std::sync::Arc;

use pilotlight_core::identity::{Caller, Role};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use tokio::net::TcpStream;
use tokio_rustls::rustls;

use super::entrance::{Accepted, Entrance, denied, provider};
use super::part::{MaterialError, certificates, verifier};

/// See the module. Clones share the key.
#[derive(Clone)]
pub struct InstanceIdentity(Arc<Entrance>);

impl fmt::Debug for InstanceIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InstanceIdentity { .. }")
    }
}

impl InstanceIdentity {
    /// `authorities`: certificates in PEM; a gateway has a certificate of one of them. `needs_tls`: whether connections
    /// without TLS are refused.
    ///
    /// # Errors
    /// If the authorities cannot be used, or the machine gives no random numbers.
    pub fn new(authorities: &str, needs_tls: bool) -> Result<Self, MaterialError> {
        let authorities = certificates("authorities", authorities.as_bytes())?;
        let verifier = verifier(&authorities)?;
        let key = fresh_key()?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has TLS 1.3")
            .with_client_cert_verifier(verifier.clone())
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::new(
                key,
            ))));
        Ok(InstanceIdentity(Arc::new(Entrance {
            config: Arc::new(config),
            verifier,
            needs_tls,
        })))
    }

    /// Finds out who has connected.
    ///
    /// # Errors
    /// If the other end is no gateway of the release although it has to be one, or breaks off.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(Accepted, Caller)> {
        let (stream, caller) = self.0.accept(stream).await?;
        match caller.may_act_as(Role::Gateway) {
            true => Ok((stream, caller)),
            false => Err(denied("its certificate is not a gateway's")),
        }
    }
}

fn fresh_key() -> Result<CertifiedKey, MaterialError> {
    let fails = |reason: &str| MaterialError::Own(rustls::Error::General(reason.to_owned()));
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
    let key = key.map_err(|_| fails("no random numbers"))?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.as_ref().to_owned()));
    let key = any_ecdsa_type(&key).map_err(MaterialError::Own)?;
    let public = key.public_key().ok_or_else(|| fails("no public key"))?;
    let public = CertificateDer::from(public.as_ref().to_owned());
    Ok(CertifiedKey::new(vec![public], key))
}
