//! `pilotlight top`: what the functions do now, as a table that renews itself.
//!
//! Asks a gateway for the metrics of all gateways once a second (`samples` reads them) and shows
//! what lies within the last ten. Where the output is no terminal it prints one table, of all that
//! was counted, and ends.

mod samples;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::termios::tcgetwinsize;

use self::samples::{Function, Samples};
use crate::endpoint::{self, Endpoint};
use crate::exit::Exit;

const INTERVAL: Duration = Duration::from_secs(1);
/// Looks that a figure of the present is taken over.
const WINDOW: usize = 10;
/// Lines that are no function's: heads, phases, the rest.
const OTHER_LINES: usize = 4;
/// For a terminal that does not tell its height.
const LINES: usize = 40;

/// Watch the functions: instances, queues, calls, cold starts.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print one table of all that was counted since the gateways started, and end.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    endpoint: Endpoint,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let mut out = io::stdout().lock();
    let shown = if args.once || !out.is_terminal() {
        let samples = look(&args.endpoint)?;
        out.write_all(table(&samples, None, usize::MAX).as_bytes())
    } else {
        watch(&args.endpoint, &mut out)?
    };
    match shown {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        shown => shown?,
    }
    Ok(Exit::Success)
}

/// Until it is interrupted.
fn watch(endpoint: &Endpoint, out: &mut impl Write) -> Result<io::Result<()>> {
    let mut looks = VecDeque::new();
    loop {
        looks.push_back(look(endpoint)?);
        if looks.len() > WINDOW + 1 {
            looks.pop_front();
        }
        let (first, last) = (&looks[0], &looks[looks.len() - 1]);
        let seconds = (looks.len() - 1) as f64 * INTERVAL.as_secs_f64();
        let size = tcgetwinsize(io::stdout()).ok();
        let lines = size.map(|size| size.ws_row.into());
        let lines = lines.filter(|lines| *lines > 0).unwrap_or(LINES);
        let table = table(
            &last.since(first),
            Some(seconds),
            lines.saturating_sub(OTHER_LINES),
        );
        // From the upper left corner; what is left of the table before goes, line by line.
        let text = table.replace('\n', "\x1b[K\n");
        let written = write!(out, "\x1b[H{text}\x1b[J").and_then(|()| out.flush());
        if written.is_err() {
            return Ok(written);
        }
        thread::sleep(INTERVAL);
    }
}

fn look(endpoint: &Endpoint) -> Result<Samples> {
    let answer = endpoint::client()
        .get(endpoint.url("/pilotlight/v1/metrics"))
        .call()
        .map_err(|error| endpoint.unanswered(error))?;
    let status = answer.status();
    ensure!(
        status.is_success(),
        "the gateway has no metrics to show ({status}); is it older than this program?"
    );
    let text = answer.into_body().read_to_string();
    Ok(Samples::read(
        &text.context("the gateway's answer broke off")?,
    ))
}

/// `seconds`: what lies within so many; `None`: since the beginning.
fn table(samples: &Samples, seconds: Option<f64>, rows: usize) -> String {
    let mut functions: Vec<(&String, &Function)> = samples.functions.iter().collect();
    // Those that work first, so that nothing that matters is cut off.
    functions.sort_by(|(_, one), (_, other)| {
        let load = |function: &Function| (function.busy + function.queued, function.calls);
        load(other).partial_cmp(&load(one)).expect("numbers")
    });
    let name_width = functions
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0)
        .max("FUNCTION".len());
    let calls = if seconds.is_some() {
        "CALLS/S"
    } else {
        "CALLS"
    };
    let mut text = format!(
        "{:<name_width$}  {:>5} {:>5} {:>8} {:>6} {calls:>8} {:>7} {:>5} {:>9} {:>9}\n",
        "FUNCTION", "WARM", "BUSY", "STARTING", "QUEUED", "FAILED", "COLD", "P50", "P99"
    );
    for (name, function) in functions.iter().take(rows) {
        let rate = match seconds {
            Some(seconds) if seconds > 0.0 => format!("{:.1}", function.calls / seconds),
            Some(_) => "-".to_owned(),
            None => format!("{}", function.calls),
        };
        let quantile = |share| milliseconds(function.durations.quantile(share));
        text.push_str(&format!(
            "{name:<name_width$}  {:>5} {:>5} {:>8} {:>6} {rate:>8} {:>7} {:>5} {:>9} {:>9}\n",
            function.idle,
            function.busy,
            function.starting,
            function.queued,
            function.failed,
            function.cold_starts,
            quantile(0.5),
            quantile(0.99),
        ));
    }
    if functions.len() > rows {
        text.push_str(&format!("and {} more\n", functions.len() - rows));
    }
    let phases = samples.phases.iter().filter_map(|(name, durations)| {
        let median = durations.quantile(0.5)?;
        Some(format!("{name} {}", milliseconds(Some(median))))
    });
    let phases: Vec<String> = phases.collect();
    if !phases.is_empty() {
        text.push_str(&format!("cold starts, medians: {}\n", phases.join(", ")));
    }
    text
}

fn milliseconds(seconds: Option<f64>) -> String {
    match seconds {
        Some(seconds) => format!("{:.1} ms", seconds * 1000.0),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_come_first_and_the_rest_is_counted() {
        let text = r#"
pilotlight_instances{function="idle",state="idle"} 3
pilotlight_instances{function="busy",state="busy"} 1
pilotlight_invocations_total{function="busy",outcome="success"} 20
pilotlight_invocation_duration_seconds_bucket{le="0.001",function="busy"} 20
pilotlight_invocation_duration_seconds_bucket{le="+Inf",function="busy"} 20
pilotlight_cold_start_phase_seconds_bucket{le="0.01",phase="init"} 4
pilotlight_cold_start_phase_seconds_bucket{le="+Inf",phase="init"} 4
"#;
        let shown = table(&Samples::read(text), Some(10.0), 1);
        let expected = "\
FUNCTION   WARM  BUSY STARTING QUEUED  CALLS/S  FAILED  COLD       P50       P99
busy          0     1        0      0      2.0       0     0    0.5 ms    1.0 ms
and 1 more
cold starts, medians: init 5.0 ms
";
        assert_eq!(shown, expected);
    }
}
