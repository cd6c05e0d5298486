//! Tests of `Fleet`: they play the gateways, the watch and the API server.

use super::*;
use crate::fleet::creations::{BACKOFF_FIRST, EXPECTATION_TIMEOUT};

const FUNCTION: ObservedFunction<'static> = ObservedFunction {
    uid: "uid",
    revision: "r1",
    may_create: true,
    may_delete: true,
};

fn demand(revision: &str, instances: &[&str]) -> Demand {
    Demand {
        function: "hello".parse().expect("a name"),
        uid: "uid".to_owned(),
        revision: revision.to_owned(),
        instances: instances.iter().map(|name| (*name).to_owned()).collect(),
        claimed: Default::default(),
        in_flight: 0,
        queued: 0,
        released: false,
    }
}

fn pod(instance: &str) -> Pod {
    Pod {
        name: format!("hello-{instance}"),
        uid: format!("uid-{instance}"),
        instance: instance.to_owned(),
        revision: "r1".to_owned(),
        is_over: false,
        is_being_deleted: false,
    }
}

fn create(instance: &str) -> Step {
    Step::Create {
        instance: instance.to_owned(),
    }
}

fn delete(instance: &str) -> Step {
    let (pod, uid) = (format!("hello-{instance}"), format!("uid-{instance}"));
    Step::Delete { pod, uid }
}

#[test]
fn a_missing_pod_is_created_once_even_if_the_watch_lags() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let wants = demand("r1", &["a", "b"]);
    assert_eq!(
        fleet.plan(now, FUNCTION, &[&wants], &[]),
        [create("a"), create("b")]
    );
    assert_eq!(fleet.plan(now, FUNCTION, &[&wants], &[]), []);
    assert_eq!(fleet.plan(now, FUNCTION, &[&wants], &[pod("a")]), []);
    let later = now + EXPECTATION_TIMEOUT;
    assert_eq!(
        fleet.plan(later, FUNCTION, &[&wants], &[pod("a")]),
        [create("b")]
    );
}

#[test]
fn an_unwanted_pod_is_deleted_once_but_not_before_a_gateway_reports() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let pods = [pod("a"), pod("b")];
    assert_eq!(fleet.plan(now, FUNCTION, &[], &pods), []);
    let (one, other) = (demand("r1", &["a"]), demand("r1", &[]));
    assert_eq!(
        fleet.plan(now, FUNCTION, &[&one, &other], &pods),
        [delete("b")]
    );
    assert_eq!(fleet.plan(now, FUNCTION, &[&one, &other], &pods), []);
    fleet.not_deleted(now, "uid-b");
    assert_eq!(
        fleet.plan(now, FUNCTION, &[&one], &pods),
        [],
        "it is retried after a pause"
    );
    assert_eq!(fleet.next_wakeup(), Some(now + RETRY_PAUSE));
    let later = now + RETRY_PAUSE;
    assert_eq!(fleet.plan(later, FUNCTION, &[&one], &pods), [delete("b")]);
}

#[test]
fn a_revision_that_only_one_side_knows_leads_to_no_creation_and_no_deletion() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let ahead = demand("r2", &["a", "b"]);
    assert_eq!(fleet.plan(now, FUNCTION, &[&ahead], &[pod("a")]), []);
    assert_eq!(
        fleet.plan(
            now,
            ObservedFunction {
                revision: "r2",
                ..FUNCTION
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
            ObservedFunction {
                uid: "another",
                ..FUNCTION
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
        fleet.plan(now, FUNCTION, &[&wants], &[ended]),
        [delete("a")]
    );
}

#[test]
fn a_refused_creation_is_retried_at_a_bounded_pace() {
    let (mut fleet, mut now) = (Fleet::default(), Instant::now());
    let wants = demand("r1", &["a"]);
    for pause in [1, 2, 2, 2] {
        assert_eq!(fleet.plan(now, FUNCTION, &[&wants], &[]), [create("a")]);
        fleet.refused(now, "a");
        assert_eq!(fleet.plan(now, FUNCTION, &[&wants], &[]), []);
        now += Duration::from_secs(pause);
        assert_eq!(fleet.next_wakeup(), Some(now));
    }
    fleet.wake(now);
    assert_eq!(fleet.next_wakeup(), None, "a deadline is due once");
    assert_eq!(fleet.plan(now, FUNCTION, &[&wants], &[]), [create("a")]);
    fleet.created();
    assert_eq!(fleet.next_wakeup(), Some(now + EXPECTATION_TIMEOUT));
}

#[test]
fn an_instance_whose_pod_is_gone_gets_no_second_one() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let wants = demand("r1", &["a"]);
    assert_eq!(fleet.plan(now, FUNCTION, &[&wants], &[pod("a")]), []);
    assert_eq!(fleet.plan(now, FUNCTION, &[&wants], &[]), []);
    let later = now + EXPECTATION_TIMEOUT;
    assert_eq!(fleet.plan(later, FUNCTION, &[&wants], &[]), []);
}

#[test]
fn an_unnamed_pod_stays_until_all_gateways_have_reported() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let (one, pods) = (demand("r1", &["a"]), [pod("a"), pod("b")]);
    let early = ObservedFunction {
        may_delete: false,
        ..FUNCTION
    };
    assert_eq!(fleet.plan(now, early, &[&one], &pods), []);
    assert_eq!(fleet.plan(now, FUNCTION, &[&one], &pods), [delete("b")]);
}

