//! Warm latency: one connection, one instance, everything measured by turns.
//!
//! Each round gives every contestant and payload one slice and begins with the next of them, so
//! that drift of the machine and what ran before hit all alike. Differences are taken within a
//! round.

use std::sync::Arc;

use anyhow::Result;

use crate::load::{self, Times};
use crate::plan::Plan;
use crate::results::LatencySeries;
use crate::stage::{self, Contestant};

/// Sizes of the events, in bytes.
pub(crate) const SMALL: usize = 100;
pub(crate) const LARGE: usize = 64 * 1024;

pub(crate) async fn measure(plan: &Plan, contestants: &[Contestant]) -> Result<Vec<LatencySeries>> {
    let mut series = Vec::new();
    let mut calls = Vec::new();
    for bytes in [SMALL, LARGE] {
        let payload = stage::payload(bytes);
        for contestant in contestants {
            calls.push(Arc::new(contestant.call(&payload)?));
            let Contestant {
                system, function, ..
            } = *contestant;
            series.push(LatencySeries {
                system,
                function,
                bytes,
                rounds: Vec::<Times>::new(),
            });
        }
    }
    for round in 0..plan.latency_rounds {
        anstream::eprintln!(
            "warm latency: round {} of {}",
            round + 1,
            plan.latency_rounds
        );
        for turn in 0..calls.len() {
            let turn = (turn + round) % calls.len();
            let times = load::slice(&calls[turn], 1, plan.warm_up, plan.latency_slice).await?;
            series[turn].rounds.push(times);
        }
    }
    Ok(series)
}
