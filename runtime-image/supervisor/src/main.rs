//! The program. It reads its configuration from environment variables and runs the instance on one thread.

use anyhow::Context;
use pilotlight_supervisor::Purpose;
use pilotlight_wire::config::{CONFIG_VARIABLE, GATEWAYS_VARIABLE, UNCLAIMED_VARIABLE};
use serde::de::DeserializeOwned;

fn main() -> anyhow::Result<()> {
    let purpose = match (variable(UNCLAIMED_VARIABLE)?, variable(CONFIG_VARIABLE)?) {
        (Some(unclaimed), config) => Purpose::WaitForClaim(unclaimed, config),
        (None, Some(config)) => Purpose::Run(config),
        (None, None) => anyhow::bail!("set {CONFIG_VARIABLE} to the instance's configuration"),
    };
    let gateways = variable(GATEWAYS_VARIABLE)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, pilotlight_supervisor::run(purpose, gateways))
}

fn variable<T: DeserializeOwned>(name: &str) -> anyhow::Result<Option<T>> {
    let Some(text) = std::env::var_os(name) else {
        return Ok(None);
    };
    let value = serde_json::from_slice(text.as_encoded_bytes());
    let value = value.with_context(|| format!("{name} does not hold a valid configuration"))?;
    Ok(Some(value))
}
