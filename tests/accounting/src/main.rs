//! The command line: a load, a handlers' journal, and the check of what both have written.

mod file;
mod journal;
mod load;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use pilotlight_accounting::account::{Account, Patience};

#[derive(Debug, Parser)]
#[command(version, about)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Call functions, and write down what is sent and what is told
    Load(load::Args),
    /// Write down what handlers do
    Journal(journal::Args),
    /// Compare all *.jsonl of a folder; fails if a rule is broken
    Check {
        folder: PathBuf,
        /// Violations that are shown.
        #[arg(long, default_value_t = 20)]
        show: usize,
        /// Seconds that a function may have more instances than its limit: those on their way out.
        #[arg(long, default_value_t = 20)]
        grace: u64,
        /// Seconds in which a gateway may not have heard of a function's newest revision.
        #[arg(long, default_value_t = 5)]
        lag: u64,
    },
}

fn main() -> Result<ExitCode> {
    match Options::parse().command {
        Command::Load(args) => block_on(load::run(args))?,
        Command::Journal(args) => block_on(journal::run(args))?,
        Command::Check {
            folder,
            show,
            grace,
            lag,
        } => {
            let patience = Patience {
                instances: grace * 1_000_000,
                revisions: lag * 1_000_000,
            };
            return check(&folder, show, patience);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn block_on(task: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(task)
}

fn check(folder: &std::path::Path, show: usize, patience: Patience) -> Result<ExitCode> {
    let mut account = Account::with(patience);
    for record in file::read(folder)? {
        account.add(record);
    }
    let verdict = account.verdict();
    let counts = |of: &std::collections::BTreeMap<String, usize>| {
        let all: Vec<String> = of
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        all.join(", ")
    };
    anstream::println!("{} sent, {} executed", verdict.sent, verdict.executed);
    anstream::println!("told: {}", counts(&verdict.outcomes));
    anstream::println!("most instances: {}", counts(&verdict.instances));
    for violation in verdict.violations.iter().take(show) {
        anstream::println!("{violation}");
    }
    anstream::println!("{} rules broken", verdict.violations.len());
    Ok(match verdict.violations.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
