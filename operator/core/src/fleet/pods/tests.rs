//! Tests of `Fleet`: they play the gateways, the watch and the API server.

use super::*;
use crate::fleet::creations::{BACKOFF_FIRST, EXPECTATION_TIMEOUT};
use crate::ids::{Namespace, PoolId};

fn function() -> ObservedFunction {
    ObservedFunction {
        uid: "uid".into(),
        revision: "r1".into(),
        may_create: true,
        may_delete: true,
    }
}

fn demand(revision: &str, instances: &[&str]) -> Demand {
    Demand {
        pool: PoolId::latest(Namespace::local(), "hello".parse().expect("a name")),
        uid: "uid".into(),
        revision: revision.into(),
        instances: instances.iter().map(|name| (*name).into()).collect(),
        claimed: Default::default(),
        given_up: Default::default(),
        in_flight: 0,
        queued: 0,
        events: 0,
        released: false,
    }
}

fn pod(instance: &str) -> Pod {
    Pod {
        name: format!("hello-{instance}").into(),
        uid: format!("uid-{instance}").into(),
        instance: instance.into(),
        revision: "r1".into(),
        is_over: false,
        is_being_deleted: false,
    }
}

fn held_back(fleet: &Fleet) -> Vec<&str> {
    fleet.held_back().map(InstanceName::as_str).collect()
}

fn create(instance: &str) -> Step {
    Step::Create {
        instance: instance.into(),
    }
}

fn delete(instance: &str) -> Step {
    Step::Delete {
        pod: format!("hello-{instance}").into(),
        uid: format!("uid-{instance}").into(),
        at_once: false,
    }
}

fn kill(instance: &str) -> Step {
    Step::Delete {
        pod: format!("hello-{instance}").into(),
        uid: format!("uid-{instance}").into(),
        at_once: true,
    }
}

#[test]
fn a_pod_that_was_given_up_is_deleted_at_once_even_if_its_deletion_has_begun() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let given_up = Demand {
        given_up: ["a".into(), "b".into(), "c".into()].into(),
        ..demand("r1", &["c"])
    };
    let ending = Pod {
        is_being_deleted: true,
        ..pod("b")
    };
    let pods = [pod("a"), ending, pod("c"), pod("d")];
    // One gateway has given c up, and wants it still.
    assert_eq!(
        fleet.plan(now, &function(), &[&given_up], &pods),
        [kill("a"), kill("b"), delete("d")]
    );
    assert_eq!(fleet.plan(now, &function(), &[&given_up], &pods), []);
    fleet.not_deleted(now, &"uid-a".into());
    let later = now + RETRY_PAUSE;
    assert_eq!(
        fleet.plan(later, &function(), &[&given_up], &pods),
        [kill("a")]
    );
}

#[test]
fn a_pod_that_another_gateway_wants_is_not_deleted_because_one_has_given_it_up() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let given_up = Demand {
        given_up: ["a".into()].into(),
        ..demand("r1", &[])
    };
    let wants = demand("r1", &["a"]);
    let plan = fleet.plan(now, &function(), &[&given_up, &wants], &[pod("a")]);
    assert_eq!(plan, []);
    assert_eq!(
        fleet.plan(now, &function(), &[&given_up], &[pod("a")]),
        [kill("a")]
    );
}

#[test]
fn a_missing_pod_is_created_once_even_if_the_watch_lags() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let wants = demand("r1", &["a", "b"]);
    assert_eq!(
        fleet.plan(now, &function(), &[&wants], &[]),
        [create("a"), create("b")]
    );
    assert_eq!(fleet.plan(now, &function(), &[&wants], &[]), []);
    assert_eq!(fleet.plan(now, &function(), &[&wants], &[pod("a")]), []);
    let later = now + EXPECTATION_TIMEOUT;
    assert_eq!(
        fleet.plan(later, &function(), &[&wants], &[pod("a")]),
        [create("b")]
    );
}

#[test]
fn an_unwanted_pod_is_deleted_once_but_not_before_a_gateway_reports() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let pods = [pod("a"), pod("b")];
    assert_eq!(fleet.plan(now, &function(), &[], &pods), []);
    let (one, other) = (demand("r1", &["a"]), demand("r1", &[]));
    assert_eq!(
        fleet.plan(now, &function(), &[&one, &other], &pods),
        [delete("b")]
    );
    assert_eq!(fleet.plan(now, &function(), &[&one, &other], &pods), []);
    fleet.not_deleted(now, &"uid-b".into());
    assert_eq!(
        fleet.plan(now, &function(), &[&one], &pods),
        [],
        "it is retried after a pause"
    );
    assert_eq!(fleet.next_wakeup(), Some(now + RETRY_PAUSE));
    let later = now + RETRY_PAUSE;
    assert_eq!(
        fleet.plan(later, &function(), &[&one], &pods),
        [delete("b")]
    );
}

