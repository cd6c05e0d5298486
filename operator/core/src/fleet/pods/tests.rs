//! One function's pods, played by the tests.

use super::*;
use crate::fleet::creations::{BACKOFF_FIRST, EXPECTATION};

const OF: Known<'static> = Known {
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
fn what_is_wanted_and_not_there_is_made_once_however_far_the_watch_lags() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let wants = demand("r1", &["a", "b"]);
    assert_eq!(
        fleet.plan(now, OF, &[&wants], &[]),
        [create("a"), create("b")]
    );
    assert_eq!(fleet.plan(now, OF, &[&wants], &[]), []);
    assert_eq!(fleet.plan(now, OF, &[&wants], &[pod("a")]), []);
    let later = now + EXPECTATION;
    assert_eq!(fleet.plan(later, OF, &[&wants], &[pod("a")]), [create("b")]);
}

#[test]
fn what_nobody_wants_is_deleted_once_but_not_while_nobody_speaks() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let pods = [pod("a"), pod("b")];
    assert_eq!(fleet.plan(now, OF, &[], &pods), []);
    let (one, other) = (demand("r1", &["a"]), demand("r1", &[]));
    assert_eq!(fleet.plan(now, OF, &[&one, &other], &pods), [delete("b")]);
    assert_eq!(fleet.plan(now, OF, &[&one, &other], &pods), []);
    fleet.not_deleted(now, "uid-b");
    assert_eq!(fleet.plan(now, OF, &[&one], &pods), [], "not at once");
    assert_eq!(fleet.next_wakeup(), Some(now + PAUSE));
    let later = now + PAUSE;
    assert_eq!(fleet.plan(later, OF, &[&one], &pods), [delete("b")]);
}

#[test]
fn nothing_is_made_of_a_revision_that_only_one_side_knows_and_nothing_deleted() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let ahead = demand("r2", &["a", "b"]);
    assert_eq!(fleet.plan(now, OF, &[&ahead], &[pod("a")]), []);
    assert_eq!(
        fleet.plan(
            now,
            Known {
                revision: "r2",
                ..OF
            },
            &[&ahead],
            &[pod("a")]
        ),
        [create("b")]
    );
}

#[test]
fn the_demand_for_an_earlier_function_of_the_name_is_not_heeded() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let wants = demand("r1", &["a"]);
    assert_eq!(
        fleet.plan(
            now,
            Known {
                uid: "another",
                ..OF
            },
            &[&wants],
            &[pod("b")]
        ),
        []
    );
}

#[test]
fn a_pod_that_ended_is_deleted_though_it_is_wanted() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let ended = Pod {
        is_over: true,
        ..pod("a")
    };
    let wants = demand("r1", &["a"]);
    assert_eq!(fleet.plan(now, OF, &[&wants], &[ended]), [delete("a")]);
}

#[test]
fn a_refusal_is_tried_again_at_a_bounded_pace() {
    let (mut fleet, mut now) = (Fleet::default(), Instant::now());
    let wants = demand("r1", &["a"]);
    for pause in [1, 2, 2, 2] {
        assert_eq!(fleet.plan(now, OF, &[&wants], &[]), [create("a")]);
        fleet.refused(now, "a");
        assert_eq!(fleet.plan(now, OF, &[&wants], &[]), []);
        now += Duration::from_secs(pause);
        assert_eq!(fleet.next_wakeup(), Some(now));
    }
    fleet.wake(now);
    assert_eq!(fleet.next_wakeup(), None, "what is due is due once");
    assert_eq!(fleet.plan(now, OF, &[&wants], &[]), [create("a")]);
    fleet.created();
    assert_eq!(fleet.next_wakeup(), Some(now + EXPECTATION));
}

#[test]
fn an_instance_whose_pod_is_gone_gets_no_second_one() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let wants = demand("r1", &["a"]);
    assert_eq!(fleet.plan(now, OF, &[&wants], &[pod("a")]), []);
    assert_eq!(fleet.plan(now, OF, &[&wants], &[]), []);
    let later = now + EXPECTATION;
    assert_eq!(fleet.plan(later, OF, &[&wants], &[]), []);
}

#[test]
fn what_nobody_named_stays_until_all_gateways_were_heard() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let (one, pods) = (demand("r1", &["a"]), [pod("a"), pod("b")]);
    let early = Known {
        may_delete: false,
        ..OF
    };
    assert_eq!(fleet.plan(now, early, &[&one], &pods), []);
    assert_eq!(fleet.plan(now, OF, &[&one], &pods), [delete("b")]);
}