#[test]
fn the_refusals_of_one_burst_count_once_and_all_its_instances_are_held_back() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let wants = demand("r1", &["a", "b", "c"]);
    assert_eq!(fleet.plan(now, FUNCTION, &[&wants], &[]).len(), 3);
    fleet.refused(now, "a");
    fleet.created();
    fleet.refused(now, "c");
    assert_eq!(fleet.plan(now, FUNCTION, &[&wants], &[pod("b")]), []);
    assert_eq!(Vec::from_iter(fleet.held_back()), ["a", "c"]);
    assert_eq!(fleet.next_wakeup(), Some(now + BACKOFF_FIRST));
    let later = now + BACKOFF_FIRST;
    assert_eq!(
        fleet.plan(later, FUNCTION, &[&wants], &[pod("b")]),
        [create("a")],
        "one creation is tried first"
    );
    assert_eq!(fleet.held_back().count(), 0);
    assert_eq!(fleet.plan(later, FUNCTION, &[&wants], &[pod("b")]), []);
    fleet.created();
    assert_eq!(
        fleet.plan(later, FUNCTION, &[&wants], &[pod("b")]),
        [create("c")]
    );
}

#[test]
fn an_instance_wanted_after_a_refusal_is_not_held_back_but_tried_next() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    fleet.plan(now, FUNCTION, &[&demand("r1", &["a"])], &[]);
    fleet.refused(now, "a");
    let both = demand("r1", &["a", "b"]);
    assert_eq!(fleet.plan(now, FUNCTION, &[&demand("r1", &["a"])], &[]), []);
    assert_eq!(fleet.plan(now, FUNCTION, &[&both], &[]), []);
    assert_eq!(Vec::from_iter(fleet.held_back()), ["a"]);
    let given_up = demand("r1", &["b"]);
    let later = now + BACKOFF_FIRST;
    assert_eq!(
        fleet.plan(later, FUNCTION, &[&given_up], &[]),
        [create("b")]
    );
    fleet.refused(later, "b");
    assert_eq!(fleet.plan(later, FUNCTION, &[&given_up], &[]), []);
    assert_eq!(Vec::from_iter(fleet.held_back()), ["b"]);
}

#[test]
fn code_is_needed_while_a_pod_of_its_revision_exists_or_may_be_in_flight() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let newer = ObservedFunction {
        revision: "r2",
        ..FUNCTION
    };
    assert!(fleet.needs("r2", newer, &[]), "it is the present revision");
    assert!(fleet.needs("r1", newer, &[pod("a")]));
    assert!(!fleet.needs("r1", newer, &[]));
    fleet.plan(now, FUNCTION, &[&demand("r1", &["b"])], &[]);
    assert!(
        fleet.needs("r1", newer, &[]),
        "it was created, and the watch has not shown it"
    );
    let moved_on = demand("r2", &[]);
    fleet.plan(now, newer, &[&moved_on], &[pod("b")]);
    assert!(fleet.needs("r1", newer, &[pod("b")]));
    assert!(!fleet.needs("r1", newer, &[]));
}

fn claimed(revision: &str, instances: &[&str]) -> Demand {
    let pods = instances.iter().map(|name| {
        let pod = ClaimedPod {
            name: format!("warm-{name}"),
            uid: format!("uid-{name}"),
            revision: revision.to_owned(),
        };
        ((*name).to_owned(), pod)
    });
    Demand {
        claimed: pods.collect(),
        ..demand(revision, instances)
    }
}

fn adopt(instance: &str, revision: &str) -> Step {
    Step::Adopt {
        instance: instance.to_owned(),
        pod: ClaimedPod {
            name: format!("warm-{instance}"),
            uid: format!("uid-{instance}"),
            revision: revision.to_owned(),
        },
    }
}

#[test]
fn a_claimed_pod_is_adopted_once_and_no_other_is_created_even_if_the_watch_lags() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let wants = claimed("r1", &["a"]);
    assert_eq!(
        fleet.plan(now, FUNCTION, &[&wants], &[]),
        [adopt("a", "r1")]
    );
    assert_eq!(fleet.plan(now, FUNCTION, &[&wants], &[]), []);
    fleet.adopted("a");
    let later = now + 2 * EXPECTATION_TIMEOUT;
    assert_eq!(fleet.plan(later, FUNCTION, &[&wants], &[]), []);
    assert_eq!(fleet.plan(later, FUNCTION, &[&wants], &[pod("a")]), []);
    let unwanted = demand("r1", &[]);
    assert_eq!(
        fleet.plan(later, FUNCTION, &[&unwanted], &[pod("a")]),
        [delete("a")]
    );
}

#[test]
fn a_failed_adoption_is_retried_after_a_pause_with_the_revision_of_the_claim() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let wants = claimed("r1", &["a"]);
    fleet.plan(now, FUNCTION, &[&wants], &[]);
    fleet.not_adopted(now, "a");
    assert_eq!(fleet.plan(now, FUNCTION, &[&wants], &[]), []);
    assert_eq!(fleet.next_wakeup(), Some(now + RETRY_PAUSE));
    let moved_on = Demand {
        revision: "r2".to_owned(),
        ..claimed("r1", &["a"])
    };
    assert_eq!(
        fleet.plan(now + RETRY_PAUSE, FUNCTION, &[&moved_on], &[]),
        [adopt("a", "r1")]
    );
}

#[test]
fn a_claimed_pod_that_is_given_up_before_its_adoption_is_not_adopted() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    fleet.plan(now, FUNCTION, &[&claimed("r1", &["a"])], &[]);
    fleet.not_adopted(now, "a");
    assert_eq!(
        fleet.plan(now + RETRY_PAUSE, FUNCTION, &[&demand("r1", &[])], &[]),
        []
    );
    assert_eq!(fleet.next_wakeup(), None);
}

#[test]
fn a_pod_that_was_adopted_is_not_adopted_again_after_a_restart() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let wants = claimed("r1", &["a", "b"]);
    assert_eq!(
        fleet.plan(now, FUNCTION, &[&wants], &[pod("a")]),
        [adopt("b", "r1")]
    );
}
