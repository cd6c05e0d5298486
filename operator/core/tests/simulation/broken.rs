//! Worlds with one deliberate fault each. The oracle must find every one: a test of the test.
//!
//! `faults` has the faults and the rules that they break.

use std::collections::BTreeSet;

use pilotlight_load::account::Violation;

use crate::faults::{Broken, CROWD};
use crate::function::{EVENTS, Function};
use crate::oracle::Finding;

const SEEDS: u64 = 100;

/// The oracle names the rule within the seeds, and no rules except that and its consequences.
#[track_caller]
fn assert_found(broken: Broken) {
    let (rule, follows) = broken.breaks();
    let mut is_found = false;
    for seed in 0..SEEDS {
        let (_, findings) = Function::new(seed, Some(broken), false).run(EVENTS);
        for finding in &findings {
            let name = finding.name();
            is_found |= name == rule;
            let is_expected = name == rule || follows.contains(&name);
            assert!(is_expected, "{broken:?}, seed {seed}: {finding:?}");
        }
    }
    assert!(is_found, "{broken:?}: {rule} is not named in {SEEDS} seeds");
}

#[test]
fn each_rule_has_a_world_that_breaks_it() {
    let broken = Broken::ALL.iter().map(|one| one.breaks().0);
    let broken: BTreeSet<&str> = broken.chain([CROWD]).collect();
    let rules = Violation::NAMES.iter().chain(&Finding::NAMES);
    assert_eq!(broken, rules.copied().collect());
}

#[test]
fn starting_one_instance_more_than_the_limit_is_found() {
    assert_found(Broken::Limit);
}

#[test]
fn more_busy_instances_than_the_limit_are_found() {
    let mut findings = (0..SEEDS).flat_map(|seed| {
        let function = Function::new(seed, Some(Broken::Limit), false);
        function.run(EVENTS).1
    });
    assert!(findings.any(|finding| finding.name() == CROWD));
}

#[test]
fn queueing_one_invocation_too_many_is_found() {
    assert_found(Broken::Queue);
}

#[test]
fn stopping_an_idle_instance_a_millisecond_late_is_found() {
    assert_found(Broken::KeepAlive);
}

#[test]
fn giving_up_an_instance_that_works_is_found() {
    assert_found(Broken::GiveUpEarly);
}

#[test]
fn a_call_that_waits_for_a_stopped_supervisor_is_found() {
    assert_found(Broken::GiveUpForgotten);
}

#[test]
fn a_forgotten_rejection_is_found() {
    assert_found(Broken::RejectForgotten);
}

#[test]
fn a_repeated_rejection_is_found() {
    assert_found(Broken::RejectTwice);
}

#[test]
fn a_rejection_of_an_unknown_invocation_is_found() {
    assert_found(Broken::RejectMadeUp);
}

#[test]
fn a_rejection_for_a_wrong_reason_is_found() {
    assert_found(Broken::RejectForAnothersReason);
}

#[test]
fn a_repeated_start_is_found() {
    assert_found(Broken::StartTwice);
}

#[test]
fn a_forgotten_start_is_found() {
    assert_found(Broken::StartForgotten);
}

#[test]
fn a_forgotten_stop_is_found() {
    assert_found(Broken::StopForgotten);
}

#[test]
fn a_second_lease_for_a_busy_instance_is_found() {
    assert_found(Broken::DispatchToBusy);
}

#[test]
fn a_wake_up_in_the_past_is_found() {
    assert_found(Broken::WakeInThePast);
}

#[test]
fn a_pool_that_never_comes_to_rest_is_found() {
    assert_found(Broken::WakeWithoutEnd);
}

#[test]
fn a_forgotten_timer_is_found() {
    assert_found(Broken::WakeForgotten);
}

#[test]
fn a_forgotten_answer_is_found() {
    assert_found(Broken::AnswerForgotten);
}

#[test]
fn a_repeated_answer_is_found() {
    assert_found(Broken::AnswerTwice);
}

#[test]
fn an_answer_of_another_invocation_is_found() {
    assert_found(Broken::AnswerOfAnother);
}

#[test]
fn an_error_in_place_of_an_answer_is_found() {
    assert_found(Broken::AnswerTakenForLost);
}

#[test]
fn a_rejection_of_an_invocation_that_began_is_found() {
    assert_found(Broken::LostTakenForRefused);
}

#[test]
fn a_retry_of_an_invocation_that_began_is_found() {
    assert_found(Broken::LostSentAgain);
}

#[test]
fn a_supervisor_that_accepts_a_second_lease_is_found() {
    assert_found(Broken::BusyIgnored);
}

#[test]
fn a_supervisor_that_delivers_an_event_twice_is_found() {
    assert_found(Broken::DeliveredTwice);
}

#[test]
fn a_success_of_an_invocation_that_never_began_is_found() {
    assert_found(Broken::FailedInitTakenForSuccess);
}

#[test]
fn a_success_of_an_invocation_that_never_ended_is_found() {
    assert_found(Broken::CrashTakenForSuccess);
}

#[test]
fn a_success_of_a_stream_that_broke_is_found() {
    assert_found(Broken::CutStreamTakenForWhole);
}

#[test]
fn an_instance_that_never_ends_is_found() {
    assert_found(Broken::ShutdownForgotten);
}

#[test]
fn an_instance_of_the_previous_revision_is_found() {
    assert_found(Broken::MadeOutdated);
}

#[test]
fn pools_that_each_use_the_whole_limit_are_found() {
    assert_found(Broken::BudgetOfOneEach);
}

#[test]
fn a_pool_that_is_not_woken_for_another_is_found() {
    assert_found(Broken::SiblingForgotten);
}
