//! A function's runtime process as Pilotlight starts it, under a Runtime API of the bench.
//!
//! Command, directory and environment are those of a running instance (`pilotlight` reads its configuration), so
//! both sides of a comparison run exactly the same process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};
use pilotlight_wire::config::InstanceConfig;
use tokio::process::{Child, Command};

/// Starts one; it is killed when the handle is dropped.
pub(crate) fn start(config: &InstanceConfig, api: SocketAddr, scratch: &Path) -> Result<Child> {
    let (program, arguments) = config
        .command
        .split_first()
        .context("an instance's command")?;
    Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(&config.environment)
        .env("AWS_LAMBDA_RUNTIME_API", api.to_string())
        // The instance's own directory was removed with it.
        .env("TMPDIR", scratch)
        .current_dir(&config.task_root)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("the runtime process {program} cannot be started"))
}
