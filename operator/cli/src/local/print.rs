//! What `pilotlight local` shows: progress, the functions it serves, their log.
//!
//! Fed by `prepare`, `local` and the gateway's log store. Colours, columns and the spinner are
//! for terminals; elsewhere each line is plain and complete, for `grep` and for tests. The functions' log and their
//! address go to standard output, everything else to standard error.

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsStr;
use std::hash::{Hash, Hasher};
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::tz::TimeZone;
use pilotlight_api::FunctionSpec;
use pilotlight_core::function::Handler;
use pilotlight_gateway::{Deployment, Followed, ScheduleDeployment, Tail};
use pilotlight_logs::entry::Entry;
use pilotlight_wire::log_record::LogSource;
use tokio_util::sync::CancellationToken;

use crate::endpoint::DEFAULT_LISTEN;
use crate::terminal;

/// Colours that can be distinguished on dark and light terminals. Red is for errors.
const COLOURS: [AnsiColor; 5] = [
    AnsiColor::Cyan,
    AnsiColor::Green,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::Yellow,
];
const DIM: Style = Style::new().dimmed();
/// How much of the log is written at once, in bytes.
const BATCH_SIZE: usize = 16 * 1024;
/// How many characters of an id are shown: enough to distinguish the instances and calls of one machine.
const SHORT: usize = 8;
const SPINNER_INTERVAL: Duration = Duration::from_millis(100);

/// The progress of the preparation, shown to a waiting user.
#[derive(Debug)]
pub(crate) struct Progress {
    spinner: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let spinner = io::stderr().is_terminal().then(|| {
            let spinner = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}");
            spinner.set_style(style.expect("the template is valid"));
            spinner.enable_steady_tick(SPINNER_INTERVAL);
            spinner
        });
        Self { spinner }
    }

    /// The function that is being prepared. It is shown only where a line can be replaced.
    pub(crate) fn at(&self, function: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(format!("preparing {function}"));
        }
    }

    /// Shows a step that takes some time.
    pub(crate) fn say(&self, text: &str) {
        match &self.spinner {
            Some(spinner) => spinner.set_message(text.to_owned()),
            None => note(text),
        }
    }

    pub(crate) fn done(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

/// Prints a line about the program itself.
pub(crate) fn note(text: &str) {
    anstream::eprintln!("{text}");
}

/// Prints an error that the user has to fix.
pub(crate) fn error(text: &str) {
    let red = AnsiColor::Red.on_default().bold();
    anstream::eprintln!("{red}error:{red:#} {text}");
}

/// Prints the address of the functions, and how to call one. The line that begins with `ready` comes after the address
/// of the status listener, so a program that waits for this line knows both.
pub(crate) fn ready(
    address: SocketAddr,
    status: Option<SocketAddr>,
    deployments: &[Deployment],
) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    if let Some(status) = status {
        writeln!(out, "probes and metrics: http://{status}")?;
    }
    let (count, bold) = (deployments.len(), Style::new().bold());
    let plural = if count == 1 { "" } else { "s" };
    writeln!(
        out,
        "{bold}ready: http://{address} ({count} function{plural}){bold:#}"
    )?;
    let width = deployments
        .iter()
        .map(|d| d.name().as_str().len())
        .max()
        .unwrap_or(0);
    for deployment in deployments {
        let (name, spec) = (deployment.name(), &deployment.spec);
        let style = style(name.as_str());
        writeln!(
            out,
            "  {style}{:<width$}{style:#}  {}",
            name.as_str(),
            summary(spec)
        )?;
    }
    if let Some(first) = deployments.first() {
        let name = first.name();
        let endpoint = match address.to_string() == DEFAULT_LISTEN {
            true => String::new(),
            false => format!(" --endpoint http://{address}"),
        };
        // The program's name as it was started, since it may not be on the PATH.
        let program = std::env::args_os().next();
        let program = program.as_deref().unwrap_or(OsStr::new("pilotlight"));
        writeln!(
            out,
            "call one: {} invoke {name} --payload '{{}}'{endpoint}",
            program.display()
        )?;
    }
    out.flush()
}

