//! `pilotlight top`: what the functions do now, as a table that renews itself.
//!
//! Asks a gateway for the state of all gateways once a second (`wire::state`) and shows what lies within the
//! last ten seconds (`looks`). If the output is not a terminal, it prints one table of all that was counted, and
//! ends.

mod looks;

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pilotlight_wire::state::{FunctionSummary, STATE_PATH, State};
use rustix::termios::tcgetwinsize;
use ureq::http::StatusCode;

use self::looks::{quantile, since};
use crate::endpoint::{self, Endpoint, Gateway};
use crate::exit::Exit;

const INTERVAL: Duration = Duration::from_secs(1);
/// How many looks a figure of the present covers.
const WINDOW: usize = 10;
/// Lines that are not those of a function: the head, the number of further functions, the phases, the gateways
/// that do not answer, and one line for the cursor.
const OTHER_LINES: usize = 5;
/// The height of a terminal that does not report one.
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
    let gateway = args.endpoint.open()?;
    let mut out = io::stdout().lock();
    let shown = if args.once || !out.is_terminal() {
        let state = look(&gateway)?;
        out.write_all(table(&state, None, usize::MAX).as_bytes())
    } else {
        watch(&gateway, &mut out)?
    };
    match shown {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        shown => shown?,
    }
    Ok(Exit::Success)
}

/// Until it is interrupted.
fn watch(gateway: &Gateway, out: &mut impl Write) -> Result<io::Result<()>> {
    let mut looks = VecDeque::new();
    loop {
        looks.push_back(look(gateway)?);
        if looks.len() > WINDOW + 1 {
            looks.pop_front();
        }
        let (first, last) = (&looks[0], &looks[looks.len() - 1]);
        let seconds = (looks.len() - 1) as f64 * INTERVAL.as_secs_f64();
        let size = tcgetwinsize(io::stdout()).ok();
        let lines = size.map(|size| size.ws_row.into());
        let lines = lines.filter(|lines| *lines > 0).unwrap_or(LINES);
        let table = table(
            &since(last, first),
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

fn look(gateway: &Gateway) -> Result<State> {
    let answer = gateway
        .get(STATE_PATH)?
        .call()
        .map_err(|error| gateway.unanswered(error))?;
    let status = answer.status();
    if status == StatusCode::FORBIDDEN {
        return Err(endpoint::refusal("the state", answer)?);
    }
    ensure!(
        status.is_success(),
        "the gateway has no state to show ({status}); is it older than this program?"
    );
    let state = answer.into_body().into_reader();
    serde_json::from_reader(state).context("the gateway's state cannot be read")
}

/// `seconds`: what lies within so many; `None`: since the beginning.
fn table(state: &State, seconds: Option<f64>, rows: usize) -> String {
    let mut functions: Vec<&FunctionSummary> = state.functions.iter().collect();
    // Those that work first, so that nothing that matters is cut off.
    functions.sort_by_key(|function| {
        let load = function.instances.busy + function.queued;
        std::cmp::Reverse((load, function.totals.invocations))
    });
    let namespaces: BTreeSet<_> = functions.iter().map(|one| &one.namespace).collect();
    let name = |function: &FunctionSummary| match namespaces.len() {
        0 | 1 => function.name.to_string(),
        _ => format!("{}/{}", function.namespace, function.name),
    };
    let widths = functions.iter().map(|function| name(function).len());
    let name_width = widths.max().unwrap_or(0).max("FUNCTION".len());
    let calls = if seconds.is_some() {
        "CALLS/S"
    } else {
        "CALLS"
    };
    let mut text = format!(
        "{:<name_width$}  {:>5} {:>5} {:>8} {:>6} {calls:>8} {:>7} {:>5} {:>9} {:>9}\n",
        "FUNCTION", "WARM", "BUSY", "STARTING", "QUEUED", "FAILED", "COLD", "P50", "P99"
    );
    for function in functions.iter().take(rows) {
        let (instances, totals) = (function.instances, function.totals);
        let rate = match seconds {
            Some(seconds) if seconds > 0.0 => {
                format!("{:.1}", totals.invocations as f64 / seconds)
            }
            Some(_) => "-".to_owned(),
            None => totals.invocations.to_string(),
        };
        let quantile = |share| milliseconds(quantile(&function.durations, share));
        text.push_str(&format!(
            "{:<name_width$}  {:>5} {:>5} {:>8} {:>6} {rate:>8} {:>7} {:>5} {:>9} {:>9}\n",
            name(function),
            instances.idle,
            instances.busy,
            instances.starting,
            function.queued,
            totals.failed,
            totals.cold_starts,
            quantile(0.5),
            quantile(0.99),
        ));
    }
    if functions.len() > rows {
        text.push_str(&format!("and {} more\n", functions.len() - rows));
    }
    let phases = state.phases.iter().filter_map(|(name, durations)| {
        let median = quantile(durations, 0.5)?;
        Some(format!("{name} {}", milliseconds(Some(median))))
    });
    let phases: Vec<String> = phases.collect();
    if !phases.is_empty() {
        text.push_str(&format!("cold starts, medians: {}\n", phases.join(", ")));
    }
    if !state.unanswered.is_empty() {
        let gateways = state.unanswered.join(", ");
        text.push_str(&format!(
            "without gateways that do not answer: {gateways}\n"
        ));
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
        let json = r#"{
            "functions": [
                {"namespace": "local", "name": "idle", "qualifier": "$LATEST", "revision": "r",
                 "instances": {"idle": 3}},
                {"namespace": "local", "name": "busy", "qualifier": "$LATEST", "revision": "r",
                 "instances": {"busy": 1}, "totals": {"invocations": 20},
                 "durations": {"bounds": [0.001], "counts": [20, 0]}}
            ],
            "phases": {"init": {"bounds": [0.01], "counts": [4, 0]}},
            "unanswered": ["10.0.0.7:8082"]
        }"#;
        let state: State = serde_json::from_str(json).expect("a state");
        let shown = table(&state, Some(10.0), 1);
        let expected = "\
FUNCTION   WARM  BUSY STARTING QUEUED  CALLS/S  FAILED  COLD       P50       P99
busy          0     1        0      0      2.0       0     0    0.5 ms    1.0 ms
and 1 more
cold starts, medians: init 5.0 ms
without gateways that do not answer: 10.0.0.7:8082
";
        assert_eq!(shown, expected);
    }
}
