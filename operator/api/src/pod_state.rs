//! The one reading of a pod: what its metadata and status say about the instance in it.
//!
//! Fed with pods as a watch shows them. Controller and gateways both decide by this reading, so that they
//! never disagree about the same pod. Pure: it asks nobody and remembers nothing.

use std::fmt;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};

use crate::labels;

/// The state of a pod. The instance in a warm pool's pod has the same states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodState {
    /// It is coming up, or does not exist yet.
    Starting,
    /// It is assigned to this node, whose kubelet has not reported anything about it yet.
    Unacknowledged { node: String },
    /// Its containers run and are ready, as their kubelet has reported last.
    Ready {
        ip: IpAddr,
        /// The kubelet has been silent for so long that Kubernetes does not count the pod as ready. That is so
        /// on a lost node, and after an outage of the API server, although the instance is well then.
        is_node_silent: bool,
    },
    /// It does not come up by itself: the image, the configuration or the room on the nodes is at fault.
    Stuck(Cause),
    /// Its deletion was requested. What it runs may still be running.
    Terminating,
    /// All its containers have ended, or it was deleted.
    Ended(Cause),
}

/// Why a pod is as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// One word of Kubernetes, such as `ImagePullBackOff`.
    pub reason: String,
    /// Empty if Kubernetes gives none.
    pub message: String,
}

impl Cause {
    pub fn new(reason: &str, message: Option<&str>) -> Self {
        Cause {
            reason: reason.to_owned(),
            message: message.unwrap_or_default().to_owned(),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message.as_str() {
            "" => f.write_str(&self.reason),
            message => write!(f, "{}: {message}", self.reason),
        }
    }
}

impl PodState {
    pub fn of(pod: &Pod) -> Self {
        let nothing = PodStatus::default();
        let status = pod.status.as_ref().unwrap_or(&nothing);
        let phase = status.phase.as_deref();
        if let Some("Succeeded" | "Failed") = phase {
            return PodState::Ended(end(status));
        }
        if is_being_deleted(pod) {
            return PodState::Terminating;
        }
        let address = status.pod_ip.as_deref().and_then(|ip| ip.parse().ok());
        if let (Some("Running"), true, Some(ip)) = (phase, are_containers_ready(status), address) {
            let is_node_silent = !is_condition_ready(status);
            return PodState::Ready { ip, is_node_silent };
        }
        if let Some(cause) = waiting(status).or_else(|| unschedulable(status)) {
            return PodState::Stuck(cause);
        }
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
        match (node, &status.start_time) {
            (Some(node), None) => PodState::Unacknowledged { node: node.clone() },
            _ => PodState::Starting,
        }
    }

    /// Whether Kubernetes counts it as ready. A gateway reaches an instance by its address in either case, and
    /// notices by itself that a node is lost.
    pub fn is_ready(&self) -> bool {
        matches!(self, PodState::Ready { is_node_silent, .. } if !is_node_silent)
    }

    pub fn is_ended(&self) -> bool {
        matches!(self, PodState::Ended(_))
    }

    /// Whether the pod still exists for its owner: neither ended nor on its way there.
    pub fn is_living(&self) -> bool {
        !matches!(self, PodState::Terminating | PodState::Ended(_))
    }
}

/// Whether somebody has requested the deletion of the pod. A pod that has ended can be deleted as well, so
/// [`PodState`] alone does not say so.
pub fn is_being_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// The warm pool that the pod belongs to: its label names the pool, and a WarmPool of that name owns it. A label
/// alone says nothing, since whoever creates a pod chooses its labels.
pub fn warm_pool_of(pod: &Pod) -> Option<&str> {
    let labels = pod.metadata.labels.as_ref()?;
    if labels.contains_key(labels::FUNCTION) {
        return None;
    }
    let pool = labels.get(labels::WARM_POOL)?;
    let mut owners = pod.metadata.owner_references.iter().flatten();
    let is_owned = owners.any(|owner| {
        owner.controller == Some(true) && owner.kind == "WarmPool" && owner.name == *pool
    });
    is_owned.then_some(pool)
}

fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    status.container_statuses.iter().flatten()
}

fn condition<'a>(status: &'a PodStatus, type_: &str) -> Option<&'a PodCondition> {
    let mut conditions = status.conditions.iter().flatten();
    conditions.find(|one| one.type_ == type_)
}

fn are_containers_ready(status: &PodStatus) -> bool {
    containers(status).all(|container| container.ready)
}

/// Kubernetes takes the condition away when a node is silent, and leaves the containers' readiness.
fn is_condition_ready(status: &PodStatus) -> bool {
    condition(status, "Ready").is_some_and(|ready| ready.status == "True")
}

/// The kubelet gives a container that has not started one of two reasons while all is well; all others
/// report an error.
fn waiting(status: &PodStatus) -> Option<Cause> {
    let waiting = containers(status).filter_map(|one| one.state.as_ref()?.waiting.as_ref());
    let mut failed = waiting.filter_map(|waiting| match waiting.reason.as_deref()? {
        "ContainerCreating" | "PodInitializing" => None,
        reason => Some(Cause::new(reason, waiting.message.as_deref())),
    });
    failed.next()
}

fn unschedulable(status: &PodStatus) -> Option<Cause> {
    let scheduled = condition(status, "PodScheduled")?;
    let reason = scheduled.reason.as_deref()?;
    (reason == "Unschedulable").then(|| Cause::new(reason, scheduled.message.as_deref()))
}

