//! Cold starts: the first call of a function without an instance, compared with the bare process.
//!
//! Bare: from the start of the runtime process to its first `next`, under the bench's Runtime API. Pilotlight: the
//! time of a call, as the client sees it, while no instance lives, over an open connection. The two are measured
//! in turns; the first turn fills the page cache and does not count.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hyper::service::service_fn;
use pilotlight_load::{invocation, timing};
use pilotlight_wire::config::InstanceConfig;

use crate::latency::SMALL;
use crate::pilotlight::{Pilotlight, Programs};
use crate::plan::Plan;
use crate::results::ColdStarts;
use crate::runtime_api::RuntimeApi;
use crate::stage::{Contestant, Function, System};
use crate::{http_server, role, runtime_process};

const START_LIMIT: Duration = Duration::from_secs(15);
/// The time in which the gateway notices an instance's end.
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) async fn measure(
    plan: &Plan,
    programs: &Programs,
    functions: &[(Function, InstanceConfig)],
    scratch: &Path,
) -> Result<Vec<ColdStarts>> {
    let manifests = functions
        .iter()
        .map(|(function, _)| programs.cold_manifest(function.name(), scratch));
    let manifests = manifests.collect::<Result<Vec<_>>>()?;
    let pilotlight = Pilotlight::start(programs, &manifests, 1, scratch).await?;
    let mut results: Vec<_> = functions
        .iter()
        .map(|(function, _)| ColdStarts::new(*function))
        .collect();
    for round in 0..=plan.cold_starts {
        anstream::eprintln!("cold starts: round {round} of {}", plan.cold_starts);
        for ((function, config), result) in functions.iter().zip(&mut results) {
            let bare = bare(config, scratch).await?;
            let through = through(&pilotlight, *function).await?;
            if round > 0 {
                result.bare.push(bare);
                result.pilotlight.push(through);
            }
        }
    }
    pilotlight.stop().await?;
    Ok(results)
}

async fn bare(config: &InstanceConfig, scratch: &Path) -> Result<Duration> {
    let listener = role::listen().await?;
    let address = listener.local_addr()?;
    let api = Arc::new(RuntimeApi::default());
    let service = service_fn({
        let api = api.clone();
        move |request| api.clone().answer(request)
    });
    let server = tokio::spawn(http_server::serve(listener, service));
    let started = Instant::now();
    let mut process = runtime_process::start(config, address, scratch)?;
    let asked = tokio::select! {
        () = api.asked() => Ok(started.elapsed()),
        ended = process.wait() => bail!("{} ended: {}", config.function, ended?),
        () = tokio::time::sleep(START_LIMIT) => bail!("{} asks for no event", config.function),
    };
    process
        .kill()
        .await
        .context("a runtime process cannot be killed")?;
    server.abort();
    asked
}

async fn through(pilotlight: &Pilotlight, function: Function) -> Result<Duration> {
    pilotlight.until_cold().await?;
    tokio::time::sleep(PAUSE).await;
    let system = System::Pilotlight;
    let contestant = Contestant {
        system,
        function,
        address: pilotlight.address,
    };
    let call = contestant.call(&invocation::payload(SMALL))?;
    timing::one(&call).await
}
