//! An authority of a release, which signs the certificates of its parts.

use pilotlight_core::identity::{Mode, Role};
use pilotlight_net::identity::public::PublicCertificate;
use pilotlight_net::identity::{Identity, Material};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// In PEM.
    pub(crate) certificate: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed").pem();
        Authority {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    /// A certificate for this name and its key, in PEM.
    fn sign(&self, name: &str) -> (String, String) {
        let params = CertificateParams::new([name.to_owned()]);
        let key = KeyPair::generate().expect("a key");
        let signed = params.expect("a name").signed_by(&key, &self.issuer);
        (signed.expect("signed").pem(), key.serialize_pem())
    }

    /// A certificate for callers.
    pub(crate) fn public(&self, name: &str) -> PublicCertificate {
        let (certificate, key) = self.sign(name);
        PublicCertificate::of_pem(certificate.as_bytes(), key.as_bytes()).expect("valid")
    }

    pub(crate) fn identity(&self, mode: Mode, role: Role) -> Identity {
        let (certificate, key) = self.sign(role.host());
        let authority = self.certificate.as_bytes();
        let material = Material::of_pem(authority, certificate.as_bytes(), key.as_bytes());
        let identity = Identity::new(mode);
        identity.renew(material.expect("PEM")).expect("valid");
        identity
    }
}
