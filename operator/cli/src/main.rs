//! `pilotlight`: the command line.
//!
//! Owns the subcommands' names, the exit code and the program's own log. Each subcommand's module
//! has its `Args`, which alone read the environment. No decision about functions is taken here:
//! those are in `pilotlight-core` and `pilotlight-gateway`.
//!
//! ```text
//! local:         manifests ─► prepare ─► gateway ─► instances;  watch ─► again
//! package:       manifests ─► prepare ─► an archive of each function
//! invoke, events, schedules, logs, top: endpoint ─► HTTP ─► a gateway
//! access-key:    kubeconfig ─► the Secrets of access keys (feature `cluster`)
//! gateway, controller, crd: the parts of a cluster (feature `cluster`)
//! ```

#[cfg(feature = "cluster")]
mod access_key;
#[cfg(feature = "cluster")]
mod controller;
#[cfg(feature = "cluster")]
mod crd;
mod endpoint;
#[cfg(feature = "cluster")]
mod event_queue;
mod events;
mod exit;
#[cfg(feature = "cluster")]
mod function_pods;
#[cfg(feature = "cluster")]
mod gateway;
mod invoke;
mod local;
mod log_export;
mod log_folder;
#[cfg(feature = "cluster")]
mod log_store;
mod logs;
mod memory;
mod package;
#[cfg(feature = "cluster")]
mod parts_identity;
#[cfg(feature = "cluster")]
mod reach;
mod schedules;
mod terminal;
mod top;
mod traces;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pilotlight_gateway::{ACCESS_TARGET, AUDIT_TARGET, SPAN_TARGET};
use tracing_subscriber::EnvFilter;

use self::exit::Exit;

/// Runs functions with the Lambda programming model.
#[derive(Debug, Parser)]
#[command(name = "pilotlight", version, propagate_version = true)]
struct Cli {
    /// The level of the program's own log on standard error: error, warn, info, debug, trace.
    #[arg(
        long,
        global = true,
        env = "PILOTLIGHT_LOG",
        default_value = "warn",
        value_name = "LEVEL"
    )]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Local(local::Args),
    #[cfg(feature = "cluster")]
    AccessKey(access_key::Args),
    #[cfg(feature = "cluster")]
    Controller(controller::Args),
    #[cfg(feature = "cluster")]
    Crd(crd::Args),
    #[cfg(feature = "cluster")]
    Gateway(gateway::Args),
    Events(events::Args),
    Invoke(invoke::Args),
    Logs(logs::Args),
    Package(package::Args),
    Schedules(schedules::Args),
    Top(top::Args),
}

impl Command {
    fn has_access_log(&self) -> bool {
        match self {
            Command::Local(args) => args.access_log,
            #[cfg(feature = "cluster")]
            Command::Gateway(args) => args.access_log,
            _ => false,
        }
    }

    fn audits_all(&self) -> bool {
        match self {
            #[cfg(feature = "cluster")]
            Command::Gateway(args) => args.audit_all,
            _ => false,
        }
    }

    /// What is written of a level. A line of the access log is within the span of its call.
    fn filter(&self, level: &str) -> String {
        let access = match self.has_access_log() {
            true => format!("{ACCESS_TARGET}=info,{SPAN_TARGET}=debug"),
            false => format!("{ACCESS_TARGET}=off"),
        };
        // Refused calls are warnings.
        let audit = match self.audits_all() {
            true => "info",
            false => "warn",
        };
        format!("{level},{access},{AUDIT_TARGET}={audit}")
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(cli.command.filter(&cli.log)))
        // Logs of pods are for programs, too.
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let exit = match cli.command {
        Command::Local(args) => local::run(args),
        #[cfg(feature = "cluster")]
        Command::AccessKey(args) => access_key::run(args),
        #[cfg(feature = "cluster")]
        Command::Controller(args) => controller::run(args),
        #[cfg(feature = "cluster")]
        Command::Crd(args) => crd::run(&args),
        #[cfg(feature = "cluster")]
        Command::Gateway(args) => gateway::run(args),
        Command::Events(args) => events::run(&args),
        Command::Invoke(args) => invoke::run(&args),
        Command::Logs(args) => logs::run(&args),
        Command::Package(args) => package::run(args),
        Command::Schedules(args) => schedules::run(&args),
        Command::Top(args) => top::run(&args),
    };
    let exit = exit.unwrap_or_else(|error| {
        anstream::eprintln!("error: {error:#}");
        Exit::Refused
    });
    ExitCode::from(exit as u8)
}
