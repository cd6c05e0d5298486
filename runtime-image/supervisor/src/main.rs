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
mod control_api;
mod environment;
mod invocation;
mod lifecycle;
mod log;
mod memory;
mod output;
mod platform_log;
mod process;
mod runtime_api;
mod worker;

use anyhow::Context;
use pilotlight_core::wire::{CONFIG_VARIABLE, InstanceConfig};

fn main() -> anyhow::Result<()> {
    let text = std::env::var(CONFIG_VARIABLE)
        .with_context(|| format!("set {CONFIG_VARIABLE} to the instance's configuration"))?;
    let mut config: InstanceConfig = serde_json::from_str(&text)
        .with_context(|| format!("{CONFIG_VARIABLE} does not hold a valid configuration"))?;
    anyhow::ensure!(
        !config.command.is_empty(),
        "{CONFIG_VARIABLE}: `command` is empty"
    );
    config.environment = environment::complete(config.environment, std::env::vars_os());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, lifecycle::run(config))
}
