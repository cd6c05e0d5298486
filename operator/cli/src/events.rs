//! `pilotlight events`: the events of a function's asynchronous calls that have not ended or have failed, their replay and
//! their removal.
//!
//! Asks a gateway (`wire::events`). Never reads the queue itself.

use anyhow::{Context, Result};
use clap::Subcommand;
use jiff::{SignedDuration, Timestamp, Unit};
use pilotlight_wire::events::{EventsPurged, EventsReplayed, EventsSummary};
use serde::de::DeserializeOwned;
use ureq::Body;
use ureq::http::Response;

use crate::endpoint::{self, Endpoint, Gateway};
use crate::exit::Exit;

/// Show how many events of asynchronous calls wait for a function, and how many have failed.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<EventsCommand>,
    #[command(flatten)]
    show: Show,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// Name of the function.
    #[arg(required = true)]
    name: Option<String>,
    #[command(flatten)]
    endpoint: Endpoint,
}

#[derive(Debug, Subcommand)]
enum EventsCommand {
    Replay(Replay),
    Purge(Purge),
}

/// Try all events again that have failed for good, as if they had just been accepted.
#[derive(Debug, clap::Args)]
struct Replay {
    /// Name of the function.
    name: String,
    #[command(flatten)]
    endpoint: Endpoint,
}

/// Remove the events that wait. Those that are under way go on, and are not tried again.
#[derive(Debug, clap::Args)]
struct Purge {
    /// Name of the function.
    name: String,
    /// Remove those that have failed for good instead.
    #[arg(long)]
    dead: bool,
    #[command(flatten)]
    endpoint: Endpoint,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    match &args.command {
        Some(EventsCommand::Replay(replay)) => {
            let gateway = replay.endpoint.open()?;
            let answer = gateway.post(&format!("{}/replay", path(&replay.name)))?;
            let answer = answer.send_empty();
            let EventsReplayed { replayed } = read(&gateway, &replay.name, answer)?;
            anstream::println!("{replayed} events are tried again");
        }
        Some(EventsCommand::Purge(purge)) => {
            let gateway = purge.endpoint.open()?;
            let path = match purge.dead {
                true => format!("{}/dead", path(&purge.name)),
                false => path(&purge.name),
            };
            let answer = gateway.delete(&path)?.call();
            let EventsPurged { purged } = read(&gateway, &purge.name, answer)?;
            anstream::println!("{purged} events removed");
        }
        None => {
            let name = args.show.name.as_deref().unwrap_or_default();
            let gateway = args.show.endpoint.open()?;
            let answer = gateway.get(&path(name))?.call();
            let summary = read(&gateway, name, answer)?;
            anstream::println!("{}", shown(&summary, Timestamp::now()));
        }
    }
    Ok(Exit::Success)
}

fn path(name: &str) -> String {
    format!("/pilotlight/v1/functions/{}/events", endpoint::encode(name))
}

fn read<T: DeserializeOwned>(
    gateway: &Gateway,
    name: &str,
    answer: Result<Response<Body>, ureq::Error>,
) -> Result<T> {
    let answer = answer.map_err(|error| gateway.unanswered(error))?;
    if !answer.status().is_success() {
        return Err(endpoint::refusal(name, answer)?);
    }
    let body = answer.into_body().into_reader();
    serde_json::from_reader(body).context("the gateway's answer cannot be read")
}

fn shown(summary: &EventsSummary, now: Timestamp) -> String {
    let until = |millis: u64| {
        let time = i64::try_from(millis).ok()?;
        let time = Timestamp::from_millisecond(time).ok()?;
        let whole = time.duration_since(now).round(Unit::Second).ok()?;
        Some(whole)
    };
    let mut text = match summary.count {
        0 => "no events".to_owned(),
        count => waiting(summary, count, until),
    };
    if summary.dead > 0 {
        text += &format!("\n{} have failed for good", summary.dead);
        if let Some(oldest) = summary.oldest_dead.and_then(until) {
            text += &format!(", the first {:#} ago", oldest.abs());
        }
        text += ": `pilotlight events replay` tries them again";
    }
    text
}

fn waiting(
    summary: &EventsSummary,
    count: u64,
    until: impl Fn(u64) -> Option<SignedDuration>,
) -> String {
    let mut text = format!("{count} events");
    if let Some(bytes) = summary.bytes {
        text += &format!(", {} KiB", bytes.div_ceil(1024));
    }
    if let Some(oldest) = summary.oldest.and_then(&until) {
        text += &format!(", the oldest from {:#} ago", oldest.abs());
    }
    match summary.due.and_then(&until) {
        Some(due) if due > SignedDuration::ZERO => {
            text += &format!(", the next attempt in {due:#}")
        }
        Some(_) => text += ", the next attempt as soon as there is room",
        None => text += ", all under way",
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_many_wait_and_for_how_long() {
        let now = Timestamp::from_second(1_800_000_000).expect("a time");
        let at = |seconds: i64| Some(((1_800_000_000 + seconds) * 1000) as u64);
        let summary = |oldest, due| EventsSummary {
            count: 3,
            bytes: Some(2000),
            oldest,
            due,
            ..EventsSummary::default()
        };
        let dead = EventsSummary {
            dead: 2,
            oldest_dead: at(-3600),
            ..EventsSummary::default()
        };
        for (summary, expected) in [
            (EventsSummary::default(), "no events"),
            (
                dead,
                "no events\n2 have failed for good, the first 1h ago: `pilotlight events replay` tries them again",
            ),
            (
                summary(at(-90), at(60)),
                "3 events, 2 KiB, the oldest from 1m 30s ago, the next attempt in 1m",
            ),
            (
                summary(at(-1), at(-1)),
                "3 events, 2 KiB, the oldest from 1s ago, the next attempt as soon as there is room",
            ),
            (
                summary(at(0), None),
                "3 events, 2 KiB, the oldest from 0s ago, all under way",
            ),
        ] {
            assert_eq!(shown(&summary, now), expected);
        }
    }
}
