//! A `pilotlight local` of the bench: started, asked for its instances, stopped.
//!
//! Its output goes to a file instead of a terminal, since reading it here would take time from the
//! client. Instances are found in `/proc`: a supervisor is a child that carries an instance's
//! configuration, and its runtime process is its child.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use pilotlight_wire::config::{CONFIG_VARIABLE, InstanceConfig};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::process_stats;

/// The first start on a machine downloads the Python client.
const START_LIMIT: Duration = Duration::from_secs(120);
const END_LIMIT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(5);

/// The programs and functions that are measured; all are built before.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pilotlight: PathBuf,
    examples: PathBuf,
}

impl Programs {
    /// # Errors
    /// If one is missing; the error says which command builds it.
    pub(crate) fn find(repository: &Path) -> Result<Self> {
        let beside = std::env::current_exe()?;
        let examples = repository.join("examples");
        let needed = [
            (beside.with_file_name("pilotlight"), "make build"),
            (beside.with_file_name("pilotlight-supervisor"), "make build"),
            (examples.join("rust-echo/build/bootstrap"), "make examples"),
        ];
        for (path, command) in &needed {
            ensure!(
                path.is_file(),
                "{} is missing: run `{command}`",
                path.display()
            );
        }
        let [(pilotlight, _), ..] = needed;
        Ok(Programs {
            pilotlight,
            examples,
        })
    }

    pub(crate) fn manifest(&self, function: &str) -> PathBuf {
        self.examples.join(function).join("function.yaml")
    }

    /// Copies an example's manifest with a keep-alive of zero: each call is a cold start.
    pub(crate) fn cold_manifest(&self, function: &str, directory: &Path) -> Result<PathBuf> {
        let original = self.manifest(function);
        let text = fs::read_to_string(&original).with_context(|| original.display().to_string())?;
        let read = pilotlight_api::read(&original, &text);
        let mut manifests = match read {
            Ok(manifests) => manifests,
            Err(errors) => bail!(
                "{}",
                errors.iter().map(|e| format!("{e}\n")).collect::<String>()
            ),
        };
        let manifest = manifests
            .pop()
            .with_context(|| original.display().to_string())?;
        let mut value = serde_json::to_value(manifest.function)?;
        value["spec"]["keepAlive"] = 0.into();
        if let Some(path) = value["spec"]["code"]["path"].as_str() {
            let absolute = original.with_file_name("").join(path);
            value["spec"]["code"]["path"] = absolute.display().to_string().into();
        }
        // JSON is YAML.
        let copy = directory.join(format!("{function}.yaml"));
        fs::write(&copy, serde_json::to_vec_pretty(&value)?)?;
        Ok(copy)
    }
}

/// A running server. Killed when dropped; its supervisors end with it.
#[derive(Debug)]
pub(crate) struct Pilotlight {
    child: Child,
    pub(crate) pid: u32,
    pub(crate) address: SocketAddr,
}

/// A warm instance.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) supervisor: u32,
    /// The runtime process; absent while it starts.
    pub(crate) runtime: Option<u32>,
    pub(crate) config: InstanceConfig,
}

impl Pilotlight {
    pub(crate) async fn start(
        programs: &Programs,
        manifests: &[PathBuf],
        concurrency: usize,
        scratch: &Path,
    ) -> Result<Self> {
        let output = tempfile::Builder::new()
            .prefix("pilotlight-")
            .tempfile_in(scratch)?;
        let (file, output) = output.keep()?;
        let mut child = Command::new(&programs.pilotlight)
            .args([
                "local",
                "--listen",
                "127.0.0.1:0",
                "--concurrency",
                &concurrency.to_string(),
            ])
            .args(manifests)
            // Its directories are in the bench's own, so they are removed even if it is killed.
            .env("TMPDIR", scratch)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(File::try_clone(&file)?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| programs.pilotlight.display().to_string())?;
        let pid = child.id().context("pilotlight ended at once")?;
        let deadline = Instant::now() + START_LIMIT;
        while Instant::now() < deadline {
            let said = fs::read_to_string(&output)?;
            if let Some(address) = ready(&said) {
                return Ok(Pilotlight {
                    child,
                    pid,
                    address,
                });
            }
            if let Some(status) = child.try_wait()? {
                bail!("pilotlight local ended before it was ready ({status}):\n{said}");
            }
            tokio::time::sleep(POLL).await;
        }
        bail!(
            "pilotlight local was not ready within {} s",
            START_LIMIT.as_secs()
        )
    }

    /// The instances that live now.
    pub(crate) fn instances(&self) -> Result<Vec<Instance>> {
        let mut instances = Vec::new();
        for supervisor in process_stats::children(self.pid)? {
            // The process may be ending, or not be a supervisor yet.
            let Some(config) = configuration(supervisor) else {
                continue;
            };
            let runtime = process_stats::children(supervisor)?.pop();
            instances.push(Instance {
                supervisor,
                runtime,
                config,
            });
        }
        Ok(instances)
    }

    /// The warm instance of a function.
    pub(crate) fn instance(&self, function: &str) -> Result<Instance> {
        let mut instances = self.instances()?;
        instances.retain(|instance| instance.config.function.as_str() == function);
        instances
            .pop()
            .with_context(|| format!("pilotlight has no instance of {function}"))
    }

    /// Waits until no instance is left.
    pub(crate) async fn until_cold(&self) -> Result<()> {
        let deadline = Instant::now() + END_LIMIT;
        while !process_stats::children(self.pid)?.is_empty() {
            ensure!(
                Instant::now() < deadline,
                "an instance outlives its keep-alive of zero"
            );
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Interrupts it as a user would, and waits for its end.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.pid)
            .ok()
            .and_then(Pid::from_raw)
            .context("a process id")?;
        kill_process(pid, Signal::INT).context("pilotlight local has ended by itself")?;
        let status = tokio::time::timeout(END_LIMIT, self.child.wait()).await;
        let status = status.context("pilotlight local does not end")??;
        ensure!(status.success(), "pilotlight local ended with {status}");
        Ok(())
    }
}

/// The address in `ready: http://127.0.0.1:7070 (2 functions)`.
fn ready(said: &str) -> Option<SocketAddr> {
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("ready: http://"))?;
    line.split(' ').next()?.parse().ok()
}

fn configuration(pid: u32) -> Option<InstanceConfig> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = environment.split(|byte| *byte == 0).find_map(|entry| {
        entry
            .strip_prefix(CONFIG_VARIABLE.as_bytes())?
            .strip_prefix(b"=")
    });
    serde_json::from_slice(value?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_ready_line() {
        let said = "python3.11: installing\nready: http://127.0.0.1:4711 (1 function)\n  hello\n";
        assert_eq!(ready(said), "127.0.0.1:4711".parse().ok());
        assert_eq!(ready("ready: http://127.0.0"), None);
    }
}
