//! Simulation of a cluster in virtual time: gateways that take over, claim and request instances of one
//! function, and the controller that makes and deletes their pods.
//!
//! `world` runs the same `Handover`, `Ledger`, `Choice`, `Naming`, `Demands`, `Fleet` and `Stock` that the
//! gateways and the controller run; all messages and watches lag. `rules` checks the traces, and `broken`
//! shows that it finds faults. To replay a seed with its trace:
//! `SEED=<n> cargo test -p pilotlight-core --test cluster -- --nocapture`.

#![allow(clippy::print_stdout, reason = "a test's trace goes to its output")]

mod broken;
mod controller;
mod gateway;
mod rules;
mod state;
mod world;

use std::collections::BTreeSet;

use broken::Broken;
use rules::Finding;
use state::World;

const SEEDS: u64 = 500;
const EVENTS: usize = 600;

#[test]
fn in_every_world_wanted_instances_get_pods_and_no_pod_in_use_is_deleted() {
    let (seeds, trace) = match std::env::var("SEED") {
        Ok(seed) => (vec![seed.parse().expect("SEED is a number")], true),
        Err(_) => ((0..SEEDS).collect(), false),
    };
    let mut seen = rules::Seen::default();
    for seed in seeds {
        let (found, summary) = World::new(seed, None, trace).run(EVENTS);
        assert!(found.is_empty(), "SEED={seed}: {found:#?}");
        seen.add(&summary);
    }
    if !trace {
        seen.assert_everything();
    }
}

const BROKEN_SEEDS: u64 = 400;

/// The rules name the fault within the seeds, and no rules except its own and its consequences.
#[track_caller]
fn assert_found(broken: Broken) {
    let (rule, follows) = broken.breaks();
    let mut is_found = false;
    for seed in 0..BROKEN_SEEDS {
        let (found, _) = World::new(seed, Some(broken), false).run(EVENTS);
        for finding in &found {
            let name = finding.name();
            is_found |= name == rule;
            let is_expected = name == rule || follows.contains(&name);
            assert!(is_expected, "{broken:?}, seed {seed}: {finding:?}");
        }
    }
    assert!(
        is_found,
        "{broken:?}: {rule} is not named in {BROKEN_SEEDS} seeds"
    );
}

#[test]
fn each_rule_has_a_cluster_that_breaks_it() {
    let broken: BTreeSet<&str> = Broken::ALL.iter().map(|one| one.breaks().0).collect();
    assert_eq!(broken, Finding::NAMES.into());
}

#[test]
fn a_claim_before_the_adoption_is_found() {
    assert_found(Broken::ClaimedBeforeAdoption);
}

#[test]
fn a_release_after_the_handover_is_found() {
    assert_found(Broken::ReleasedAfterHandover);
}

#[test]
fn a_revision_that_is_named_after_the_driver_knows_it_is_found() {
    assert_found(Broken::RevisionNamedLate);
}

#[test]
fn a_function_that_is_forgotten_after_its_successor_is_claimed_is_found() {
    assert_found(Broken::ForgottenLate);
}

#[test]
fn a_missed_claim_without_a_request_is_found() {
    assert_found(Broken::MissedNotRequested);
}

#[test]
fn a_claimed_pod_that_is_named_at_once_is_found() {
    assert_found(Broken::NamedAtOnce);
}

#[test]
fn a_claimed_pod_that_is_never_named_is_found() {
    assert_found(Broken::NeverNamed);
}

#[test]
fn a_pod_of_another_gateway_that_is_offered_again_is_found() {
    assert_found(Broken::LostOfferedAgain);
}

#[test]
fn a_pod_that_does_not_fit_its_function_is_found() {
    assert_found(Broken::AnyPodTaken);
}

#[test]
fn a_deletion_before_all_gateways_have_reported_is_found() {
    assert_found(Broken::DeletedBeforeReports);
}

#[test]
fn an_instance_that_stays_in_the_demand_is_found() {
    assert_found(Broken::NeverCancelled);
}
