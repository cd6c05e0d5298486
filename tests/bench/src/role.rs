//! The bench's own server processes: their start, their addresses, their end.
//!
//! A role binds port 0, prints its addresses on one line and serves until its standard input ends. So none outlives
//! the bench, however the bench ends. `echo`, `proxy` and `runtime_proxy` are
//! the roles.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, Command};

const START_LIMIT: Duration = Duration::from_secs(10);

/// A role's process; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct RoleProcess {
    child: Child,
    _lifeline: ChildStdin,
    pub(crate) addresses: Vec<SocketAddr>,
}

impl RoleProcess {
    pub(crate) async fn start(
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments.into_iter().map(Into::into))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the bench cannot start itself")?;
        let lifeline = child
            .stdin
            .take()
            .context("a role without standard input")?;
        let stdout = child
            .stdout
            .take()
            .context("a role without standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(START_LIMIT, lines.next_line()).await;
        let line = line.context("a role did not listen in time")??;
        let line = line.ok_or_else(|| anyhow!("a role ended before it listened"))?;
        let addresses = line.split(' ').map(str::parse).collect::<Result<_, _>>();
        let addresses = addresses.with_context(|| format!("a role said {line:?}"))?;
        Ok(RoleProcess {
            child,
            _lifeline: lifeline,
            addresses,
        })
    }

    /// The address for calls.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.id().context("a role has ended")
    }
}

/// A free port of this machine.
pub(crate) async fn listen() -> Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .context("no free port")
}

/// Prints the role's addresses for the parent, and ends the process when the parent ends.
pub(crate) fn announce(listeners: &[&TcpListener]) -> Result<()> {
    let addresses = listeners
        .iter()
        .map(|listener| listener.local_addr().map(|a| a.to_string()));
    let addresses = addresses.collect::<io::Result<Vec<_>>>()?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", addresses.join(" "))?;
    out.flush()?;
    std::thread::spawn(|| {
        // Either way the parent is gone.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::exit(0);
    });
    Ok(())
}
