//! Simulation in virtual time: the pools of a function and their instances with seeded traces of arrivals,
//! slow starts, crashes in every state, supervisors that were stopped, timeouts, leases of other gateways, new revisions, other limits and
//! deletion.
//!
//! `world` runs the same `Pool` and `Machine` that the gateway and the supervisor run; `function` runs one to
//! three worlds with one `Budget`. `oracle` and `function` check the traces, and `broken` shows that it finds the `faults`. A failing seed is printed. To replay it with its trace:
//! `SEED=<n> cargo test -p pilotlight-core --test simulation -- --nocapture`.

#![allow(
    clippy::print_stdout,
    reason = "a test's trace and summary go to its output"
)]

mod answers;
mod broken;
mod changes;
mod faults;
mod function;
mod gateway;
mod happening;
mod instances;
mod oracle;
mod summary;
mod supervisor;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use function::{EVENTS, Function};
use summary::Summary;

const SEEDS: u64 = 10_000;

fn run(seed: u64, trace: bool) -> Summary {
    let (summary, findings) = Function::new(seed, None, trace).run(EVENTS);
    assert!(findings.is_empty(), "{findings:#?}");
    summary
}

#[test]
fn every_invocation_is_answered_once_and_every_bound_holds() {
    if let Ok(seed) = std::env::var("SEED") {
        let summary = run(seed.parse().expect("SEED is a number"), true);
        println!("{summary:?}");
        return;
    }
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let mut total = Summary::default();
    std::thread::scope(|scope| {
        let work = |worker: u64| {
            let mut sum = Summary::default();
            for seed in (worker..SEEDS).step_by(workers as usize) {
                match catch_unwind(AssertUnwindSafe(|| run(seed, false))) {
                    Ok(summary) => sum.add(&summary),
                    Err(_) => panic!("seed {seed} failed; replay: SEED={seed} (see main.rs)"),
                }
            }
            sum
        };
        let threads: Vec<_> = (0..workers).map(|w| scope.spawn(move || work(w))).collect();
        for thread in threads {
            total.add(&thread.join().expect("a failing seed is printed above"));
        }
    });
    println!("{SEEDS} seeds: {total:?}");
    total.assert_everything_was_seen();
}

#[test]
fn a_seed_replays_to_the_same_end() {
    assert_eq!(run(7, false), run(7, false));
}
