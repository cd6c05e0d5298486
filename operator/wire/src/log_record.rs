//! A line of a supervisor's standard output.
//!
//! The supervisor's `log` writes it; a gateway's `process` and `cluster/pods`, or the node's log
//! collector, read it.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a log line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogSource {
    Stdout,
    Stderr,
    Platform,
}

/// A supervisor's standard output, a line each: `<RFC 3339 time> <source> <request id or -> <text>`.
///
/// If the text has several lines, a `+` follows the source, and the text is escaped: `\n` is a line's end,
/// `\r` a carriage return, `\\` a backslash. All other texts are not escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord<'a> {
    pub time: &'a str,
    pub source: LogSource,
    pub request_id: Option<&'a str>,
    pub text: Cow<'a, str>,
}

/// Follows the source of a record whose text is escaped. A gateway of an earlier release takes the whole line
/// for a text of the platform.
const ESCAPED: char = '+';

impl LogSource {
    pub fn as_str(self) -> &'static str {
        match self {
            LogSource::Stdout => "stdout",
            LogSource::Stderr => "stderr",
            LogSource::Platform => "platform",
        }
    }
}

impl fmt::Display for LogRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request_id = self.request_id.unwrap_or("-");
        let (time, source) = (self.time, self.source.as_str());
        if !self.text.contains('\n') {
            return write!(f, "{time} {source} {request_id} {}", self.text);
        }
        write!(f, "{time} {source}{ESCAPED} {request_id} ")?;
        for part in self.text.split_inclusive(['\n', '\r', '\\']) {
            let (plain, escaped) = match part.chars().next_back() {
                Some('\n') => (&part[..part.len() - 1], "\\n"),
                Some('\r') => (&part[..part.len() - 1], "\\r"),
                Some('\\') => (&part[..part.len() - 1], "\\\\"),
                _ => (part, ""),
            };
            f.write_str(plain)?;
            f.write_str(escaped)?;
        }
        Ok(())
    }
}

/// `None` if it is not what [`LogRecord`] writes.
fn unescaped(text: &str) -> Option<String> {
    let mut whole = String::with_capacity(text.len());
    let mut parts = text.split('\\');
    whole.push_str(parts.next()?);
    while let Some(part) = parts.next() {
        let (character, rest) = match part.chars().next() {
            Some('n') => ('\n', &part[1..]),
            Some('r') => ('\r', &part[1..]),
            // `\\`: the text up to the next escape follows.
            None => ('\\', parts.next()?),
            Some(_) => return None,
        };
        whole.push(character);
        whole.push_str(rest);
    }
    // `Display` escapes no other texts.
    let is_own = whole.contains('\n') && !text.contains('\r');
    is_own.then_some(whole)
}

/// The text before the first blank, and the text after it. The general search costs more than these short words are worth.
fn first_word(text: &str) -> Option<(&str, &str)> {
    let end = text.bytes().position(|byte| byte == b' ')?;
    Some((&text[..end], &text[end + 1..]))
}

impl<'a> LogRecord<'a> {
    /// `None` if the line is not a record.
    pub fn parse(line: &'a str) -> Option<Self> {
        let (time, rest) = first_word(line)?;
        let (source, rest) = first_word(rest)?;
        let (request_id, text) = first_word(rest)?;
        let request_id = (request_id != "-").then_some(request_id);
        let (source, text) = match source.strip_suffix(ESCAPED) {
            Some(source) => (source, Cow::Owned(unescaped(text)?)),
            None => (source, Cow::Borrowed(text)),
        };
        let sources = [LogSource::Stdout, LogSource::Stderr, LogSource::Platform];
        let source = sources.into_iter().find(|known| known.as_str() == source)?;
        Some(LogRecord {
            time,
            source,
            request_id,
            text,
        })
    }
}

/// The supervisor's first record has this text, followed by the address that it listens on.
pub const LISTENING: &str = "LISTENING ";

/// A mark (`wire::mark`) is a platform record with this text, followed by the body of the request. It comes after
/// everything logged before, and after the last record of an invocation that is answered but not closed.
pub const MARK: &str = "MARK ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_record_reads_back_as_written() {
        for request_id in [None, Some("8f3c")] {
            let time = "2026-01-31T10:00:00.000001Z";
            for text in [" two  spaces ", "a\\nb", "\\", "", "progress\r50 %"] {
                let record = LogRecord {
                    time,
                    source: LogSource::Stderr,
                    request_id,
                    text: text.into(),
                };
                let written = record.to_string();
                assert!(written.ends_with(&format!(" {text}")), "{written}");
                assert_eq!(LogRecord::parse(&written), Some(record));
            }
        }
    }

    #[test]
    fn a_log_record_of_several_lines_is_one_line_and_reads_back_as_written() {
        for (text, written) in [
            ("a\nb", "a\\nb"),
            ("\n", "\\n"),
            ("C:\\new\n\r\n\\", "C:\\\\new\\n\\r\\n\\\\"),
            ("\\\\n\n\\n", "\\\\\\\\n\\n\\\\n"),
        ] {
            let record = LogRecord {
                time: "2026-01-31T10:00:00.000001Z",
                source: LogSource::Stdout,
                request_id: Some("8f3c"),
                text: text.into(),
            };
            let line = format!("2026-01-31T10:00:00.000001Z stdout+ 8f3c {written}");
            assert_eq!(record.to_string(), line);
            assert_eq!(LogRecord::parse(&line), Some(record));
        }
        for line in [
            "t stdout+ - no end",
            "t stdout+ - a\\nb\\x",
            "t stdout+ - \\n\\",
        ] {
            assert_eq!(LogRecord::parse(line), None, "{line}");
        }
    }
}
