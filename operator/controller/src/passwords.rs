//! The passwords of the store of logs and of the event queue that the chart installs.
//!
//! One Secret for each in the release's namespace, which the chart makes empty. The leading controller writes a random
//! password into it once. The server's pod starts when it is there, and gateways read it. A password that somebody has put
//! there, or puts there later, stays; then the server's pod has to be restarted.

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use pilotlight_access::random;
use pilotlight_api::identity::{LOG_STORE_PASSWORD, LOG_STORE_USER, LOG_STORE_USERNAME};
use pilotlight_watch::Backoff;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::leadership::Term;
use crate::options::{IdentitySecrets, Options};

/// The pause before the next attempt after a failed write.
const WRITE_PAUSE: Duration = Duration::from_secs(2);

pub(crate) struct PasswordKeeper {
    secrets: Api<Secret>,
    /// The server, in the log.
    of: &'static str,
    /// The Secret. `None`: the chart installs no such server.
    name: Option<String>,
    term: watch::Receiver<Term>,
}

impl PasswordKeeper {
    /// That of the store of logs, and that of the event queue.
    pub(crate) fn both(
        client: &Client,
        options: &Options,
        term: &watch::Receiver<Term>,
    ) -> [PasswordKeeper; 2] {
        let IdentitySecrets {
            log_store,
            event_queue,
            ..
        } = &options.identity_secrets;
        let keeper = |(of, name): (_, &Option<String>)| PasswordKeeper {
            secrets: Api::namespaced(client.clone(), &options.gateway_namespace),
            of,
            name: name.clone(),
            term: term.clone(),
        };
        [
            ("the log store", log_store),
            ("the event queue", event_queue),
        ]
        .map(keeper)
    }

    /// Writes the password whenever there is none, until the program ends.
    pub(crate) async fn run(&mut self) {
        let Some(name) = self.name.clone() else {
            return pending().await;
        };
        let shown = watcher::watch_object(self.secrets.clone(), &name);
        let mut shown = pin!(shown.backoff(Backoff::default()));
        let mut secret: Option<Secret> = None;
        loop {
            let leads = self.term.borrow().is_some();
            let patch = secret.as_ref().filter(|_| leads).and_then(password);
            let failed = match patch {
                None => false,
                Some(patch) => self.write(&name, &patch).await,
            };
            tokio::select! {
                Some(event) = shown.next() => match event {
                    Ok(found) => secret = found,
                    Err(error) => tracing::warn!(of = self.of, %error, "the watch of a password is interrupted"),
                },
                Ok(()) = self.term.changed() => {}
                () = tokio::time::sleep(WRITE_PAUSE), if failed => {}
            }
        }
    }

    /// Whether it has failed.
    async fn write(&self, name: &str, patch: &Value) -> bool {
        let patch = Patch::Merge(patch);
        let written = self
            .secrets
            .patch(name, &PatchParams::default(), &patch)
            .await;
        match written {
            Ok(_) => {
                tracing::info!(of = self.of, "a password was made");
                false
            }
            Err(error) => {
                tracing::warn!(of = self.of, %error, "a password cannot be written");
                true
            }
        }
    }
}

/// What to write, if the Secret has no password. It names the version that it replaces, so two leaders for a moment do
/// not write two passwords.
fn password(secret: &Secret) -> Option<Value> {
    let has = |data: &std::collections::BTreeMap<String, ByteString>| {
        data.get(LOG_STORE_PASSWORD)
            .is_some_and(|value| !value.0.is_empty())
    };
    if secret.data.as_ref().is_some_and(has) {
        return None;
    }
    let mut made: [u8; 32] = random::bytes();
    // The first digit is a letter: the configuration of NATS takes other texts for numbers.
    made[0] |= 0xa0;
    let made: String = made.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(json!({
        "metadata": { "resourceVersion": secret.metadata.resource_version },
        "data": {
            LOG_STORE_USERNAME: ByteString(LOG_STORE_USER.into()),
            LOG_STORE_PASSWORD: ByteString(made.into_bytes()),
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_gets_one_random_password_and_keeps_it() {
        let mut secret = Secret::default();
        secret.metadata.resource_version = Some("7".to_owned());
        let patch = password(&secret).expect("it is empty");
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_ne!(password(&secret), Some(patch.clone()), "it is random");
        secret.data = serde_json::from_value(patch["data"].clone()).expect("data");
        let data = secret.data.clone().unwrap_or_default();
        assert!(data[LOG_STORE_PASSWORD].0.len() == 64);
        assert_eq!(data[LOG_STORE_USERNAME].0, LOG_STORE_USER.as_bytes());
        assert_eq!(password(&secret), None);
    }
}
