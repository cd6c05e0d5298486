//! The command line: a load with an account, timed calls, the journal of the handlers, and the check.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use pilotlight_load::account::{Account, EventCounts, GraceTimes};
use pilotlight_load::journal::JournalGone;
use pilotlight_load::{accounted, journal, records, timing};

/// Exit code if the harness failed, so that the run says nothing about the platform. 1 is a broken rule or another
/// error.
const HARNESS_FAILED: u8 = 3;

/// Exits with 1 for an error or a broken rule, with 3 if the harness itself failed, as without its journal.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Call functions, and record what is sent and answered
    Load(accounted::Args),
    /// Time calls of one path
    Time(timing::Args),
    /// Record what handlers do
    Journal(journal::Args),
    /// Judge the records in all *.jsonl of a folder
    Check(CheckArgs),
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    folder: PathBuf,
    /// Violations that are printed
    #[arg(long, default_value_t = 20)]
    show: usize,
    /// Seconds for which a function may have more instances than its limit, while some are stopping
    #[arg(long, default_value_t = 20)]
    grace: u64,
    /// Seconds after which every gateway must know a function's newest revision
    #[arg(long, default_value_t = 5)]
    lag: u64,
    /// Also write what became of the events, as JSON, to this file
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match Options::parse().command {
        Command::Load(args) => block_on(accounted::run(args)),
        Command::Time(args) => block_on(timing::run(args)),
        Command::Journal(args) => block_on(journal::run(args)),
        Command::Check(args) => check(&args),
    };
    done.unwrap_or_else(|error| {
        anstream::eprintln!("error: {error:#}");
        match error.is::<JournalGone>() {
            true => ExitCode::from(HARNESS_FAILED),
            false => ExitCode::FAILURE,
        }
    })
}

/// Runs the task on one thread and leaves the other processors to the called program.
fn block_on(task: impl Future<Output = Result<()>>) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(task)?;
    Ok(ExitCode::SUCCESS)
}

fn check(args: &CheckArgs) -> Result<ExitCode> {
    let verdict = judge(&args.folder, args)?;
    if let Some(reason) = verdict.aborted {
        anstream::eprintln!("error: the run was aborted and proves nothing: {reason}");
        return Ok(ExitCode::from(HARNESS_FAILED));
    }
    anstream::println!("{} sent, {} executed", verdict.sent, verdict.executed);
    anstream::println!("told: {}", listed(&verdict.outcomes));
    if !verdict.instances.is_empty() {
        anstream::println!("most instances: {}", listed(&verdict.instances));
    }
    if let Some(events) = &verdict.events {
        anstream::println!("{}", shown(events));
        if let Some(file) = &args.events {
            std::fs::write(file, figures(events).to_string())?;
        }
    }
    for violation in verdict.violations.iter().take(args.show) {
        anstream::println!("{violation}");
    }
    anstream::println!("{} rules broken", verdict.violations.len());
    Ok(match verdict.violations.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn milliseconds(events: &EventCounts, share: f64) -> f64 {
    events.to_begin_at(share).unwrap_or(0) as f64 / 1000.0
}

fn shown(events: &EventCounts) -> String {
    let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| milliseconds(events, share));
    format!(
        "events: {} accepted, {} executions, {} of them redelivered and {} beside an earlier one; {} dead letters replayed; \
         {} refused, {} of which ran all the same\n\
         from 202 to the begin of the handler: p50 {p50:.1} ms, p90 {p90:.1} ms, p99 {p99:.1} ms",
        events.accepted,
        events.executions,
        events.redelivered,
        events.at_once,
        events.replayed,
        events.refused,
        events.refused_and_executed,
    )
}

fn figures(events: &EventCounts) -> serde_json::Value {
    serde_json::json!({
        "accepted": events.accepted,
        "executions": events.executions,
        "redelivered": events.redelivered,
        "at_once": events.at_once,
        "replayed": events.replayed,
        "refused": events.refused,
        "refused_and_executed": events.refused_and_executed,
        "p50": milliseconds(events, 0.5),
        "p90": milliseconds(events, 0.9),
        "p99": milliseconds(events, 0.99),
    })
}

fn judge(folder: &Path, args: &CheckArgs) -> Result<pilotlight_load::account::Verdict> {
    let mut account = Account::with(GraceTimes {
        instances: args.grace * 1_000_000,
        revisions: args.lag * 1_000_000,
    });
    for record in records::read(folder)? {
        account.add(record);
    }
    Ok(account.verdict())
}

fn listed(counts: &BTreeMap<String, usize>) -> String {
    let counts = counts.iter().map(|(name, count)| format!("{name} {count}"));
    counts.collect::<Vec<_>>().join(", ")
}
