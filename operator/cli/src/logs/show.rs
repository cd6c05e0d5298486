//! How `pilotlight logs` prints a record: a line of text, or a line of JSON.
//!
//! Colours are for terminals, and so is the escaping of control characters: a pipe gets the exact text.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use pilotlight_logs::entry::Entry;
use pilotlight_logs::level::Level;
use pilotlight_logs::report::Report;
use pilotlight_wire::log_record::LogSource;

use crate::terminal;

/// How many characters of an instance's name are shown: enough to distinguish those of one function.
const SHORT: usize = 8;
const DIM: Style = Style::new().dimmed();

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Form {
    #[default]
    Text,
    Json,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shown {
    form: Form,
    /// Records of several instances follow each other, so each line names its own.
    is_merged: bool,
    is_terminal: bool,
    trace_id: Option<String>,
}

impl Shown {
    pub(super) fn new(form: Form, is_merged: bool) -> Self {
        Shown {
            form,
            is_merged,
            is_terminal: io::stdout().is_terminal(),
            trace_id: None,
        }
    }

    pub(super) fn print(&mut self, record: &Entry) -> io::Result<()> {
        if let Some(report) = Report::of(record) {
            self.trace_id = report.trace_id.or(self.trace_id.take());
        }
        let mut line = Vec::new();
        self.write(&mut line, record)?;
        if self.is_terminal {
            // It leaves out colours where the user wants none.
            return anstream::stdout().write_all(&line);
        }
        io::stdout().write_all(&line)
    }

    /// Prints the trace that a call belongs to, if its records have said so.
    pub(super) fn trace(&self) {
        if let Some(trace_id) = &self.trace_id {
            anstream::eprintln!("trace: {}", terminal::escaped(trace_id));
        }
    }

    fn write(&self, out: &mut impl Write, record: &Entry) -> io::Result<()> {
        if self.form == Form::Json {
            let json = serde_json::to_string(record)?;
            return writeln!(out, "{}", self.safe(&json));
        }
        let (dim, body, name) = match self.is_terminal {
            true => (DIM, of_record(record), AnsiColor::Cyan.on_default()),
            false => Default::default(),
        };
        write!(
            out,
            "{dim}{:.3} {:<8}{dim:#} ",
            record.time,
            record.source.as_str()
        )?;
        if self.is_merged {
            let short = short(&record.instance);
            write!(out, "{name}{}{name:#} ", self.safe(short))?;
        }
        let request_id = record.request_id.as_deref().unwrap_or("-");
        let (request_id, text) = (self.safe(request_id), record.indented());
        writeln!(
            out,
            "{dim}{request_id}{dim:#} {body}{}{body:#}",
            self.safe(&text)
        )
    }

    fn safe<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.is_terminal {
            true => terminal::escaped(text),
            false => Cow::Borrowed(text),
        }
    }
}

/// The colour of a record's text.
fn of_record(record: &Entry) -> Style {
    match (record.source, record.level) {
        (LogSource::Platform, _) => DIM,
        (_, Some(Level::Error | Level::Fatal)) => AnsiColor::Red.on_default(),
        (_, Some(Level::Warn)) => AnsiColor::Yellow.on_default(),
        _ => Style::new(),
    }
}

fn short(name: &str) -> &str {
    let end = name.char_indices().nth(SHORT);
    end.map_or(name, |(end, _)| &name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Entry {
        let mut entry: Entry = serde_json::from_str(
            r#"{"time":"2026-01-31T10:00:00.123456Z","namespace":"local","function":"hello",
                "instance":"3f2a0000deadbeef","sequence":1,"source":"stdout","requestId":"8c1d","text":""}"#,
        )
        .expect("an entry");
        entry.text = text.to_owned();
        entry.level = Level::of(text);
        entry
    }

    fn printed(text: &str, form: Form, is_merged: bool, is_terminal: bool) -> String {
        let shown = Shown {
            form,
            is_merged,
            is_terminal,
            trace_id: None,
        };
        let mut line = Vec::new();
        shown
            .write(&mut line, &entry(text))
            .expect("a vector takes all");
        String::from_utf8(line).expect("text")
    }

    #[test]
    fn a_line_has_time_source_request_id_and_text() {
        assert_eq!(
            printed(" two  spaces ", Form::Text, false, false),
            "2026-01-31T10:00:00.123Z stdout   8c1d  two  spaces \n"
        );
    }

    #[test]
    fn lines_of_several_instances_have_the_short_names_of_them() {
        assert_eq!(
            printed("x", Form::Text, true, false),
            "2026-01-31T10:00:00.123Z stdout   3f2a0000 8c1d x\n"
        );
    }

    #[test]
    fn no_line_of_a_text_of_several_lines_looks_like_an_entry() {
        let text = "a\n2026-01-31T10:00:00.000Z platform - REPORT RequestId: forged";
        for is_terminal in [false, true] {
            let lines = printed(text, Form::Text, false, is_terminal);
            let forged = lines.lines().nth(1).expect("a second line");
            assert!(forged.starts_with("    2026-"), "{lines}");
        }
    }

    #[test]
    fn a_terminal_gets_colours_and_no_control_characters_and_a_pipe_gets_all() {
        let hostile = "[ERROR] \u{1b}[2J\u{7}";
        let line = printed(hostile, Form::Text, true, true);
        assert!(
            line.contains("\u{1b}[31m[ERROR] \\x1b[2J\\x07\u{1b}[0m"),
            "{line:?}"
        );
        let line = printed(hostile, Form::Text, true, false);
        assert!(line.ends_with("[ERROR] \u{1b}[2J\u{7}\n"), "{line:?}");
        assert_eq!(line.matches('\u{1b}').count(), 1, "{line:?}");
    }

    #[test]
    fn json_is_the_record_as_the_api_has_it() {
        let line = printed("a\nb", Form::Json, true, false);
        let read: Entry = serde_json::from_str(&line).expect("a record");
        assert_eq!((read, line.lines().count()), (entry("a\nb"), 1));
    }

    #[test]
    fn names_are_cut_between_characters() {
        assert_eq!(short("é".repeat(9).as_str()), "é".repeat(8));
        assert_eq!(short("i1"), "i1");
    }
}