/// The schedules in one line.
pub(crate) fn schedules(all: &[ScheduleDeployment]) -> String {
    if all.is_empty() {
        return "none".to_owned();
    }
    let shown = all.iter().map(|one| {
        let spec = &one.spec;
        let zone = spec.time_zone.as_ref().map_or("", |zone| zone.as_str());
        let separator = if zone.is_empty() { "" } else { " " };
        format!(
            "{} ({} {}{separator}{zone})",
            one.name,
            spec.function,
            spec.schedule.as_str()
        )
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn summary(spec: &FunctionSpec) -> String {
    let FunctionSpec {
        runtime,
        memory,
        timeout,
        ..
    } = spec;
    let handler = spec.handler.as_ref().map_or("", Handler::as_str);
    let text = format!(
        "{runtime:<10}  {:>9}  {:>5}  {handler}",
        memory.to_string(),
        { format!("{} s", timeout.get()) }
    );
    match spec.concurrency.reserved {
        Some(reserved) => format!("{text}  ({reserved} reserved)"),
        None => text,
    }
}

/// Prints the log until `end`, and then the rest of it.
pub(crate) async fn logs(mut entries: Tail, end: CancellationToken) {
    let is_terminal = io::stdout().is_terminal();
    let mut batch = Vec::new();
    loop {
        let first = tokio::select! {
            first = entries.next() => first,
            () = end.cancelled() => entries.try_next(),
        };
        match first {
            Some(followed) => add(&mut batch, followed, is_terminal),
            None => return,
        }
        // Everything that has arrived is written at once.
        while batch.len() < BATCH_SIZE
            && let Some(followed) = entries.try_next()
        {
            add(&mut batch, followed, is_terminal);
        }
        if write(&batch).is_err() {
            // Nobody reads the output. The functions keep running.
            return;
        }
        batch.clear();
    }
}

/// Standard output gets the colours that it can show, and no other control characters.
fn write(batch: &[u8]) -> io::Result<()> {
    // Most logs have none, and looking at each character takes longer than all else that is done for a line.
    match batch.iter().all(|byte| is_plain(*byte)) {
        true => io::stdout().write_all(batch),
        false => anstream::stdout().write_all(batch),
    }
}

fn is_plain(byte: u8) -> bool {
    (byte >= b' ' && byte != 0x7f) || byte == b'\n' || byte == b'\t'
}

fn add(batch: &mut Vec<u8>, followed: Followed, is_terminal: bool) {
    match followed {
        Followed::Record(entry) => {
            line(batch, &entry, is_terminal).expect("a vector takes all");
        }
        Followed::Missed(count) => note(&format!(
            "{count} log lines were too quick to print; `pilotlight logs` has them"
        )),
    }
}

fn line(out: &mut impl Write, entry: &Entry, is_terminal: bool) -> io::Result<()> {
    let Entry {
        time,
        function,
        instance,
        source,
        request_id,
        ..
    } = entry;
    let text = entry.indented();
    let instance = short(instance);
    let request_id = short(request_id.as_deref().unwrap_or("-"));
    if !is_terminal {
        return writeln!(out, "{time:.3} {function} {instance} {request_id} {text}");
    }
    let time = time
        .to_zoned_datetime(TimeZone::system())
        .strftime("%H:%M:%S%.3f")
        .to_string();
    let (name, text) = (style(function.as_str()), terminal::escaped(&text));
    let body = match source {
        LogSource::Stdout | LogSource::Stderr => Style::new(),
        LogSource::Platform => DIM,
    };
    writeln!(
        out,
        "{DIM}{time}{DIM:#} {name}{function}{name:#} {DIM}{instance} {request_id}{DIM:#} \
         {body}{text}{body:#}"
    )
}

fn short(id: &str) -> &str {
    id.char_indices()
        .nth(SHORT)
        .map_or(id, |(end, _)| &id[..end])
}

/// The colour of a function, which is the same in each run.
fn style(function: &str) -> Style {
    let mut hasher = DefaultHasher::new();
    function.hash(&mut hasher);
    let pick = hasher.finish() % COLOURS.len() as u64;
    COLOURS[pick as usize].on_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(is_terminal: bool) -> String {
        printed_text("a  b ", is_terminal)
    }

    fn printed_text(text: &str, is_terminal: bool) -> String {
        let mut entry: Entry = serde_json::from_str(
            r#"{"time":"2026-01-31T10:00:00.123456Z","namespace":"local","function":"hello","sequence":1,"source":"stdout",
                "instance":"3f2a0000deadbeef","requestId":"8c1d1111-2222","text":""}"#,
        )
        .expect("an entry");
        entry.text = text.into();
        let mut out = Vec::new();
        line(&mut out, &entry, is_terminal).expect("a vector takes all");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_plain_line_has_the_name_short_ids_and_the_whole_text() {
        assert_eq!(
            printed(false),
            "2026-01-31T10:00:00.123Z hello 3f2a0000 8c1d1111 a  b \n"
        );
    }

    #[test]
    fn no_line_of_a_text_of_several_lines_looks_like_an_entry() {
        let entry: Entry = serde_json::from_str(
            r#"{"time":"2026-01-31T10:00:00Z","namespace":"local","function":"hello","sequence":1,"source":"stdout",
                "instance":"3f2a","text":"a\n2026-01-31T10:00:00Z hello 3f2a - forged"}"#,
        )
        .expect("an entry");
        for is_terminal in [false, true] {
            let mut out = Vec::new();
            line(&mut out, &entry, is_terminal).expect("a vector takes all");
            let out = String::from_utf8(out).expect("text");
            let forged = out.lines().nth(1).expect("a second line");
            assert!(forged.starts_with("    2026-"), "{out}");
        }
    }

    #[test]
    fn a_terminals_line_is_coloured_and_ends_its_colours() {
        let line = printed(true);
        assert!(
            line.contains("\u{1b}[") && line.contains("hello\u{1b}[0m"),
            "{line:?}"
        );
    }

    #[test]
    fn a_terminal_gets_no_control_characters_of_a_function() {
        let line = printed_text("\u{1b}]0;title\u{7}", true);
        assert!(line.contains("\\x1b]0;title\\x07"), "{line:?}");
        let line = printed_text("\u{1b}]0;title\u{7}", false);
        assert!(line.ends_with("\u{1b}]0;title\u{7}\n"), "{line:?}");
    }

    #[test]
    fn ids_are_cut_between_characters() {
        assert_eq!(short("é".repeat(9).as_str()), "é".repeat(8));
        assert_eq!(short("-"), "-");
    }
}
