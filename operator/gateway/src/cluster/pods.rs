//! What the API server says of the instances' pods.
//!
//! Fed by a watch of the pods of one namespace; `backend` waits here for an instance to be ready,
//! to be given up as hopeless, or to be gone. Pods are told apart by their UID: one that was
//! deleted and made anew is another. Pods of warm pools go to the `stock`, until they are some
//! function's. Never writes to the API server.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use pilotlight_api::{Class, labels};
use tokio::sync::watch;

use super::stock::{Stock, Unclaimed};

/// An instance as its pod shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PodState {
    /// There is no pod yet, or it is on its way up.
    Starting,
    /// Given to this node, which has said nothing of it so far.
    Unheeded(Arc<str>),
    Ready(IpAddr),
    /// It will not come up by itself: image, configuration, room.
    Hopeless(Arc<str>),
    /// It ended or was deleted.
    Gone(Arc<str>),
}

/// Waiting reasons of containers that somebody has to do something about.
const HOPELESS: [&str; 7] = [
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
];

/// A pod that may be taken on by a gateway that starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) function: String,
    /// The UID of its Function.
    pub(crate) owner: String,
    pub(crate) instance: String,
    pub(crate) revision: String,
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
            state: watch::Sender::new(PodState::Ready(unclaimed.ip)),
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
                PodState::Starting | PodState::Unheeded(_) | PodState::Ready(_)
            );
            is_up && !known.is_deleted
        });
        let found = living.filter_map(|known| known.found.clone());
        found.filter(|found| found.function == function).collect()
    }

    /// Takes in what the watch tells. `seen` collects the pods of a list by [`key`], from its begin to its
    /// end: what is not on it was deleted while nobody watched.
    pub(crate) fn take(&self, event: Event<Pod>, seen: &mut HashSet<String>) {
        match event {
            Event::Init => seen.clear(),
            Event::InitApply(pod) => {
                seen.insert(key(&pod));
                self.apply(&pod);
            }
            Event::InitDone => {
                let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                let gone = known
                    .iter()
                    .filter(|(name, known)| known.found.is_some() && !seen.contains(*name));
                let gone: Vec<String> = gone.map(|(name, _)| name.clone()).collect();
                drop(known);
                gone.iter().for_each(|name| self.delete(name, None));
                let unclaimed = self.stock.uids().into_iter();
                let gone = unclaimed.filter(|uid| !seen.contains(uid));
                gone.for_each(|uid| self.lose(&uid));
            }
            Event::Apply(pod) => self.apply(&pod),
            Event::Delete(pod) => match (instance_of(&pod), pod.uid()) {
                (Some(instance), uid) => self.delete(&instance, uid.as_deref()),
                (None, Some(uid)) => self.lose(&uid),
                (None, None) => {}
            },
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
        let state = state_of(pod);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.entry(instance).or_insert_with(|| Known {
            uid: uid.clone(),
            found: None,
            is_deleted: false,
            state: watch::Sender::new(PodState::Starting),
        });
        if entry.found.is_some() && entry.uid != uid {
            // The one that was followed is gone, whatever bears its name now.
            entry
                .state
                .send_replace(PodState::Gone(Arc::from("its pod was replaced")));
            return;
        }
        entry.uid = uid;
        entry.found = Some(found);
        entry.is_deleted = pod.metadata.deletion_timestamp.is_some();
        entry.state.send_if_modified(|old| {
            let is_news = !matches!(old, PodState::Gone(_)) && *old != state;
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
        let ip = match state_of(pod) {
            PodState::Ready(ip) => Some(ip),
            PodState::Gone(_) => return self.lose(&uid),
            _ => None,
        };
        self.stock.put(pod.name_any(), uid, class, ip);
    }

    /// An unclaimed pod is no more, and an instance with it if it was claimed meanwhile.
    fn lose(&self, uid: &str) {
        if let Some(instance) = self.stock.remove(uid) {
            self.delete(&instance, Some(uid));
        }
    }

    fn delete(&self, instance: &str, uid: Option<&str>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |known: &Known| uid.is_none_or(|uid| uid == known.uid);
        if let Some(entry) = known.get(instance)
            && is_it(entry)
        {
            let gone = || PodState::Gone(Arc::from("its pod was deleted"));
            entry.state.send_if_modified(|old| {
                let is_news = !matches!(old, PodState::Gone(_));
                if is_news {
                    *old = gone();
                }
                is_news
            });
            known.remove(instance);
        }
    }
}

/// Tells a pod apart from all others: the instance's name, or the UID of one that is none yet.
fn key(pod: &Pod) -> String {
    let instance = instance_of(pod);
    instance.or_else(|| pod.uid()).unwrap_or_default()
}

fn instance_of(pod: &Pod) -> Option<String> {
    pod.labels().get(labels::INSTANCE).cloned()
}

/// The state that a pod's status says.
fn state_of(pod: &Pod) -> PodState {
    let Some(status) = &pod.status else {
        return PodState::Starting;
    };
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    match status.phase.as_deref() {
        Some("Succeeded" | "Failed") => return PodState::Gone(ending(pod, containers)),
        Some("Running") if pod.metadata.deletion_timestamp.is_none() => {
            let running = containers.iter().all(|container| container.ready);
            let address = status.pod_ip.as_deref().and_then(|ip| ip.parse().ok());
            if let (true, Some(address)) = (running, address) {
                return PodState::Ready(address);
            }
        }
        _ => {}
    }
    let waiting = containers.iter().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref()?;
        HOPELESS
            .contains(&reason)
            .then(|| worded(reason, waiting.message.as_deref()))
    });
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let unschedulable = conditions.iter().find_map(|condition| {
        let is_it = condition.type_ == "PodScheduled"
            && condition.reason.as_deref() == Some("Unschedulable");
        is_it.then(|| worded("Unschedulable", condition.message.as_deref()))
    });
    if let Some(reason) = waiting.or(unschedulable) {
        return PodState::Hopeless(reason);
    }
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    match (node, &status.start_time) {
        (Some(node), None) => PodState::Unheeded(Arc::from(node)),
        _ => PodState::Starting,
    }
}

fn ending(pod: &Pod, containers: &[ContainerStatus]) -> Arc<str> {
    let terminated = containers.iter().find_map(|container| {
        let ended = container.state.as_ref()?.terminated.as_ref()?;
        let reason = ended.reason.as_deref().unwrap_or("Error");
        Some(format!(
            "its pod ended: {reason}, exit code {}",
            ended.exit_code
        ))
    });
    let status = pod.status.as_ref();
    let evicted = status
        .and_then(|status| Some(worded(status.reason.as_deref()?, status.message.as_deref())));
    evicted.unwrap_or_else(|| Arc::from(terminated.unwrap_or_else(|| "its pod ended".to_owned())))
}

fn worded(reason: &str, message: Option<&str>) -> Arc<str> {
    match message {
        Some(message) => Arc::from(format!("{reason}: {message}")),
        None => Arc::from(reason),
    }
}

#[cfg(test)]
mod tests;
