//! Simulation in virtual time: events of asynchronous calls from their 202 to their end, with several gateways.
//!
//! `world` has a durable queue and the gateways, which run the same `Dispatch`, retries and deliveries as the real ones: with
//! gateways that end, owners that change, a queue that is away, functions that fail and are throttled, and destinations that are
//! down or refuse. `oracle` checks the trace, and `broken` shows that it finds the `faults`. A failing seed is printed; to
//! replay it: `SEED=<n> cargo test -p pilotlight-core --test events -- --nocapture`.

#![allow(clippy::print_stdout, reason = "a test's summary goes to its output")]

mod broken;
mod faults;
mod oracle;
mod queue;
mod world;

use faults::Fault;
use oracle::Summary;
use world::World;

const SEEDS: u64 = 300;

fn run(seed: u64, fault: Option<Fault>) -> (Summary, Vec<String>) {
    World::new(seed, fault).run()
}

#[test]
fn every_accepted_event_has_one_end_and_runs_no_more_often_than_declared() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => (0..SEEDS).collect(),
    };
    let is_one = seeds.len() == 1;
    let mut total = Summary::default();
    for seed in seeds {
        let (summary, findings) = run(seed, None);
        assert!(findings.is_empty(), "seed {seed}: {findings:#?}");
        total.add(&summary);
    }
    println!("{total:?}");
    if !is_one {
        total.assert_everything_was_seen();
    }
}

#[test]
fn a_seed_replays_to_the_same_end() {
    assert_eq!(run(7, None), run(7, None));
}
