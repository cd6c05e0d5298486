//! `pilotlight schedules`: the schedules of a gateway's functions, with their last and next times.
//!
//! Asks a gateway (`wire::schedules`), in local mode and in a cluster.

use anyhow::{Context, Result};
use jiff::Timestamp;
use pilotlight_wire::schedules::{ScheduleLine, ScheduleList};

use crate::endpoint::{self, Endpoint};
use crate::exit::Exit;
use crate::terminal;

/// List the schedules, with their last and next times.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    endpoint: Endpoint,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let gateway = args.endpoint.open()?;
    let answer = gateway.get("/pilotlight/v1/schedules")?.call();
    let answer = answer.map_err(|error| gateway.unanswered(error))?;
    if !answer.status().is_success() {
        return Err(endpoint::refusal("schedules", answer)?);
    }
    let body = answer.into_body().into_reader();
    let list: ScheduleList =
        serde_json::from_reader(body).context("the gateway's answer cannot be read")?;
    anstream::print!("{}", table(&list.schedules));
    Ok(Exit::Success)
}

fn table(schedules: &[ScheduleLine]) -> String {
    if schedules.is_empty() {
        return "no schedules\n".to_owned();
    }
    let head = [
        "NAME", "FUNCTION", "SCHEDULE", "ZONE", "LAST", "NEXT", "MISSED", "",
    ];
    let rows = schedules.iter().map(|one| {
        [
            one.name.clone(),
            one.function.clone(),
            one.schedule.clone(),
            one.time_zone.clone(),
            time(one.last),
            time(one.next),
            one.missed.to_string(),
            one.trouble.clone().unwrap_or_default(),
        ]
        .map(|text| terminal::escaped(&text).to_string())
    });
    let rows: Vec<[String; 8]> = std::iter::once(head.map(str::to_owned))
        .chain(rows)
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..head.len()).filter_map(width).collect();
    let mut table = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        table.push_str(line.join("  ").trim_end());
        table.push('\n');
    }
    table
}

fn time(millis: Option<u64>) -> String {
    let time = millis.and_then(|millis| i64::try_from(millis).ok());
    let time = time.and_then(|millis| Timestamp::from_millisecond(millis).ok());
    time.map_or("-".to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_schedule() {
        let line = ScheduleLine {
            name: "nightly".to_owned(),
            function: "report".to_owned(),
            schedule: "0 3 * * *".to_owned(),
            time_zone: "Europe/Zurich".to_owned(),
            last: Some(1_800_000_000_000),
            next: None,
            missed: 2,
            trouble: Some("it is suspended".to_owned()),
        };
        let expected = "\
NAME     FUNCTION  SCHEDULE   ZONE           LAST                  NEXT  MISSED
nightly  report    0 3 * * *  Europe/Zurich  2027-01-15T08:00:00Z  -     2       it is suspended
";
        assert_eq!(table(&[line]), expected);
        assert_eq!(table(&[]), "no schedules\n");
    }
}