#[test]
fn a_revision_that_only_one_side_knows_leads_to_no_creation_and_no_deletion() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let ahead = demand("r2", &["a", "b"]);
    assert_eq!(fleet.plan(now, &function(), &[&ahead], &[pod("a")]), []);
    assert_eq!(
        fleet.plan(
            now,
            &ObservedFunction {
                revision: "r2".into(),
                ..function()
            },
            &[&ahead],
            &[pod("a")]
        ),
        [create("b")]
    );
}

#[test]
fn the_demand_for_an_earlier_function_of_the_same_name_is_ignored() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let wants = demand("r1", &["a"]);
    assert_eq!(
        fleet.plan(
            now,
            &ObservedFunction {
                uid: "another".into(),
                ..function()
            },
            &[&wants],
            &[pod("b")]
        ),
        []
    );
}

#[test]
fn a_pod_that_ended_is_deleted_although_it_is_wanted() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let ended = Pod {
        is_over: true,
        ..pod("a")
    };
    let wants = demand("r1", &["a"]);
    assert_eq!(
        fleet.plan(now, &function(), &[&wants], &[ended]),
        [delete("a")]
    );
}

#[test]
fn a_refused_creation_is_retried_at_a_bounded_pace() {
    let (mut fleet, mut now) = (Fleet::default(), Instant::now());
    let wants = demand("r1", &["a"]);
    for pause in [1, 2, 2, 2] {
        assert_eq!(fleet.plan(now, &function(), &[&wants], &[]), [create("a")]);
        fleet.refused(now, &"a".into());
        assert_eq!(fleet.plan(now, &function(), &[&wants], &[]), []);
        now += Duration::from_secs(pause);
        assert_eq!(fleet.next_wakeup(), Some(now));
    }
    fleet.wake(now);
    assert_eq!(fleet.next_wakeup(), None, "a deadline is due once");
    assert_eq!(fleet.plan(now, &function(), &[&wants], &[]), [create("a")]);
    fleet.created();
    assert_eq!(fleet.next_wakeup(), Some(now + EXPECTATION_TIMEOUT));
}

#[test]
fn an_instance_whose_pod_is_gone_gets_no_second_one() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let wants = demand("r1", &["a"]);
    assert_eq!(fleet.plan(now, &function(), &[&wants], &[pod("a")]), []);
    assert_eq!(fleet.plan(now, &function(), &[&wants], &[]), []);
    let later = now + EXPECTATION_TIMEOUT;
    assert_eq!(fleet.plan(later, &function(), &[&wants], &[]), []);
}

#[test]
fn an_unnamed_pod_stays_until_all_gateways_have_reported() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let (one, pods) = (demand("r1", &["a"]), [pod("a"), pod("b")]);
    let early = ObservedFunction {
        may_delete: false,
        ..function()
    };
    assert_eq!(fleet.plan(now, &early, &[&one], &pods), []);
    assert_eq!(fleet.plan(now, &function(), &[&one], &pods), [delete("b")]);
}

#[test]
fn the_refusals_of_one_burst_count_once_and_all_its_instances_are_held_back() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let wants = demand("r1", &["a", "b", "c"]);
    assert_eq!(fleet.plan(now, &function(), &[&wants], &[]).len(), 3);
    fleet.refused(now, &"a".into());
    fleet.created();
    fleet.refused(now, &"c".into());
    assert_eq!(fleet.plan(now, &function(), &[&wants], &[pod("b")]), []);
    assert_eq!(held_back(&fleet), ["a", "c"]);
    assert_eq!(fleet.next_wakeup(), Some(now + BACKOFF_FIRST));
    let later = now + BACKOFF_FIRST;
    assert_eq!(
        fleet.plan(later, &function(), &[&wants], &[pod("b")]),
        [create("a")],
        "one creation is tried first"
    );
    assert_eq!(fleet.held_back().count(), 0);
    assert_eq!(fleet.plan(later, &function(), &[&wants], &[pod("b")]), []);
    fleet.created();
    assert_eq!(
        fleet.plan(later, &function(), &[&wants], &[pod("b")]),
        [create("c")]
    );
}

