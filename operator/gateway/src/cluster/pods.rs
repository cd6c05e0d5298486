//! What the API server says of the instances' pods.
//!
//! Fed by a watch of the pods of one namespace; `pilotlight_api::pod_state` reads each of them, and `backend`
//! waits here for an instance to be ready, to be given up as stuck, or to have ended. Pods are told apart by their UID: one that was
//! deleted and made anew is another. Pods of warm pools go to the `stock`, until they are some
//! function's. Never writes to the API server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use pilotlight_api::pod_state::{Cause, PodState, is_being_deleted};
use pilotlight_api::{Class, labels};
use pilotlight_watch::Change;
use tokio::sync::watch;

use super::stock::{Stock, Unclaimed};

/// A pod that may be taken on by a gateway that starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) function: String,
    /// The UID of its Function.
    pub(crate) owner: String,
    pub(crate) instance: String,
    pub(crate) revision: String,
}

/// What the watch of pods keeps of a pod, to recognise it when it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Absent while the pod is unclaimed.
    instance: Option<String>,
    uid: String,
}

impl Identity {
    pub(crate) fn of(pod: &Pod) -> Self {
        Identity {
            instance: instance_of(pod),
            uid: pod.uid().unwrap_or_default(),
        }
    }
}

#[derive(Debug)]
struct Known {
    uid: String,
    found: Option<Found>,
    /// Somebody has deleted it; it ends when what it runs has ended.
    is_deleted: bool,
    state: watch::Sender<PodState>,
}

/// All instances by name. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pods {
    pub(crate) stock: Stock,
    known: Arc<Mutex<HashMap<String, Known>>>,
}

impl Pods {
    /// The instance's state, whether or not its pod is there yet.
    pub(crate) fn follow(&self, instance: &str) -> watch::Receiver<PodState> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.entry(instance.to_owned()).or_insert_with(|| Known {
            uid: String::new(),
            found: None,
            is_deleted: false,
            state: watch::Sender::new(PodState::Starting),
        });
        entry.state.subscribe()
    }

    /// A pod of a warm pool has become the instance; the watch shows so later.
    pub(crate) fn claimed(
        &self,
        instance: &str,
        unclaimed: &Unclaimed,
    ) -> watch::Receiver<PodState> {
        self.stock.claimed(&unclaimed.uid, instance);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.entry(instance.to_owned()).or_insert_with(|| Known {
            uid: unclaimed.uid.clone(),
            found: None,
            is_deleted: false,
            state: watch::Sender::new(PodState::Ready { ip: unclaimed.ip }),
        });
        entry.state.subscribe()
    }

    /// Whether the instance has a pod.
    pub(crate) fn has(&self, instance: &str) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains_key(instance)
    }

    /// Nobody follows the instance any more.
    pub(crate) fn forget(&self, instance: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known
            .get(instance)
            .is_some_and(|known| known.found.is_none())
        {
            known.remove(instance);
        }
    }

    /// The living pods of a function.
    pub(crate) fn found(&self, function: &str) -> Vec<Found> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let living = known.values().filter(|known| {
            let is_up = matches!(
                *known.state.borrow(),
                PodState::Starting | PodState::Unacknowledged { .. } | PodState::Ready { .. }
            );
            is_up && !known.is_deleted
        });
        let found = living.filter_map(|known| known.found.clone());
        found.filter(|found| found.function == function).collect()
    }

    /// Takes in a change that the watch of pods shows.
    pub(crate) fn take(&self, change: Change<Pod, Identity>) {
        match change {
            Change::Applied(pod) => self.apply(&pod),
            Change::Deleted { kept, .. } => match kept.instance {
                Some(instance) => self.delete(&instance, &kept.uid),
                None => self.lose(&kept.uid),
            },
            Change::ListStarted | Change::ListCompleted => {}
        }
    }

    fn apply(&self, pod: &Pod) {
        let uid = pod.uid().unwrap_or_default();
        let Some(instance) = instance_of(pod) else {
            return self.apply_unclaimed(pod, uid);
        };
        self.stock.remove(&uid);
        let label = |name: &str| pod.labels().get(name).cloned().unwrap_or_default();
        let found = Found {
            function: label(labels::FUNCTION),
            owner: pod
                .owner_references()
                .first()
                .map_or_else(String::new, |owner| owner.uid.clone()),
            instance: instance.clone(),
            revision: label(labels::REVISION),
        };
        let state = PodState::of(pod);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.entry(instance).or_insert_with(|| Known {
            uid: uid.clone(),
            found: None,
            is_deleted: false,
            state: watch::Sender::new(PodState::Starting),
        });
        if entry.found.is_some() && entry.uid != uid {
            // The one that was followed is gone, whatever bears its name now.
            entry.state.send_replace(gone("its pod was replaced"));
            return;
        }
        entry.uid = uid;
        entry.found = Some(found);
        entry.is_deleted = is_being_deleted(pod);
        entry.state.send_if_modified(|old| {
            let is_news = !old.is_ended() && *old != state;
            if is_news {
                *old = state;
            }
            is_news
        });
    }

    /// A pod that is no function's yet, as far as the API server knows.
    fn apply_unclaimed(&self, pod: &Pod, uid: String) {
        let Some(class) = Class::of_labels(pod.labels()) else {
            return;
        };
        let ip = match PodState::of(pod) {
            PodState::Ready { ip } => Some(ip),
            PodState::Ended(_) => return self.lose(&uid),
            _ => None,
        };
        self.stock.put(pod.name_any(), uid, class, ip);
    }

    /// An unclaimed pod is no more, and an instance with it if it was claimed meanwhile.
    fn lose(&self, uid: &str) {
        if let Some(instance) = self.stock.remove(uid) {
            self.delete(&instance, uid);
        }
    }

    fn delete(&self, instance: &str, uid: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known.get(instance)
            && entry.uid == uid
        {
            entry.state.send_if_modified(|old| {
                let is_news = !old.is_ended();
                if is_news {
                    *old = gone("its pod was deleted");
                }
                is_news
            });
            known.remove(instance);
        }
    }
}

fn instance_of(pod: &Pod) -> Option<String> {
    pod.labels().get(labels::INSTANCE).cloned()
}

/// The end of a pod that the API server no longer has.
fn gone(reason: &str) -> PodState {
    PodState::Ended(Cause::new(reason, None))
}

#[cfg(test)]
mod tests;
