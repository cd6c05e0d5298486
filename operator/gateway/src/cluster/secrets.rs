//! Follows one Secret, for whoever needs what is in it: certificates, and the credentials of the log store.
//!
//! While the API server is away, the last version stays in force. Reads no field itself.

use std::pin::pin;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use pilotlight_watch::Backoff;

/// Where a Secret is.
#[derive(Clone, Debug)]
pub struct SecretPlace {
    pub namespace: String,
    pub name: String,
}

/// `take` gets each version of the Secret, and `None` if it does not exist.
pub(super) async fn follow(
    client: Client,
    place: &SecretPlace,
    mut take: impl FnMut(Option<&Secret>),
) {
    let secrets = Api::<Secret>::namespaced(client, &place.namespace);
    let shown = watcher::watch_object(secrets, &place.name).backoff(Backoff::default());
    let mut shown = pin!(shown);
    while let Some(event) = shown.next().await {
        match event {
            Ok(secret) => take(secret.as_ref()),
            Err(error) => {
                tracing::warn!(%error, secret = %place.name, "the watch of a Secret is interrupted");
            }
        }
    }
}
