//! The resources of a warm instance and of the gateway while nobody calls.
//!
//! Memory after the first call and after the load of `latency`; processor time and context
//! switches over a while without traffic, which should be none.

use anyhow::{Context, Result};

use crate::machine::Cores;
use crate::pilotlight::Pilotlight;
use crate::plan::Plan;
use crate::process_stats::{self, Activity, Memory};
use crate::results::Footprint;
use crate::stage::Function;

/// A watched process, and its memory at the beginning.
#[derive(Debug)]
pub(crate) struct Watched {
    name: String,
    pid: u32,
    first: Memory,
}

/// The gateway, and each function's supervisor and runtime process; all are warm.
pub(crate) fn watch(pilotlight: &Pilotlight, functions: &[Function]) -> Result<Vec<Watched>> {
    let mut processes = vec![("gateway".to_owned(), pilotlight.pid)];
    for function in functions.iter().map(|function| function.name()) {
        let instance = pilotlight.instance(function)?;
        processes.push((format!("supervisor of {function}"), instance.supervisor));
        let runtime = instance
            .runtime
            .context("a warm instance without a runtime process")?;
        processes.push((format!("runtime process of {function}"), runtime));
    }
    let watched = processes.into_iter().map(|(name, pid)| {
        let first = process_stats::memory(pid)?;
        Ok(Watched { name, pid, first })
    });
    watched.collect()
}

/// The footprints, and the share of the cores that others took meanwhile.
pub(crate) async fn measure(plan: &Plan, watched: Vec<Watched>) -> Result<(Vec<Footprint>, f64)> {
    anstream::eprintln!("footprint: {} s without traffic", plan.idle.as_secs());
    let activities = |watched: &[Watched]| -> Result<Vec<Activity>> {
        watched
            .iter()
            .map(|process| process_stats::activity(process.pid))
            .collect()
    };
    let (cores, before) = (Cores::now()?, activities(&watched)?);
    tokio::time::sleep(plan.idle).await;
    let (others, after) = (Cores::now()?.busy_since(cores), activities(&watched)?);
    let idle = after
        .into_iter()
        .zip(before)
        .map(|(after, before)| after.since(before));
    let footprints = watched
        .into_iter()
        .zip(idle)
        .map(|(Watched { name, pid, first }, idle)| {
            let loaded = process_stats::memory(pid)?;
            Ok(Footprint {
                name,
                first,
                loaded,
                idle,
            })
        });
    Ok((footprints.collect::<Result<_>>()?, others))
}
