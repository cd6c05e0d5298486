//! Tests of `Pods`: pods as the API server shows them, and the states of their instances.

use kube::runtime::watcher::Event;
use pilotlight_core::ids::Namespace;
use pilotlight_watch::Fold;
use serde_json::{Value, json};

use super::*;

fn pod(instance: &str, uid: &str, status: Value) -> Pod {
    let pod = json!({
        "metadata": {
            "name": format!("hello-{instance}"),
            "namespace": "local",
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

fn hello() -> PoolId {
    PoolId::latest(Namespace::local(), "hello".parse().expect("a name"))
}

fn running(ready: bool) -> Value {
    json!({
        "phase": "Running", "podIP": "10.0.0.7", "startTime": "2026-01-31T10:00:00Z",
        "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }],
    })
}

fn apply(pods: &Pods, pod: Pod) {
    pods.take(Change::Applied(pod));
}

fn delete(pods: &Pods, pod: &Pod) {
    pods.take(Change::Deleted {
        name: pod.name_any(),
        kept: PodKey::of(pod),
    });
}

#[test]
fn the_state_of_an_instance_can_be_followed_before_and_after_its_pod_exists() {
    let pods = Pods::default();
    let mut state = pods.follow("a");
    assert_eq!(*state.borrow_and_update(), PodState::Starting);
    apply(&pods, pod("a", "1", running(true)));
    assert!(matches!(*state.borrow_and_update(), PodState::Ready { .. }));
    delete(&pods, &pod("a", "1", running(true)));
    assert!(matches!(*state.borrow_and_update(), PodState::Ended(_)));
    assert!(!pods.has("a"));
}

#[test]
fn another_pod_of_the_same_name_does_not_replace_the_one_that_is_followed() {
    let pods = Pods::default();
    apply(&pods, pod("a", "1", running(true)));
    let state = pods.follow("a");
    apply(&pods, pod("a", "2", running(true)));
    assert_eq!(*state.borrow(), gone("its pod was replaced"));
    // An end is final, and the deletion of the other pod changes nothing.
    delete(&pods, &pod("a", "2", running(true)));
    assert!(pods.has("a"));
}

#[test]
fn a_pod_that_a_list_lacks_was_deleted() {
    let (pods, mut fold) = (Pods::default(), Fold::new(PodKey::of));
    let mut show = |event| {
        fold.take(event)
            .into_iter()
            .for_each(|change| pods.take(change))
    };
    for name in ["a", "b"] {
        show(Event::Apply(pod(name, name, running(true))));
    }
    let (kept, lost, wanted) = (pods.follow("a"), pods.follow("b"), pods.follow("c"));
    show(Event::Init);
    show(Event::InitApply(pod("a", "a", running(true))));
    show(Event::InitDone);
    assert!(matches!(*kept.borrow(), PodState::Ready { .. }));
    assert!(matches!(*lost.borrow(), PodState::Ended(_)));
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
    let found = pods.found(&hello());
    let expected = Found {
        pool: Some(hello()),
        owner: "f".into(),
        instance: "a".into(),
        revision: "first".into(),
    };
    assert_eq!(found, [expected]);
}
