//! The program. It reads its configuration from environment variables and runs the instance on one thread.

use anyhow::Context;
use pilotlight_supervisor::{Neighbours, Purpose, Variables, hardening, health};
use pilotlight_wire::config::{
    CONFIG_VARIABLE, GATEWAYS_VARIABLE, HEALTH_VARIABLE, IDENTITY_VARIABLE, UNCLAIMED_VARIABLE,
};
use serde::de::DeserializeOwned;

#[allow(unsafe_code)]
fn main() -> anyhow::Result<()> {
    // SAFETY: the first statement of the only thread.
    let mut variables = unsafe { hardening::enter() }?;
    let unclaimed = take(&mut variables, UNCLAIMED_VARIABLE)?;
    let config = take(&mut variables, CONFIG_VARIABLE)?;
    let purpose = match (unclaimed, config) {
        (Some(unclaimed), config) => Purpose::WaitForClaim(unclaimed, config),
        (None, Some(config)) => Purpose::Run(config),
        (None, None) => anyhow::bail!("set {CONFIG_VARIABLE} to the instance's configuration"),
    };
    let neighbours = Neighbours {
        gateways: take(&mut variables, GATEWAYS_VARIABLE)?,
        identity: take(&mut variables, IDENTITY_VARIABLE)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let probes = variables.take(HEALTH_VARIABLE);
    let run = async {
        if let Some(address) = probes {
            health::listen(&address.to_string_lossy()).await?;
        }
        pilotlight_supervisor::run(purpose, neighbours, variables).await
    };
    tokio::task::LocalSet::new().block_on(&runtime, run)
}

fn take<T: DeserializeOwned>(variables: &mut Variables, name: &str) -> anyhow::Result<Option<T>> {
    let Some(text) = variables.take(name) else {
        return Ok(None);
    };
    let value = serde_json::from_slice(text.as_encoded_bytes());
    let value = value.with_context(|| format!("{name} does not hold a valid configuration"))?;
    Ok(Some(value))
}
