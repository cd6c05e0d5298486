//! Warm latency: one connection, one instance, everything measured in turns.
//!
//! Each round gives every system and payload one slice, and begins with the next one, so that drift of the machine
//! and the slice before affect all equally. Differences are taken within a
//! round.

use anyhow::Result;
use pilotlight_load::arrivals::Load;
use pilotlight_load::invocation;
use pilotlight_load::timing::{self, Times};

use crate::plan::Plan;
use crate::results::LatencySeries;
use crate::stage::Contestant;

/// Sizes of the events, in bytes.
pub(crate) const SMALL: usize = 100;
pub(crate) const LARGE: usize = 64 * 1024;

pub(crate) async fn measure(plan: &Plan, contestants: &[Contestant]) -> Result<Vec<LatencySeries>> {
    let mut series = Vec::new();
    let mut calls = Vec::new();
    for bytes in [SMALL, LARGE] {
        let payload = invocation::payload(bytes);
        for contestant in contestants {
            calls.push(contestant.call(&payload)?);
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
            let load = Load::Closed { connections: 1 };
            let slice = timing::measure(&calls[turn], load, plan.warm_up, plan.latency_slice);
            series[turn].rounds.push(slice.await?.all_answered()?);
        }
    }
    Ok(series)
}
