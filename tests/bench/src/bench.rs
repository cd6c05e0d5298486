//! One run: starts the systems that are compared, measures them in turns, and ends everything.
//!
//! First latency, with one instance of each function and all servers running; then their idle footprint,
//! throughput with many instances, and cold starts. Idle servers do nothing, so each measurement has the machine
//! for itself.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pilotlight_load::{invocation, timing};
use pilotlight_wire::config::InstanceConfig;
use tokio::process::Command;

use crate::machine::Machine;
use crate::pilotlight::{Pilotlight, Programs};
use crate::plan::Plan;
use crate::results::{Footprint, LatencySeries, Results};
use crate::role::RoleProcess;
use crate::stage::{Contestant, Function, System};
use crate::{cold_start, footprint, latency, runtime_process, throughput};

const FUNCTIONS: [Function; 2] = [Function::RustEcho, Function::Hello];
/// The most instances of a function while one connection calls it. Starting a second one would be visible.
const LATENCY_CONCURRENCY: usize = 10;

/// The handler alone, called in a loop: its time is part of what the client sees.
const TIME_HANDLER: &str = "\
import timeit
from lambda_function import lambda_handler
rounds, event = 100_000, {'name': 'Ada', 'data': 'x' * 64}
print(timeit.timeit(lambda: lambda_handler(event, None), number=rounds) / rounds)";

struct Warm {
    latency: Vec<LatencySeries>,
    footprints: Vec<Footprint>,
    others: f64,
    /// How Pilotlight runs the functions.
    configs: Vec<(Function, InstanceConfig)>,
    instances: usize,
}

pub(crate) async fn run(plan: &Plan, repository: &Path) -> Result<Results> {
    let programs = Programs::find(repository)?;
    let machine = Machine::read()?;
    let scratch = tempfile::Builder::new()
        .prefix("pilotlight-bench-")
        .tempdir()?;
    let scratch = scratch.path();

    let Warm {
        others,
        latency,
        footprints,
        configs,
        instances,
    } = warm(plan, &programs, scratch).await?;
    let config = |wanted| {
        let found = configs.iter().find(|(function, _)| *function == wanted);
        found
            .map(|(_, config)| config)
            .context("a function without an instance")
    };
    let echo = config(Function::RustEcho)?;
    let hello_handler = time_handler(config(Function::Hello)?).await?;
    let throughput = throughput::measure(plan, &programs, echo, scratch).await?;
    let cold_starts = cold_start::measure(plan, &programs, &configs, scratch).await?;
    Ok(Results {
        others,
        machine,
        latency,
        throughput,
        footprints,
        cold_starts,
        hello_handler,
        instances,
    })
}

async fn warm(plan: &Plan, programs: &Programs, scratch: &Path) -> Result<Warm> {
    let manifests = FUNCTIONS.map(|function| programs.manifest(function.name()));
    anstream::eprintln!("starting pilotlight; its first start on a machine downloads awslambdaric");
    let pilotlight = Pilotlight::start(programs, &manifests, LATENCY_CONCURRENCY, scratch).await?;
    let direct = RoleProcess::start(["echo"]).await?;
    let upstream = direct.address().to_string();
    let proxy = RoleProcess::start(["proxy", &upstream]).await?;
    let mut contestants = vec![
        (System::Direct, Function::PlainServer, direct.address()),
        (System::Proxy, Function::PlainServer, proxy.address()),
    ];
    let mut configs = Vec::new();
    let mut processes = Vec::new();
    for function in FUNCTIONS {
        let (system, address) = (System::Pilotlight, pilotlight.address);
        let call = Contestant {
            system,
            function,
            address,
        }
        .call(&invocation::payload(latency::SMALL))?;
        timing::one(&call).await?;
        let config = pilotlight.instance(function.name())?.config;
        let bare = RoleProcess::start(["runtime-proxy"]).await?;
        let process = runtime_process::start(&config, bare.addresses[1], scratch)?;
        contestants.push((System::RuntimeProxy, function, bare.address()));
        contestants.push((system, function, address));
        processes.push((bare, process));
        configs.push((function, config));
    }
    let contestants = contestants
        .into_iter()
        .map(|(system, function, address)| Contestant {
            system,
            function,
            address,
        });
    let contestants: Vec<_> = contestants.collect();
    let watched = footprint::watch(&pilotlight, &FUNCTIONS)?;
    let latency = latency::measure(plan, &contestants).await?;
    let (footprints, others) = footprint::measure(plan, watched).await?;
    let instances = pilotlight.instances()?.len();
    pilotlight.stop().await?;
    Ok(Warm {
        others,
        latency,
        footprints,
        configs,
        instances,
    })
}

async fn time_handler(hello: &InstanceConfig) -> Result<Duration> {
    let python = hello
        .command
        .first()
        .context("a Python function's command")?;
    let mut command = Command::new(python);
    command
        .args(["-c", TIME_HANDLER])
        .env_clear()
        .envs(&hello.environment);
    command.current_dir(&hello.task_root).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(30), command.output()).await;
    let output = output.context("the handler takes too long")??;
    let said = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "the handler cannot be timed: {wrong}"
    );
    Ok(Duration::from_secs_f64(
        said.trim().parse().context("the handler's time")?,
    ))
}