/// Why a pod has ended: its own reason, such as an eviction, or that of its container.
fn end(status: &PodStatus) -> Cause {
    if let Some(reason) = &status.reason {
        return Cause::new(reason, status.message.as_deref());
    }
    let mut terminated =
        containers(status).filter_map(|one| one.state.as_ref()?.terminated.as_ref());
    let message = match terminated.next() {
        Some(ended) => {
            let reason = ended.reason.as_deref().unwrap_or("Error");
            format!("{reason}, exit code {}", ended.exit_code)
        }
        None => String::new(),
    };
    Cause::new("its pod ended", Some(&message))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> Pod {
        let pod = json!({
            "metadata": { "name": "hello-a" },
            "spec": { "nodeName": "node-1", "containers": [] },
            "status": status,
        });
        serde_json::from_value(pod).expect("a pod")
    }

    fn running(ready: &str) -> Value {
        json!({
            "phase": "Running", "podIP": "10.0.0.7", "startTime": "2026-01-31T10:00:00Z",
            "conditions": [{ "type": "Ready", "status": ready }],
            "containerStatuses": [container(json!({}))],
        })
    }

    fn container(state: Value) -> Value {
        json!({
            "name": "instance", "ready": true, "image": "i", "imageID": "i", "restartCount": 0,
            "state": state,
        })
    }

    fn pending(reason: &str) -> Value {
        let state = json!({ "waiting": { "reason": reason, "message": "no such image" } });
        json!({
            "phase": "Pending", "startTime": "2026-01-31T10:00:00Z",
            "containerStatuses": [container(state)],
        })
    }

    #[test]
    fn the_state_follows_from_phase_conditions_and_containers() {
        let unschedulable = json!({
            "phase": "Pending",
            "conditions": [{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "no room",
            }],
        });
        let terminated = json!({ "terminated": { "reason": "OOMKilled", "exitCode": 137 } });
        let ended = json!({ "phase": "Failed", "containerStatuses": [container(terminated)] });
        let evicted = json!({ "phase": "Failed", "reason": "Evicted", "message": "disk" });
        let node = "node-1".to_owned();
        let mut unready = running("False");
        unready["containerStatuses"][0]["ready"] = json!(false);
        for (status, state) in [
            (
                running("True"),
                PodState::Ready {
                    ip: [10, 0, 0, 7].into(),
                    is_node_silent: false,
                },
            ),
            (
                running("Unknown"),
                PodState::Ready {
                    ip: [10, 0, 0, 7].into(),
                    is_node_silent: true,
                },
            ),
            (unready, PodState::Starting),
            (
                json!({ "phase": "Pending" }),
                PodState::Unacknowledged { node },
            ),
            (pending("ContainerCreating"), PodState::Starting),
            (
                pending("ImagePullBackOff"),
                PodState::Stuck(Cause::new("ImagePullBackOff", Some("no such image"))),
            ),
            (
                unschedulable,
                PodState::Stuck(Cause::new("Unschedulable", Some("no room"))),
            ),
            (
                ended,
                PodState::Ended(Cause::new(
                    "its pod ended",
                    Some("OOMKilled, exit code 137"),
                )),
            ),
            (
                evicted,
                PodState::Ended(Cause::new("Evicted", Some("disk"))),
            ),
        ] {
            assert_eq!(PodState::of(&pod(status.clone())), state, "{status}");
        }
    }

    #[test]
    fn a_pod_of_a_silent_node_can_be_reached_and_does_not_count_as_ready() {
        assert!(PodState::of(&pod(running("True"))).is_ready());
        assert!(!PodState::of(&pod(running("Unknown"))).is_ready());
    }

    #[test]
    fn a_deleted_pod_terminates_until_it_has_ended() {
        let deleted = |status| {
            let mut pod = pod(status);
            let at = serde_json::from_value(json!("2026-01-31T10:00:00Z")).expect("a time");
            pod.metadata.deletion_timestamp = Some(at);
            pod
        };
        for status in [running("True"), pending("ImagePullBackOff")] {
            let pod = deleted(status);
            assert_eq!(PodState::of(&pod), PodState::Terminating);
            assert!(!PodState::of(&pod).is_living());
        }
        let ended = deleted(json!({ "phase": "Succeeded" }));
        assert!(PodState::of(&ended).is_ended() && is_being_deleted(&ended));
    }

    #[test]
    fn a_cause_without_a_message_is_its_reason_alone() {
        assert_eq!(Cause::new("Evicted", None).to_string(), "Evicted");
        assert_eq!(
            Cause::new("Evicted", Some("disk")).to_string(),
            "Evicted: disk"
        );
    }

    #[test]
    fn a_pod_belongs_to_a_pool_if_the_pool_owns_it_and_no_function_has_taken_it() {
        let pod = |labels: serde_json::Value, owners: serde_json::Value| -> Pod {
            let metadata = json!({ "name": "p", "labels": labels, "ownerReferences": owners });
            serde_json::from_value(json!({ "metadata": metadata })).expect("a pod")
        };
        let owner = |kind: &str, name: &str, controller: bool| {
            json!([{
                "apiVersion": "pilotlight.dev/v1alpha1", "kind": kind, "name": name, "uid": "u",
                "controller": controller,
            }])
        };
        let of_pool = json!({ "pilotlight.dev/warm-pool": "warm" });
        let taken =
            json!({ "pilotlight.dev/warm-pool": "warm", "pilotlight.dev/function": "hello" });
        let own = owner("WarmPool", "warm", true);
        for (labels, owners, expected) in [
            (&of_pool, own.clone(), Some("warm")),
            (&of_pool, json!([]), None),
            (&of_pool, owner("WarmPool", "other", true), None),
            (&of_pool, owner("WarmPool", "warm", false), None),
            (&of_pool, owner("ReplicaSet", "warm", true), None),
            (&json!({}), own.clone(), None),
            (&taken, own.clone(), None),
        ] {
            let pod = pod(labels.clone(), owners);
            assert_eq!(warm_pool_of(&pod), expected, "{pod:?}");
        }
    }
}
