//! The pods of instances, as the watch shows them.
//!
//! Fed by a watch of the pods of one namespace; `pilotlight_api::pod_state` reads the state of each. `backend`
//! waits here until an instance is ready, is stuck or has ended. A pod is identified by its UID: a pod that was
//! deleted and created again under its name is another pod. Pods of warm pools go to the `stock` until they belong
//! to a function. Never writes to the API server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use pilotlight_api::pod_state::{Cause, PodState, is_being_deleted, warm_pool_of};
use pilotlight_api::{class_of_pod, labels};
use pilotlight_core::gateways::choice::UnclaimedPod;
use pilotlight_core::ids::{InstanceName, PoolId, Revision, Uid};
use pilotlight_watch::Change;
use tokio::sync::{mpsc, watch};

use super::stock::Stock;
use super::supervisors::{self, Announced, ProvenPods};

/// A pod that the new owner of a function may adopt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) pool: Option<PoolId>,
    /// The UID of its Function.
    pub(crate) owner: Uid,
    pub(crate) instance: InstanceName,
    pub(crate) revision: Revision,
}

/// The part of a pod that the watch keeps, by which a deleted pod is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodKey {
    /// Absent while the pod is unclaimed.
    instance: Option<InstanceName>,
    uid: Uid,
}

impl PodKey {
    pub(crate) fn of(pod: &Pod) -> Self {
        PodKey {
            instance: instance_of(pod),
            uid: pod.uid().unwrap_or_default().into(),
        }
    }
}

#[derive(Debug)]
struct Followed {
    uid: Uid,
    found: Option<Found>,
    /// Its deletion was requested. It drains, then it ends.
    is_deleted: bool,
    state: watch::Sender<PodState>,
}

/// All instances by name. Cheap to clone; all clones have the same instances.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pods {
    pub(crate) stock: Stock,
    pub(crate) proven: ProvenPods,
    announced: Option<mpsc::Sender<Announced>>,
    known: Arc<Mutex<HashMap<InstanceName, Followed>>>,
}

impl Pods {
    /// `announced`: receives the pods of warm pools that are ready, before they are claimed.
    pub(crate) fn new(stock: Stock, announced: Option<mpsc::Sender<Announced>>) -> Self {
        Pods {
            stock,
            announced,
            ..Pods::default()
        }
    }

    /// The instance's state, whether or not its pod is there yet.
    pub(crate) fn follow(&self, instance: &str) -> watch::Receiver<PodState> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.entry(instance.into()).or_insert_with(|| Followed {
            uid: Uid::default(),
            found: None,
            is_deleted: false,
            state: watch::Sender::new(PodState::Starting),
        });
        entry.state.subscribe()
    }

    /// A pod of a warm pool has become the instance. The watch shows it later.
    pub(crate) fn claimed(
        &self,
        instance: &InstanceName,
        unclaimed: &UnclaimedPod,
    ) -> watch::Receiver<PodState> {
        self.stock.claimed(&unclaimed.uid, instance);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.entry(instance.clone()).or_insert_with(|| Followed {
            uid: unclaimed.uid.clone(),
            found: None,
            is_deleted: false,
            state: watch::Sender::new(PodState::Ready {
                ip: unclaimed.ip,
                is_node_silent: false,
            }),
        });
        entry.state.subscribe()
    }

    /// The UID of the instance's pod; `None` before the watch shows it.
    pub(crate) fn uid(&self, instance: &str) -> Option<Uid> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = &known.get(instance)?.uid;
        (*uid != Uid::default()).then(|| uid.clone())
    }

    /// Whether the instance has a pod.
    pub(crate) fn has(&self, instance: &str) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains_key(instance)
    }

    /// The backend follows the instance no longer.
    pub(crate) fn forget(&self, instance: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known
            .get(instance)
            .is_some_and(|known| known.found.is_none())
        {
            known.remove(instance);
        }
    }

    /// The living pods of a pool.
    pub(crate) fn found(&self, pool: &PoolId) -> Vec<Found> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let living = known.values().filter(|known| {
            let is_up = matches!(
                *known.state.borrow(),
                PodState::Starting | PodState::Unacknowledged { .. } | PodState::Ready { .. }
            );
            is_up && !known.is_deleted
        });
        let found = living.filter_map(|known| known.found.clone());
        found
            .filter(|found| found.pool.as_ref() == Some(pool))
            .collect()
    }

    /// Handles a change that the watch of pods shows.
    pub(crate) fn take(&self, change: Change<Pod, PodKey>) {
        match change {
            Change::Applied(pod) => self.apply(&pod),
            Change::Deleted { kept, .. } => match kept.instance {
                Some(instance) => self.delete(instance.as_str(), kept.uid.as_str()),
                None => self.lose(kept.uid.as_str()),
            },
            Change::ListStarted | Change::ListCompleted => {}
        }
    }

    fn apply(&self, pod: &Pod) {
        let uid = Uid::from(pod.uid().unwrap_or_default());
        let Some(instance) = instance_of(pod) else {
            return self.apply_unclaimed(pod, uid);
        };
        self.stock.remove(uid.as_str());
        self.proven.belongs(&uid);
        let revision = pod.labels().get(labels::REVISION);
        let owner = pod.owner_references().first();
        let found = Found {
            pool: labels::pool_of(&pod.namespace().unwrap_or_default(), pod.labels()),
            owner: owner.map_or_else(Uid::default, |owner| owner.uid.as_str().into()),
            instance: instance.clone(),
            revision: revision.map_or_else(Revision::default, |text| text.as_str().into()),
        };
        let state = PodState::of(pod);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.entry(instance).or_insert_with(|| Followed {
            uid: uid.clone(),
            found: None,
            is_deleted: false,
            state: watch::Sender::new(PodState::Starting),
        });
        if entry.found.is_some() && entry.uid != uid {
            // The pod that was followed is gone; this is another pod for the same name.
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

    /// The watch shows a pod that belongs to no function yet.
    fn apply_unclaimed(&self, pod: &Pod, uid: Uid) {
        let pool = warm_pool_of(pod);
        let Some(class) = pool.and_then(|_| class_of_pod(pod)) else {
            return;
        };
        let ip = match PodState::of(pod) {
            PodState::Ready { ip, .. } => Some(ip),
            PodState::Ended(_) => return self.lose(uid.as_str()),
            _ => None,
        };
        self.proven.waits(&uid);
        if let (Some(announced), Some(ip)) = (&self.announced, ip) {
            // Without room the pod is asked who it is when it is claimed.
            let _ = announced.try_send((supervisors::address(ip), uid.clone()));
        }
        self.stock.put(pod.name_any().into(), uid, class, ip);
    }

    /// An unclaimed pod is gone, and with it the instance for which it was claimed meanwhile.
    fn lose(&self, uid: &str) {
        self.proven.forget(uid);
        if let Some(instance) = self.stock.remove(uid) {
            self.delete(instance.as_str(), uid);
        }
    }

    fn delete(&self, instance: &str, uid: &str) {
        self.proven.forget(uid);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known.get(instance)
            && entry.uid.as_str() == uid
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

fn instance_of(pod: &Pod) -> Option<InstanceName> {
    let instance = pod.labels().get(labels::INSTANCE)?;
    Some(instance.as_str().into())
}

/// The end of a pod that the API server no longer has.
fn gone(reason: &str) -> PodState {
    PodState::Ended(Cause::new(reason, None))
}

#[cfg(test)]
mod tests;
