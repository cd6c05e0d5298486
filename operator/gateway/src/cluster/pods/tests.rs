//! Pods as the API server shows them, and what becomes of the instances that they are.

use serde_json::{Value, json};

use super::*;

fn pod(instance: &str, uid: &str, status: Value) -> Pod {
    let pod = json!({
        "metadata": {
            "name": format!("hello-{instance}"),
            "uid": uid,
            "labels": {
                labels::FUNCTION: "hello",
                labels::INSTANCE: instance,
                labels::REVISION: "first",
            },
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Function", "name": "hello", "uid": "f"}
            ],
        },
        "spec": {"nodeName": "node-1", "containers": []},
        "status": status,
    });
    serde_json::from_value(pod).expect("a pod")
}

fn running(ready: bool) -> Value {
    json!({
        "phase": "Running", "podIP": "10.0.0.7", "startTime": "2026-01-31T10:00:00Z",
        "containerStatuses": [{
            "name": "function", "ready": ready, "image": "i", "imageID": "i", "restartCount": 0,
        }],
    })
}

fn waiting(reason: &str) -> Value {
    let state = json!({"waiting": {"reason": reason, "message": "no such image"}});
    json!({
        "phase": "Pending", "startTime": "2026-01-31T10:00:00Z",
        "containerStatuses": [{
            "name": "function", "ready": false, "image": "i", "imageID": "i",
            "restartCount": 0, "state": state,
        }],
    })
}

fn apply(pods: &Pods, pod: Pod) {
    pods.take(Event::Apply(pod), &mut HashSet::new());
}

#[test]
fn an_instance_is_what_its_pods_status_says() {
    let ready = PodState::Ready([10, 0, 0, 7].into());
    let unschedulable = json!({
        "phase": "Pending", "startTime": "2026-01-31T10:00:00Z",
        "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "no room",
        }],
    });
    let ended = json!({
        "phase": "Failed",
        "containerStatuses": [{
            "name": "function", "ready": false, "image": "i", "imageID": "i",
            "restartCount": 0, "state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
        }],
    });
    let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "disk"});
    let hopeless = |text: &str| PodState::Hopeless(text.into());
    let gone = |text: &str| PodState::Gone(text.into());
    for (status, state) in [
        (running(true), ready),
        (running(false), PodState::Starting),
        (
            json!({"phase": "Pending"}),
            PodState::Unheeded("node-1".into()),
        ),
        (waiting("ContainerCreating"), PodState::Starting),
        (
            waiting("ImagePullBackOff"),
            hopeless("ImagePullBackOff: no such image"),
        ),
        (unschedulable, hopeless("Unschedulable: no room")),
        (ended, gone("its pod ended: OOMKilled, exit code 137")),
        (evicted, gone("Evicted: disk")),
    ] {
        assert_eq!(state_of(&pod("a", "1", status.clone())), state, "{status}");
    }
}

#[test]
fn who_follows_an_instance_hears_of_it_before_and_after_its_pod_is_there() {
    let pods = Pods::default();
    let mut state = pods.follow("a");
    assert_eq!(*state.borrow_and_update(), PodState::Starting);
    apply(&pods, pod("a", "1", running(true)));
    assert!(matches!(*state.borrow_and_update(), PodState::Ready(_)));
    pods.take(
        Event::Delete(pod("a", "1", running(true))),
        &mut HashSet::new(),
    );
    assert!(matches!(*state.borrow_and_update(), PodState::Gone(_)));
    assert!(!pods.has("a"));
}

#[test]
fn another_pod_by_the_name_of_one_that_was_followed_is_not_taken_for_it() {
    let pods = Pods::default();
    apply(&pods, pod("a", "1", running(true)));
    let state = pods.follow("a");
    apply(&pods, pod("a", "2", running(true)));
    assert_eq!(
        *state.borrow(),
        PodState::Gone("its pod was replaced".into())
    );
    // An end is final, and a deletion of the other one is no news.
    pods.take(
        Event::Delete(pod("a", "2", running(true))),
        &mut HashSet::new(),
    );
    assert!(pods.has("a"));
}

#[test]
fn what_a_list_lacks_was_deleted_while_nobody_watched() {
    let pods = Pods::default();
    for name in ["a", "b"] {
        apply(&pods, pod(name, name, running(true)));
    }
    let (kept, lost, wanted) = (pods.follow("a"), pods.follow("b"), pods.follow("c"));
    let mut seen = HashSet::new();
    pods.take(Event::Init, &mut seen);
    pods.take(Event::InitApply(pod("a", "a", running(true))), &mut seen);
    pods.take(Event::InitDone, &mut seen);
    assert!(matches!(*kept.borrow(), PodState::Ready(_)));
    assert!(matches!(*lost.borrow(), PodState::Gone(_)));
    // It has no pod yet.
    assert_eq!(*wanted.borrow(), PodState::Starting);
}

#[test]
fn only_living_pods_of_the_function_are_found() {
    let pods = Pods::default();
    let mut deleted = pod("c", "3", running(true));
    deleted.metadata.deletion_timestamp =
        Some(serde_json::from_value(json!("2026-01-31T10:00:00Z")).expect("a time"));
    let mut other = pod("d", "4", running(true));
    let others = other.metadata.labels.as_mut().expect("labels");
    others.insert(labels::FUNCTION.to_owned(), "other".to_owned());
    for pod in [
        pod("a", "1", running(true)),
        pod("b", "2", json!({"phase": "Failed"})),
        deleted,
        other,
    ] {
        apply(&pods, pod);
    }
    let found = pods.found("hello");
    let expected = Found {
        function: "hello".to_owned(),
        owner: "f".to_owned(),
        instance: "a".to_owned(),
        revision: "first".to_owned(),
    };
    assert_eq!(found, [expected]);
}
