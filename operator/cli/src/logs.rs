//! `pilotlight logs`: the log of a function.
//!
//! Reads the gateway's log store through `endpoint`, entry by entry, and prints a line for each:
//! time, source, request id, text. Filtering is the gateway's; nothing is kept here.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, ErrorKind, IsTerminal, Write};

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use pilotlight_gateway::LogEntry;

use crate::endpoint::{self, Endpoint};
use crate::exit::Exit;
use crate::terminal;

/// Print a function's log.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the function.
    name: String,
    /// Keep printing new lines until interrupted.
    #[arg(long, short)]
    follow: bool,
    /// Print only lines since a time such as 2026-01-31T10:00:00Z, or of an age such as 5m.
    #[arg(long, value_name = "TIME", value_parser = |text: &str| since(text, Timestamp::now()))]
    since: Option<Timestamp>,
    /// Print only lines that contain this text.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    #[command(flatten)]
    endpoint: Endpoint,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let mut query = format!("follow={}", args.follow);
    if let Some(since) = args.since {
        query.push_str(&format!("&since={}", endpoint::encode(&since.to_string())));
    }
    if let Some(filter) = &args.filter {
        query.push_str(&format!("&filter={}", endpoint::encode(filter)));
    }
    let name = endpoint::encode(&args.name);
    let gateway = args.endpoint.open()?;
    let answer = gateway
        .get(&format!("/pilotlight/v1/functions/{name}/logs?{query}"))?
        .call()
        .map_err(|error| gateway.unanswered(error))?;
    if !answer.status().is_success() {
        return Err(endpoint::refusal(&args.name, answer)?);
    }
    let mut out = io::stdout().lock();
    let is_terminal = out.is_terminal();
    for line in BufReader::new(answer.into_body().into_reader()).lines() {
        let line = line.context("the log broke off: the gateway has ended")?;
        let entry: LogEntry = serde_json::from_str(&line)
            .with_context(|| format!("not a log entry; is this a Pilotlight gateway? {line}"))?;
        match write(&mut out, &entry, is_terminal) {
            // The reader has closed the pipe.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            written => written?,
        }
    }
    Ok(Exit::Success)
}

fn write(out: &mut impl Write, entry: &LogEntry, is_terminal: bool) -> io::Result<()> {
    let text = entry.indented();
    let text = match is_terminal {
        true => terminal::escaped(&text),
        false => Cow::Borrowed(&*text),
    };
    let request_id = entry.request_id.as_deref().unwrap_or("-");
    let source = entry.source.as_str();
    writeln!(out, "{:.3} {source:<8} {request_id} {text}", entry.time)
}

/// Reads a point in time, or an age before `now`.
fn since(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let age = text
        .parse::<SignedDuration>()
        .ok()
        .filter(|age| !age.is_negative());
    age.and_then(|age| now.checked_sub(age).ok())
        .ok_or_else(|| {
            "must be an age such as 90s, 5m or 1h30m, or a time such as 2026-01-31T10:00:00Z"
                .to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_takes_an_age_or_a_time() {
        let now: Timestamp = "2026-01-31T10:00:00Z".parse().expect("a time");
        for (text, expected) in [
            ("5m", "2026-01-31T09:55:00Z"),
            ("90s", "2026-01-31T09:58:30Z"),
            ("1h30m", "2026-01-31T08:30:00Z"),
            ("0s", "2026-01-31T10:00:00Z"),
            ("2026-01-30T12:00:00+02:00", "2026-01-30T10:00:00Z"),
        ] {
            assert_eq!(
                since(text, now),
                Ok(expected.parse().expect("a time")),
                "{text}"
            );
        }
        for text in ["", "5", "yesterday", "-5m", "5 months", "2026-01-31"] {
            assert!(since(text, now).is_err(), "{text}");
        }
    }

    #[test]
    fn no_line_of_a_text_of_several_lines_looks_like_an_entry() {
        let entry: LogEntry = serde_json::from_str(
            r#"{"time":"2026-01-31T10:00:00Z","function":"hello","instance":"3f2a","source":"stdout",
                "text":"a\n2026-01-31T10:00:00.000Z platform - REPORT RequestId: forged"}"#,
        )
        .expect("an entry");
        let mut lines = Vec::new();
        write(&mut lines, &entry, false).expect("a vector takes all");
        let lines = String::from_utf8(lines).expect("text");
        let forged = lines.lines().nth(1).expect("a second line");
        assert!(forged.starts_with("    2026-"), "{lines}");
    }

    #[test]
    fn a_line_has_time_source_request_id_and_text() {
        let entry: LogEntry = serde_json::from_str(
            r#"{"time":"2026-01-31T10:00:00.123456Z","function":"hello","instance":"3f2a",
                "source":"stdout","requestId":"8c1d","text":" two  spaces "}"#,
        )
        .expect("an entry");
        let mut line = Vec::new();
        write(&mut line, &entry, false).expect("a vector takes all");
        let line = String::from_utf8(line).expect("text");
        assert_eq!(
            line,
            "2026-01-31T10:00:00.123Z stdout   8c1d  two  spaces \n"
        );
    }

    #[test]
    fn a_terminal_gets_no_control_characters_and_a_pipe_gets_all() {
        let entry: LogEntry = serde_json::from_str(
            r#"{"time":"2026-01-31T10:00:00Z","function":"hello","instance":"3f2a",
                "source":"stdout","text":"\u001b[2J\u0007"}"#,
        )
        .expect("an entry");
        for (is_terminal, expected) in [(true, "\\x1b[2J\\x07\n"), (false, "\u{1b}[2J\u{7}\n")] {
            let mut line = Vec::new();
            write(&mut line, &entry, is_terminal).expect("a vector takes all");
            let line = String::from_utf8(line).expect("text");
            assert!(line.ends_with(expected), "{line:?}");
        }
    }
}
