//! The keys that signatures are checked with, as Secrets have them.
//!
//! Follows the one Secret with the keys of sessions, which the leading controller writes, and the Secrets with access
//! keys, which have a namespace of their own. While the API server is away, the last keys stay in force. An entry that
//! cannot be read, and a Secret that is gone, gives no key. `access` uses them ([`Keyring`]).

use std::collections::BTreeMap;
use std::pin::pin;

use futures_util::{StreamExt, future};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use pilotlight_access::access_key::{AccessKey, LABEL};
use pilotlight_access::session::{SessionKey, SessionKeys};
use pilotlight_watch::{Backoff, Fold};

use crate::access::Keyring;

/// Where the keys are.
#[derive(Clone, Debug)]
pub struct KeySecrets {
    /// The namespace of the release, and the Secret with the keys of sessions.
    pub sessions: (String, String),
    /// The namespace of access keys; `None`: there are none.
    pub access_keys: Option<String>,
}

/// Goes on until it is dropped.
pub(crate) async fn follow(client: Client, place: &KeySecrets, keyring: &Keyring) {
    keyring.await_lists(place.access_keys.is_some());
    let sessions = follow_sessions(client.clone(), &place.sessions, keyring);
    let access_keys = async {
        if let Some(namespace) = &place.access_keys {
            follow_access_keys(client, namespace, keyring).await;
        }
    };
    future::join(sessions, access_keys).await;
}

async fn follow_sessions(client: Client, (namespace, name): &(String, String), keyring: &Keyring) {
    let secrets = Api::<Secret>::namespaced(client, namespace);
    let shown = watcher::watch_object(secrets, name).backoff(Backoff::default());
    let mut shown = pin!(shown);
    while let Some(event) = shown.next().await {
        match event {
            Ok(Some(secret)) => keyring.set_sessions(session_keys(&secret)),
            // Whoever deletes it ends all sessions.
            Ok(None) => {
                tracing::warn!(secret = %name, "there is no Secret with the keys of sessions, so no session is valid");
                keyring.set_sessions(SessionKeys::default());
            }
            Err(error) => {
                tracing::warn!(%error, "the watch of the keys of sessions is interrupted")
            }
        }
    }
}

/// An entry that cannot be read is left out: the others stay in force.
fn session_keys(secret: &Secret) -> SessionKeys {
    let entries = secret.data.iter().flatten();
    let read = |(name, value): (&String, &ByteString)| {
        let key = SessionKey::of_entry(name, &value.0);
        key.inspect_err(|error| tracing::error!(%error, "a key of sessions cannot be read"))
            .ok()
    };
    SessionKeys::new(entries.filter_map(read))
}

async fn follow_access_keys(client: Client, namespace: &str, keyring: &Keyring) {
    let secrets = Api::<Secret>::namespaced(client, namespace);
    let selected = watcher::Config::default().labels(&format!("{}={}", LABEL.0, LABEL.1));
    let events = watcher(secrets, selected).backoff(Backoff::default());
    let mut events = pin!(events);
    let mut fold = Fold::new(access_key);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                fold.take(event);
                // Until the first list is complete, it is not known which keys there are not.
                if fold.is_complete() {
                    keyring.set_access_keys(fold.kept().flatten().cloned());
                }
            }
            Err(error) => tracing::warn!(%error, "the watch of access keys is interrupted"),
        }
    }
}

/// `None` if the Secret is none of an access key. Then nobody has this key.
fn access_key(secret: &Secret) -> Option<AccessKey> {
    let data = secret.data.iter().flatten();
    let data: BTreeMap<_, _> = data.map(|(name, value)| (name.clone(), &value.0)).collect();
    let (name, key) = (
        secret.name_any(),
        AccessKey::of_data(&secret.name_any(), &data),
    );
    key.inspect_err(|error| tracing::error!(secret = %name, %error, "an access key cannot be read"))
        .ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(name: &str, data: &BTreeMap<String, String>) -> Secret {
        let data: BTreeMap<_, _> = data
            .iter()
            .map(|(name, value)| (name.clone(), ByteString(value.clone().into_bytes())))
            .collect();
        let secret = json!({"metadata": {"name": name}, "data": data});
        serde_json::from_value(secret).expect("a Secret")
    }

    #[test]
    fn an_access_key_is_read_from_its_secret_and_from_no_other() {
        let account = "shop/caller".parse().expect("an account");
        let key = AccessKey::new(&[7; _], account, 2_000_000_000);
        let name = AccessKey::secret_name(&key.id);
        assert_eq!(
            access_key(&secret(&name, &key.to_data())),
            Some(key.clone())
        );
        assert_eq!(access_key(&secret("another", &key.to_data())), None);
        assert_eq!(access_key(&secret(&name, &BTreeMap::new())), None);
    }

    #[test]
    fn entries_that_cannot_be_read_leave_the_other_keys_of_sessions_in_force() {
        let (name, value) = SessionKey::new([1; 8], 5, [2; 32]).entry();
        let mut secret = secret("keys", &BTreeMap::new());
        let data = secret.data.get_or_insert_default();
        data.insert(name, ByteString(value));
        data.insert("nonsense".to_owned(), ByteString(vec![1]));
        assert_eq!(session_keys(&secret).starts(), [5]);
    }
}