#[test]
fn a_burst_that_is_refused_counts_once_and_all_of_it_is_held_back() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let wants = demand("r1", &["a", "b", "c"]);
    assert_eq!(fleet.plan(now, OF, &[&wants], &[]).len(), 3);
    fleet.refused(now, "a");
    fleet.created();
    fleet.refused(now, "c");
    assert_eq!(fleet.plan(now, OF, &[&wants], &[pod("b")]), []);
    assert_eq!(Vec::from_iter(fleet.held_back()), ["a", "c"]);
    assert_eq!(fleet.next_wakeup(), Some(now + BACKOFF_FIRST));
    let later = now + BACKOFF_FIRST;
    assert_eq!(
        fleet.plan(later, OF, &[&wants], &[pod("b")]),
        [create("a")],
        "one goes ahead"
    );
    assert_eq!(fleet.held_back().count(), 0);
    assert_eq!(fleet.plan(later, OF, &[&wants], &[pod("b")]), []);
    fleet.created();
    assert_eq!(fleet.plan(later, OF, &[&wants], &[pod("b")]), [create("c")]);
}

#[test]
fn who_comes_after_a_refusal_is_not_held_back_by_it_but_tried_next() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    fleet.plan(now, OF, &[&demand("r1", &["a"])], &[]);
    fleet.refused(now, "a");
    let both = demand("r1", &["a", "b"]);
    assert_eq!(fleet.plan(now, OF, &[&demand("r1", &["a"])], &[]), []);
    assert_eq!(fleet.plan(now, OF, &[&both], &[]), []);
    assert_eq!(Vec::from_iter(fleet.held_back()), ["a"]);
    let given_up = demand("r1", &["b"]);
    let later = now + BACKOFF_FIRST;
    assert_eq!(fleet.plan(later, OF, &[&given_up], &[]), [create("b")]);
    fleet.refused(later, "b");
    assert_eq!(fleet.plan(later, OF, &[&given_up], &[]), []);
    assert_eq!(Vec::from_iter(fleet.held_back()), ["b"]);
}

#[test]
fn code_is_needed_while_a_pod_of_its_revision_is_there_or_may_be_on_its_way() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let newer = Known {
        revision: "r2",
        ..OF
    };
    assert!(fleet.needs("r2", newer, &[]), "the present one");
    assert!(fleet.needs("r1", newer, &[pod("a")]));
    assert!(!fleet.needs("r1", newer, &[]));
    fleet.plan(now, OF, &[&demand("r1", &["b"])], &[]);
    assert!(fleet.needs("r1", newer, &[]), "made, and not shown yet");
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

fn take(instance: &str, revision: &str) -> Step {
    Step::Take {
        instance: instance.to_owned(),
        pod: ClaimedPod {
            name: format!("warm-{instance}"),
            uid: format!("uid-{instance}"),
            revision: revision.to_owned(),
        },
    }
}

#[test]
fn a_claimed_pod_is_taken_over_once_and_no_other_is_made_however_far_the_watch_lags() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let wants = claimed("r1", &["a"]);
    assert_eq!(fleet.plan(now, OF, &[&wants], &[]), [take("a", "r1")]);
    assert_eq!(fleet.plan(now, OF, &[&wants], &[]), []);
    fleet.taken("a");
    let later = now + 2 * EXPECTATION;
    assert_eq!(fleet.plan(later, OF, &[&wants], &[]), []);
    assert_eq!(fleet.plan(later, OF, &[&wants], &[pod("a")]), []);
    let unwanted = demand("r1", &[]);
    assert_eq!(
        fleet.plan(later, OF, &[&unwanted], &[pod("a")]),
        [delete("a")]
    );
}

#[test]
fn a_take_over_that_failed_is_tried_again_after_a_pause_as_of_the_revision_it_was_claimed_for() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let wants = claimed("r1", &["a"]);
    fleet.plan(now, OF, &[&wants], &[]);
    fleet.not_taken(now, "a");
    assert_eq!(fleet.plan(now, OF, &[&wants], &[]), []);
    assert_eq!(fleet.next_wakeup(), Some(now + PAUSE));
    let moved_on = Demand {
        revision: "r2".to_owned(),
        ..claimed("r1", &["a"])
    };
    assert_eq!(
        fleet.plan(now + PAUSE, OF, &[&moved_on], &[]),
        [take("a", "r1")]
    );
}

#[test]
fn what_is_claimed_and_given_up_before_it_was_taken_over_is_let_go() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    fleet.plan(now, OF, &[&claimed("r1", &["a"])], &[]);
    fleet.not_taken(now, "a");
    assert_eq!(fleet.plan(now + PAUSE, OF, &[&demand("r1", &[])], &[]), []);
    assert_eq!(fleet.next_wakeup(), None);
}

#[test]
fn a_pod_that_is_the_functions_already_is_not_taken_again_after_a_restart() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let wants = claimed("r1", &["a", "b"]);
    assert_eq!(
        fleet.plan(now, OF, &[&wants], &[pod("a")]),
        [take("b", "r1")]
    );
}
