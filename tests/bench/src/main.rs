//! `make show-bench`: what Pilotlight costs, compared with bare proxies on the same machine.
//!
//! ```text
//! main ─► bench ─► latency, throughput ─► tests/load ─► echo | proxy | runtime_proxy | pilotlight
//!           │  └─► footprint ─► process_stats
//!           │  └─► cold_start ─► runtime_api ◄─ runtime_process
//!           └─► results ─► report (table) and plot
//! ```
//!
//! Owns the arguments. The servers that Pilotlight is compared with are this same program, each with a hidden
//! subcommand; `role` starts them. Figures are reported, never asserted.

mod bench;
mod cold_start;
mod echo;
mod footprint;
mod http_server;
mod latency;
mod machine;
mod pilotlight;
mod plan;
mod plot;
mod process_stats;
mod proxy;
mod report;
mod results;
mod role;
mod runtime_api;
mod runtime_process;
mod runtime_proxy;
mod stage;
mod table;
mod throughput;

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::plan::Plan;

/// More than twice the time that a full run takes.
const RUN_LIMIT: Duration = Duration::from_secs(600);

/// Compare Pilotlight with bare proxies, and write docs/benchmarks.md and docs/benchmarks.svg.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    /// A short run whose figures only show that the bench works; it leaves docs/ alone.
    #[arg(long)]
    quick: bool,
    /// Where benchmarks.md and benchmarks.svg go [default: docs, target/bench with --quick].
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(subcommand)]
    role: Option<Role>,
}

/// The processes of the bench.
#[derive(Debug, Subcommand)]
enum Role {
    #[command(hide = true)]
    Echo,
    #[command(hide = true)]
    Proxy {
        #[arg(required = true)]
        upstreams: Vec<SocketAddr>,
    },
    #[command(hide = true)]
    RuntimeProxy,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.role {
        Some(Role::Echo) => echo::run(),
        Some(Role::Proxy { upstreams }) => proxy::run(&upstreams),
        Some(Role::RuntimeProxy) => runtime_proxy::run(),
        None => single_threaded(measure(args.quick, args.output)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One thread, so that the client leaves the other core to the measured processes.
fn single_threaded(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.context("no runtime")?.block_on(work)
}

async fn measure(quick: bool, output: Option<PathBuf>) -> Result<()> {
    if cfg!(debug_assertions) {
        bail!("an unoptimised client measures itself: run `make show-bench`");
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let repository = repository
        .canonicalize()
        .context("the repository this was built in")?;
    let default = if quick { "target/bench" } else { "docs" };
    let output = output.unwrap_or_else(|| repository.join(default));
    let plan = if quick { Plan::quick() } else { Plan::full() };

    // Dropping the handles ends the processes.
    let results = tokio::select! {
        results = bench::run(&plan, &repository) => results?,
        interrupted = interruption() => { interrupted?; bail!("interrupted") }
        () = tokio::time::sleep(RUN_LIMIT) => bail!("not done within {} s", RUN_LIMIT.as_secs()),
    };
    let report = report::render(&results, &plan)?;
    write!(anstream::stdout().lock(), "{report}")?;
    fs::create_dir_all(&output).with_context(|| output.display().to_string())?;
    write_file(&output.join("benchmarks.md"), &report)?;
    write_file(&output.join("benchmarks.svg"), &plot::render(&results)?)
}

/// A signal that asks for the end. The children have process groups of their own, so a terminal's
/// signals reach this process alone.
async fn interruption() -> io::Result<()> {
    let (mut interrupt, mut terminate, mut hangup) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    );
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())?;
    anstream::eprintln!("wrote {}", path.display());
    Ok(())
}
