//! The first process of an instance: runs one runtime process, one event at a time.
//!
//! ```text
//! gateway ── control_api ──► worker ◄── runtime_api ── runtime process
//!                              │ core's Machine decides       ▲ start, kill: process
//!                              └── log ──► stdout             └ look: memory
//! ```
//!
//! All tasks live on one thread; `worker` owns all state and is never borrowed across an await.

mod body;
mod claim;
mod connection;
mod control_api;
mod environment;
mod invocation;
mod lifecycle;
mod log;
mod memory;
mod output;
mod platform_log;
mod prestart;
mod process;
mod runtime_api;
mod worker;

use anyhow::Context;
use pilotlight_core::wire::{CONFIG_VARIABLE, UNCLAIMED_VARIABLE};
use serde::de::DeserializeOwned;

use crate::lifecycle::Purpose;

fn main() -> anyhow::Result<()> {
    let purpose = match (variable(UNCLAIMED_VARIABLE)?, variable(CONFIG_VARIABLE)?) {
        (Some(unclaimed), config) => Purpose::Wait(unclaimed, config),
        (None, Some(config)) => Purpose::Run(config),
        (None, None) => anyhow::bail!("set {CONFIG_VARIABLE} to the instance's configuration"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, lifecycle::run(purpose))
}

fn variable<T: DeserializeOwned>(name: &str) -> anyhow::Result<Option<T>> {
    let Some(text) = std::env::var_os(name) else {
        return Ok(None);
    };
    let value = serde_json::from_slice(text.as_encoded_bytes());
    let value = value.with_context(|| format!("{name} does not hold a valid configuration"))?;
    Ok(Some(value))
}
