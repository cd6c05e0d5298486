//! Throughput: all connections at once, against as many instances or upstream processes.
//!
//! Rounds alternate between the bare proxy, the runtime proxy and Pilotlight; ratios are taken
//! within a round. Client, servers and functions share the machine's cores, so the processor time
//! of each part is taken too: it says where the ratios come from.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pilotlight_load::arrivals::Load;
use pilotlight_load::invocation;
use pilotlight_load::timing::{self, Call, Times};
use pilotlight_wire::config::InstanceConfig;
use tokio::process::Child;

use crate::latency::SMALL;
use crate::pilotlight::{Pilotlight, Programs};
use crate::plan::Plan;
use crate::results::{PARTS, ThroughputSeries};
use crate::role::RoleProcess;
use crate::stage::{Contestant, Function, System};
use crate::{process_stats, runtime_process};

/// A system, and the processes that it consists of: one list for each of `PARTS`.
struct Entrant {
    call: Call,
    processes: [Vec<u32>; PARTS.len()],
    series: ThroughputSeries,
}

pub(crate) async fn measure(
    plan: &Plan,
    programs: &Programs,
    echo: &InstanceConfig,
    scratch: &Path,
) -> Result<Vec<ThroughputSeries>> {
    let mut upstreams = Vec::new();
    for _ in 0..plan.connections {
        upstreams.push(RoleProcess::start(["echo"]).await?);
    }
    let addresses = upstreams
        .iter()
        .map(|upstream| upstream.address().to_string());
    let proxy = RoleProcess::start(["proxy".to_owned()].into_iter().chain(addresses)).await?;
    let runtime_proxy = RoleProcess::start(["runtime-proxy"]).await?;
    let api = runtime_proxy.addresses[1];
    let processes = (0..plan.connections).map(|_| runtime_process::start(echo, api, scratch));
    let processes = processes.collect::<Result<Vec<Child>>>()?;
    let manifest = programs.manifest(Function::RustEcho.name());
    let pilotlight = Pilotlight::start(programs, &[manifest], plan.connections, scratch).await?;

    let mut entrants = [
        entrant(System::Proxy, Function::PlainServer, &proxy)?,
        entrant(System::RuntimeProxy, Function::RustEcho, &runtime_proxy)?,
        Entrant::new(System::Pilotlight, Function::RustEcho, pilotlight.address)?,
    ];
    let functions = upstreams
        .iter()
        .map(RoleProcess::pid)
        .collect::<Result<_>>()?;
    entrants[0].processes[3] = functions;
    entrants[1].processes[3] = processes.iter().filter_map(Child::id).collect();
    for entrant in &entrants {
        // This only starts the instances; its figures are not used.
        entrant
            .slice(plan, plan.throughput_slice, plan.warm_up)
            .await?;
    }
    let instances = pilotlight.instances()?;
    let [_, gateway, supervisors, functions] = &mut entrants[2].processes;
    gateway.push(pilotlight.pid);
    supervisors.extend(instances.iter().map(|instance| instance.supervisor));
    functions.extend(instances.iter().filter_map(|instance| instance.runtime));

    alternate(plan, &mut entrants).await?;
    let (count, wanted) = (pilotlight.instances()?.len(), plan.connections);
    ensure!(
        count == wanted,
        "pilotlight ran {count} instances instead of {wanted}"
    );
    pilotlight.stop().await?;
    Ok(entrants.into_iter().map(|entrant| entrant.series).collect())
}

fn entrant(system: System, function: Function, front: &RoleProcess) -> Result<Entrant> {
    let mut entrant = Entrant::new(system, function, front.address())?;
    entrant.processes[1].push(front.pid()?);
    Ok(entrant)
}

impl Entrant {
    fn new(system: System, function: Function, address: std::net::SocketAddr) -> Result<Self> {
        let call = Contestant {
            system,
            function,
            address,
        }
        .call(&invocation::payload(SMALL))?;
        let series = ThroughputSeries {
            system,
            function,
            rounds: Vec::new(),
            cpu: Default::default(),
            calls: 0.0,
        };
        let processes = [vec![std::process::id()], Vec::new(), Vec::new(), Vec::new()];
        Ok(Entrant {
            call,
            processes,
            series,
        })
    }

    async fn slice(&self, plan: &Plan, warm_up: Duration, time: Duration) -> Result<Times> {
        let load = Load::Closed {
            connections: plan.connections,
        };
        let measured = timing::measure(&self.call, load, warm_up, time).await?;
        measured.all_answered()
    }

    fn cpu(&self) -> Result<[Duration; PARTS.len()]> {
        let mut sums = [Duration::ZERO; PARTS.len()];
        for (sum, processes) in sums.iter_mut().zip(&self.processes) {
            for pid in processes {
                *sum += process_stats::cpu(*pid).context("a process has ended under load")?;
            }
        }
        Ok(sums)
    }
}

async fn alternate(plan: &Plan, entrants: &mut [Entrant]) -> Result<()> {
    let Plan {
        warm_up,
        throughput_slice: slice,
        ..
    } = *plan;
    for round in 0..plan.throughput_rounds {
        anstream::eprintln!(
            "throughput: round {} of {}",
            round + 1,
            plan.throughput_rounds
        );
        for turn in 0..entrants.len() {
            let turn = (turn + round) % entrants.len();
            let entrant = &mut entrants[turn];
            let before = entrant.cpu()?;
            let times = entrant.slice(plan, warm_up, slice).await?;
            let after = entrant.cpu()?;
            let rate = times.len() as f64 / slice.as_secs_f64();
            let series = &mut entrant.series;
            for (sum, (after, before)) in series.cpu.iter_mut().zip(after.into_iter().zip(before)) {
                *sum += after.saturating_sub(before);
            }
            // The calls of the warm-up used processor time as well.
            series.calls += rate * (warm_up + slice).as_secs_f64();
            series.rounds.push((rate, times));
        }
    }
    Ok(())
}
