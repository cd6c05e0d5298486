//! This gateway's certificate, as the controller writes it into a Secret.
//!
//! Follows that one Secret. A new certificate applies to new connections at once (`net::identity`); while the API
//! server is away, or the Secret is not valid, the last one stays in force.

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use pilotlight_api::identity::{AUTHORITIES, CERTIFICATE, KEY, field};
use pilotlight_net::identity::{Identity, Material};

use super::secrets::{self, SecretPlace};

pub(crate) async fn follow(client: Client, place: &SecretPlace, identity: &Identity) {
    let take = |secret: Option<&Secret>| match secret {
        Some(secret) => take(secret, place, identity),
        None => tracing::warn!(secret = %place.name, "the Secret of the certificate is gone"),
    };
    secrets::follow(client, place, take).await;
}

fn take(secret: &Secret, place: &SecretPlace, identity: &Identity) {
    let field = |key| field(secret, key);
    let (Some(authorities), Some(certificate), Some(key)) =
        (field(AUTHORITIES), field(CERTIFICATE), field(KEY))
    else {
        tracing::info!(secret = %place.name, "the controller has signed no certificate yet");
        return;
    };
    let renewed = Material::of_pem(authorities, certificate, key)
        .and_then(|material| identity.renew(material));
    match renewed {
        Ok(()) => tracing::info!(secret = %place.name, "a new certificate is in force"),
        Err(error) => {
            tracing::error!(%error, secret = %place.name, "the certificate cannot be used; the last one stays in force");
        }
    }
}
