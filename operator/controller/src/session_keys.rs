//! The keys with which gateways sign temporary credentials.
//!
//! One Secret in the release's namespace, which the chart makes empty. The leading controller carries out what
//! `core::access::session_keys` plans, with writes that name the version which they replace, so two leaders for a moment
//! do not mix. Gateways read it.

use std::collections::BTreeMap;
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
use pilotlight_access::session::{SessionKey, SessionKeys};
use pilotlight_core::access::session_keys::{KeyLifetimes, plan};
use pilotlight_watch::Backoff;
use serde_json::json;
use tokio::sync::watch;

use crate::clock::now;
use crate::leadership::Term;
use crate::options::Options;

/// The pause before the next attempt after a failed write.
const WRITE_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause between two looks, since clocks may be set.
const LOOK_MAX: Duration = Duration::from_secs(3600);

type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(crate) struct SessionKeeper {
    secrets: Api<Secret>,
    /// `None`: there are no sessions.
    name: Option<String>,
    term: watch::Receiver<Term>,
    /// As the watch shows it last, or as it was written; `None`: absent, or not known yet.
    shown: Option<Secret>,
}

impl SessionKeeper {
    pub(crate) fn new(client: Client, options: &Options, term: watch::Receiver<Term>) -> Self {
        SessionKeeper {
            secrets: Api::namespaced(client, &options.gateway_namespace),
            name: options.identity_secrets.session_keys.clone(),
            term,
            shown: None,
        }
    }

    /// Keeps the keys fresh until the program ends.
    pub(crate) async fn run(&mut self) {
        let Some(name) = self.name.clone() else {
            return pending().await;
        };
        let shown = watcher::watch_object(self.secrets.clone(), &name);
        let mut shown = pin!(shown.backoff(Backoff::default()));
        loop {
            let look = self.look(&name).await;
            tokio::select! {
                Some(event) = shown.next() => match event {
                    Ok(secret) => self.shown = secret,
                    Err(error) => tracing::warn!(%error, "the watch of the keys of sessions is interrupted"),
                },
                Ok(()) = self.term.changed() => {}
                () = tokio::time::sleep(look) => {}
            }
        }
    }

    /// Does what is due, and returns after which time to look again.
    async fn look(&mut self, name: &str) -> Duration {
        let leads = self.term.borrow().is_some();
        let Some(secret) = self.shown.clone().filter(|_| leads) else {
            return LOOK_MAX;
        };
        match self.renew(name, &secret, now()).await {
            Ok(look) => look.min(LOOK_MAX),
            Err(error) => {
                tracing::warn!(%error, "the keys of sessions cannot be renewed; the last ones stay in force");
                WRITE_PAUSE
            }
        }
    }

    async fn renew(&mut self, name: &str, secret: &Secret, now: u64) -> Result<Duration, Failure> {
        let (changes, next) = changes(secret, now);
        if !changes.is_empty() {
            let patch = json!({
                "metadata": { "resourceVersion": secret.metadata.resource_version },
                "data": changes,
            });
            let patch = Patch::Merge(patch);
            let written = self
                .secrets
                .patch(name, &PatchParams::default(), &patch)
                .await?;
            // The watch shows it later; until then nothing must be made again.
            self.shown = Some(written);
            tracing::info!(entries = changes.len(), "the keys of sessions have changed");
        }
        Ok(Duration::from_secs(next.saturating_sub(now)))
    }
}

/// The entries to write, with `None` for those to remove, and when to look again. An entry that cannot be read is
/// removed: no gateway uses it.
fn changes(secret: &Secret, now: u64) -> (BTreeMap<String, Option<ByteString>>, u64) {
    let mut changes = BTreeMap::new();
    let mut keys = Vec::new();
    for (name, value) in secret.data.iter().flatten() {
        match SessionKey::of_entry(name, &value.0) {
            Ok(key) => keys.push(key),
            Err(error) => {
                tracing::warn!(%error, "a key of sessions is removed");
                changes.insert(name.clone(), None);
            }
        }
    }
    let keys = SessionKeys::new(keys);
    let plan = plan(now, &keys.starts(), KeyLifetimes::DEFAULT);
    let dropped = keys.keys().iter().enumerate();
    let dropped = dropped.filter(|(place, _)| !plan.kept.contains(place));
    changes.extend(dropped.map(|(_, key)| (key.entry().0, None)));
    if let Some(from) = plan.adds {
        let (name, value) = SessionKey::new(random::bytes(), from, random::bytes()).entry();
        changes.insert(name, Some(ByteString(value)));
    }
    (changes, plan.next)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn carry_out(secret: &mut Secret, now: u64) -> u64 {
        let (changes, next) = changes(secret, now);
        let data = secret.data.get_or_insert_default();
        for (name, value) in changes {
            match value {
                Some(value) => data.insert(name, value),
                None => data.remove(&name),
            };
        }
        next
    }

    fn starts(secret: &Secret) -> Vec<u64> {
        let keys = secret.data.iter().flatten();
        let keys = keys.map(|(name, value)| SessionKey::of_entry(name, &value.0).expect("a key"));
        SessionKeys::new(keys).starts()
    }

    #[test]
    fn an_empty_secret_gets_a_key_that_signs_at_once_and_later_its_successor() {
        let mut secret = Secret::default();
        let mut next = carry_out(&mut secret, NOW);
        assert_eq!(starts(&secret), [NOW]);
        assert_eq!(carry_out(&mut secret, NOW + 1), next, "nothing is due");
        assert_eq!(starts(&secret).len(), 1);
        for _ in 0..100 {
            let at = next;
            next = carry_out(&mut secret, at);
            assert!(next > at);
            let keys = starts(&secret);
            assert!((1..=3).contains(&keys.len()), "{keys:?}");
            assert!(keys.iter().any(|start| *start <= at), "one signs");
        }
    }

    #[test]
    fn what_is_no_key_is_removed_and_the_others_stay() {
        let mut secret = Secret::default();
        carry_out(&mut secret, NOW);
        let data = secret.data.get_or_insert_default();
        data.insert("nonsense".to_owned(), ByteString(vec![1]));
        carry_out(&mut secret, NOW + 1);
        assert_eq!(starts(&secret), [NOW]);
    }
}
