//! One authority of the release, and the certificates that it signs.
//!
//! Pure but for random numbers: the caller passes the time. Keys are of the curve P-256.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use pilotlight_core::identity::{Role, Validity};

/// Certificates are valid some time before they are made, for machines whose clocks are late, in seconds.
const BACKDATED: u64 = 60 * 60;

/// As the Secret has it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Authority {
    #[serde(flatten, with = "Times")]
    pub(super) validity: Validity,
    /// In PEM.
    pub(super) certificate: String,
    /// In PEM.
    key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Validity")]
struct Times {
    from: u64,
    until: u64,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({:?})", self.validity)
    }
}

impl Authority {
    /// Valid from `now` for `lifetime` seconds.
    pub(super) fn new(now: u64, lifetime: u64) -> Result<Self, rcgen::Error> {
        let validity = Validity {
            from: now,
            until: now + lifetime,
        };
        let params = authority_params(validity);
        let key = KeyPair::generate()?;
        Ok(Authority {
            validity,
            certificate: params.self_signed(&key)?.pem(),
            key: key.serialize_pem(),
        })
    }

    /// A certificate with this role and its key, both in PEM. It does not outlive the authority.
    pub(super) fn sign(
        &self,
        role: Role,
        now: u64,
        lifetime: u64,
    ) -> Result<(Validity, String, String), rcgen::Error> {
        let mut params = CertificateParams::new([role.host().to_owned()])?;
        params.distinguished_name = named(role.host());
        params.extended_key_usages = match role {
            Role::Gateway => vec![
                ExtendedKeyUsagePurpose::ClientAuth,
                ExtendedKeyUsagePurpose::ServerAuth,
            ],
            // Nobody connects to a controller.
            Role::Controller => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        self.sign_params(params, now, lifetime)
    }

    /// The same for the names and addresses at which callers reach gateways.
    pub(super) fn sign_public(
        &self,
        names: &[String],
        now: u64,
        lifetime: u64,
    ) -> Result<(Validity, String, String), rcgen::Error> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named("pilotlight gateway");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign_params(params, now, lifetime)
    }

    fn sign_params(
        &self,
        mut params: CertificateParams,
        now: u64,
        lifetime: u64,
    ) -> Result<(Validity, String, String), rcgen::Error> {
        let validity = Validity {
            from: now,
            until: (now + lifetime).min(self.validity.until),
        };
        let issuer = Issuer::new(
            authority_params(self.validity),
            KeyPair::from_pem(&self.key)?,
        );
        set_times(&mut params, validity);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok((validity, certificate.pem(), key.serialize_pem()))
    }
}

fn authority_params(validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    // Each authority has a name of its own, by which a certificate finds the one that has signed it.
    params.distinguished_name = named(&format!("pilotlight authority {}", validity.from));
    set_times(&mut params, validity);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn set_times(params: &mut CertificateParams, validity: Validity) {
    let time = |seconds: u64| {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    };
    params.not_before = time(validity.from.saturating_sub(BACKDATED));
    params.not_after = time(validity.until);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pilotlight_core::identity::{Caller, Mode};
    use pilotlight_net::identity::{Identity, Material};
    use tokio::net::TcpListener;

    use super::*;

    const HOUR: u64 = 60 * 60;

    fn identity(by: &Authority, trusted: &str, role: Role, now: u64) -> Identity {
        let (_, certificate, key) = by.sign(role, now, HOUR).expect("signed");
        let identity = Identity::new(Mode::Required);
        let material = Material::of_pem(trusted.as_bytes(), certificate.as_bytes(), key.as_bytes());
        identity.renew(material.expect("PEM")).expect("valid");
        identity
    }

    async fn meets(from: &Identity, to: &Identity) -> Option<Caller> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let accepting = async {
            let (stream, _) = listener.accept().await.expect("a connection");
            to.accept(stream).await.ok()
        };
        let limit = Duration::from_secs(300);
        let (connected, accepted) = tokio::join!(from.connect_gateway(address, limit), accepting);
        connected.ok()?;
        Some(accepted?.1)
    }

    #[tokio::test]
    async fn parts_know_each_other_by_what_an_authority_that_both_trust_has_signed() {
        let now = super::super::now();
        let [one, two] = [now - 1, now].map(|at| Authority::new(at, 24 * HOUR).expect("made"));
        let both = format!("{}{}", one.certificate, two.certificate);
        let gateway = identity(&one, &both, Role::Gateway, now);
        for (by, role) in [(&one, Role::Gateway), (&two, Role::Controller)] {
            let caller = identity(by, &both, role, now);
            assert_eq!(meets(&caller, &gateway).await, Some(Caller::Proven(role)));
        }
        let stranger = Authority::new(now, 24 * HOUR).expect("made");
        let stranger = identity(&stranger, &both, Role::Gateway, now);
        assert_eq!(meets(&stranger, &gateway).await, None);
    }

    #[tokio::test]
    async fn a_certificate_ends_with_its_time_and_with_its_authority() {
        let now = super::super::now();
        let authority = Authority::new(now - 3 * HOUR, 4 * HOUR).expect("made");
        let trusted = authority.certificate.clone();
        let gateway = identity(&authority, &trusted, Role::Gateway, now);
        let expired = identity(&authority, &trusted, Role::Gateway, now - 2 * HOUR);
        assert_eq!(meets(&expired, &gateway).await, None);
        let (validity, _, _) = authority
            .sign(Role::Gateway, now, 24 * HOUR)
            .expect("signed");
        assert_eq!(validity.until, now + HOUR);
    }

    #[test]
    fn an_authority_is_stored_whole() {
        let authority = Authority::new(1_800_000_000, HOUR).expect("made");
        let text = serde_json::to_string(std::slice::from_ref(&authority)).expect("JSON");
        let read: Vec<Authority> = serde_json::from_str(&text).expect("JSON");
        assert_eq!(read, [authority]);
        assert!(text.contains("\"from\":1800000000"));
    }
}
