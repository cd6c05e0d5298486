//! This gateway's certificate, as the controller writes it into a Secret.
//!
//! Follows that one Secret. A new certificate applies to new connections at once (`net::identity`); while the API
//! server is away, or the Secret is not valid, the last one stays in force.

use std::pin::pin;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use pilotlight_api::identity::{AUTHORITIES, CERTIFICATE, KEY, field};
use pilotlight_net::identity::{Identity, Material};
use pilotlight_watch::Backoff;

/// Where the certificate is.
#[derive(Clone, Debug)]
pub struct CertificateSecret {
    pub namespace: String,
    pub name: String,
}

pub(crate) async fn follow(client: Client, place: &CertificateSecret, identity: &Identity) {
    let take = |secret: Option<&Secret>| match secret {
        Some(secret) => take(secret, place, identity),
        None => tracing::warn!(secret = %place.name, "the Secret of the certificate is gone"),
    };
    follow_secret(client, place, take).await;
}

/// Follows one Secret. `take` gets each of its versions, and `None` if it does not exist.
pub(super) async fn follow_secret(
    client: Client,
    place: &CertificateSecret,
    mut take: impl FnMut(Option<&Secret>),
) {
    let secrets = Api::<Secret>::namespaced(client, &place.namespace);
    let shown = watcher::watch_object(secrets, &place.name).backoff(Backoff::default());
    let mut shown = pin!(shown);
    while let Some(event) = shown.next().await {
        match event {
            Ok(secret) => take(secret.as_ref()),
            Err(error) => {
                tracing::warn!(%error, secret = %place.name, "the watch of a certificate is interrupted");
            }
        }
    }
}

fn take(secret: &Secret, place: &CertificateSecret, identity: &Identity) {
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