#[test]
fn an_instance_wanted_after_a_refusal_is_not_held_back_but_tried_next() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    fleet.plan(now, &function(), &[&demand("r1", &["a"])], &[]);
    fleet.refused(now, &"a".into());
    let both = demand("r1", &["a", "b"]);
    assert_eq!(
        fleet.plan(now, &function(), &[&demand("r1", &["a"])], &[]),
        []
    );
    assert_eq!(fleet.plan(now, &function(), &[&both], &[]), []);
    assert_eq!(held_back(&fleet), ["a"]);
    let given_up = demand("r1", &["b"]);
    let later = now + BACKOFF_FIRST;
    assert_eq!(
        fleet.plan(later, &function(), &[&given_up], &[]),
        [create("b")]
    );
    fleet.refused(later, &"b".into());
    assert_eq!(fleet.plan(later, &function(), &[&given_up], &[]), []);
    assert_eq!(held_back(&fleet), ["b"]);
}

#[test]
fn code_is_needed_while_a_pod_of_its_revision_exists_or_may_be_in_flight() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let newer = ObservedFunction {
        revision: "r2".into(),
        ..function()
    };
    assert!(
        fleet.needs(&"r2".into(), &newer, &[]),
        "it is the present revision"
    );
    assert!(fleet.needs(&"r1".into(), &newer, &[pod("a")]));
    assert!(!fleet.needs(&"r1".into(), &newer, &[]));
    fleet.plan(now, &function(), &[&demand("r1", &["b"])], &[]);
    assert!(
        fleet.needs(&"r1".into(), &newer, &[]),
        "it was created, and the watch has not shown it"
    );
    let moved_on = demand("r2", &[]);
    fleet.plan(now, &newer, &[&moved_on], &[pod("b")]);
    assert!(fleet.needs(&"r1".into(), &newer, &[pod("b")]));
    assert!(!fleet.needs(&"r1".into(), &newer, &[]));
}

fn claimed(revision: &str, instances: &[&str]) -> Demand {
    let pods = instances.iter().map(|name| {
        let pod = ClaimedPod {
            name: format!("warm-{name}").into(),
            uid: format!("uid-{name}").into(),
            revision: revision.into(),
        };
        ((*name).into(), pod)
    });
    Demand {
        claimed: pods.collect(),
        ..demand(revision, instances)
    }
}

fn adopt(instance: &str, revision: &str) -> Step {
    Step::Adopt {
        instance: instance.into(),
        pod: ClaimedPod {
            name: format!("warm-{instance}").into(),
            uid: format!("uid-{instance}").into(),
            revision: revision.into(),
        },
    }
}

#[test]
fn a_claimed_pod_is_adopted_once_and_no_other_is_created_even_if_the_watch_lags() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let wants = claimed("r1", &["a"]);
    assert_eq!(
        fleet.plan(now, &function(), &[&wants], &[]),
        [adopt("a", "r1")]
    );
    assert_eq!(fleet.plan(now, &function(), &[&wants], &[]), []);
    fleet.adopted(&"a".into());
    let later = now + 2 * EXPECTATION_TIMEOUT;
    assert_eq!(fleet.plan(later, &function(), &[&wants], &[]), []);
    assert_eq!(fleet.plan(later, &function(), &[&wants], &[pod("a")]), []);
    let unwanted = demand("r1", &[]);
    assert_eq!(
        fleet.plan(later, &function(), &[&unwanted], &[pod("a")]),
        [delete("a")]
    );
}

#[test]
fn a_failed_adoption_is_retried_after_a_pause_with_the_revision_of_the_claim() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let wants = claimed("r1", &["a"]);
    fleet.plan(now, &function(), &[&wants], &[]);
    fleet.not_adopted(now, &"a".into());
    assert_eq!(fleet.plan(now, &function(), &[&wants], &[]), []);
    assert_eq!(fleet.next_wakeup(), Some(now + RETRY_PAUSE));
    let moved_on = Demand {
        revision: "r2".into(),
        ..claimed("r1", &["a"])
    };
    assert_eq!(
        fleet.plan(now + RETRY_PAUSE, &function(), &[&moved_on], &[]),
        [adopt("a", "r1")]
    );
}

#[test]
fn a_claimed_pod_that_is_given_up_before_its_adoption_is_not_adopted() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    fleet.plan(now, &function(), &[&claimed("r1", &["a"])], &[]);
    fleet.not_adopted(now, &"a".into());
    assert_eq!(
        fleet.plan(now + RETRY_PAUSE, &function(), &[&demand("r1", &[])], &[]),
        []
    );
    assert_eq!(fleet.next_wakeup(), None);
}

#[test]
fn a_pod_that_was_adopted_is_not_adopted_again_after_a_restart() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let wants = claimed("r1", &["a", "b"]);
    assert_eq!(
        fleet.plan(now, &function(), &[&wants], &[pod("a")]),
        [adopt("b", "r1")]
    );
}
