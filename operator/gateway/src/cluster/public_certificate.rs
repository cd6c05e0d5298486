//! The certificate that callers get, from a Secret in the form of cert-manager (`kubernetes.io/tls`).
//!
//! The operator of the cluster names the Secret, or the controller writes it. New connections get a new certificate at once
//! (`net::identity::public`). A Secret that cannot be used, or is gone, changes nothing: the last certificate stays in
//! force, and a metric and the log say so.

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use pilotlight_api::identity::{CERTIFICATE, KEY, field};
use pilotlight_net::identity::MaterialError;
use pilotlight_net::identity::public::{PublicCertificate, PublicDoor};

use super::secrets::{self, SecretPlace};
use crate::metrics::tls::TlsMetrics;

pub(crate) async fn follow(
    client: Client,
    place: &SecretPlace,
    door: &PublicDoor,
    metrics: &TlsMetrics,
) {
    let take = |secret: Option<&Secret>| match secret {
        Some(secret) => take(secret, &place.name, door, metrics),
        None => {
            tracing::error!(secret = %place.name, "the Secret with the certificate for callers is missing");
            metrics.unusable(&place.name);
        }
    };
    secrets::follow(client, place, take).await;
}

/// Why a Secret has no certificate.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error(transparent)]
    Material(#[from] MaterialError),
}

fn read(secret: &Secret) -> Result<PublicCertificate, Unusable> {
    let field = |key| field(secret, key).ok_or(Unusable::Missing(key));
    let (certificate, key) = (field(CERTIFICATE)?, field(KEY)?);
    Ok(PublicCertificate::of_pem(certificate, key)?)
}

fn take(secret: &Secret, name: &str, door: &PublicDoor, metrics: &TlsMetrics) {
    match read(secret) {
        Ok(certificate) => {
            let until = certificate.expires();
            tracing::info!(secret = name, until, "callers get a new certificate");
            metrics.renewed(name, until);
            door.renew(certificate);
        }
        Err(error) => {
            tracing::error!(%error, secret = name, "the certificate for callers cannot be used; the last one stays in force");
            metrics.unusable(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::ByteString;
    use pilotlight_core::tls::Mode;
    use pilotlight_net::identity::Identity;
    use pilotlight_wire::exposition::Format;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::metrics::Metrics;

    fn made() -> (String, String) {
        let mut params = CertificateParams::new(["gateway.test".to_owned()]).expect("a name");
        params.not_after = rcgen::date_time_ymd(2096, 10, 2);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        (certificate.pem(), key.serialize_pem())
    }

    fn secret(fields: &[(&str, &str)]) -> Secret {
        let data = fields
            .iter()
            .map(|(name, text)| ((*name).to_owned(), ByteString(text.as_bytes().to_vec())));
        Secret {
            data: Some(data.collect::<BTreeMap<_, _>>()),
            ..Secret::default()
        }
    }

    #[test]
    fn a_secret_that_cannot_be_used_names_its_field_and_leaves_the_last_certificate_in_force() {
        let metrics = Metrics::new(1, None, (None, None));
        let door = PublicDoor::new(Mode::Required, Identity::off(), "").expect("random numbers");
        let shows = |text: &str| {
            metrics
                .encode(Format::OpenMetrics)
                .expect("text")
                .contains(text)
        };
        let (certificate, key) = made();
        let (_, other) = made();
        for (fields, why) in [
            (vec![(KEY, key.as_str())], "tls.crt is missing"),
            (
                vec![(CERTIFICATE, certificate.as_str())],
                "tls.key is missing",
            ),
            (vec![(CERTIFICATE, ""), (KEY, &key)], "tls.crt is empty"),
            (
                vec![(CERTIFICATE, &certificate), (KEY, "no PEM")],
                "tls.key is not PEM",
            ),
            (
                vec![(CERTIFICATE, &certificate), (KEY, &other)],
                "tls.key is not the key of",
            ),
        ] {
            let secret = secret(&fields);
            let error = read(&secret).expect_err(why).to_string();
            assert!(error.starts_with(why), "{error}");
            take(&secret, "mine", &door, &metrics.tls);
            assert!(!door.is_ready());
            assert!(shows(
                "pilotlight_tls_certificate_unusable{secret=\"mine\"} 1"
            ));
        }
        let good = secret(&[(CERTIFICATE, &certificate), (KEY, &key)]);
        take(&good, "mine", &door, &metrics.tls);
        assert!(door.is_ready());
        assert!(shows(
            "pilotlight_tls_certificate_unusable{secret=\"mine\"} 0"
        ));
        // The begin of 2096-10-02.
        let expiry =
            "pilotlight_tls_certificate_expiry_timestamp_seconds{secret=\"mine\"} 3999974400";
        assert!(
            shows(expiry),
            "{}",
            metrics.encode(Format::OpenMetrics).expect("text")
        );
    }
}
