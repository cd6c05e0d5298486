//! How severe a record is, as the function's own logger says.
//!
//! Reads the level from a record's text: nothing else carries it. The forms are those of the vendor's clients and of
//! JSON loggers. A text without a level has none; nobody guesses one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The levels of the original platform, the least severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

/// The text names no level.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no level: use TRACE, DEBUG, INFO, WARN, ERROR or FATAL")]
pub struct InvalidLevel(String);

/// The keys of JSON loggers for the level, the platform's own first.
const KEYS: [&str; 3] = ["level", "severity", "levelname"];

impl Level {
    pub const ALL: [Level; 6] = [
        Level::Trace,
        Level::Debug,
        Level::Info,
        Level::Warn,
        Level::Error,
        Level::Fatal,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Level::Trace => "TRACE",
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
            Level::Fatal => "FATAL",
        }
    }

    /// The level of a text that a function has logged: `[LEVEL]` at its start (Python, Ruby), `LEVEL` in its third
    /// field between tabs (Node.js), or a key of a JSON object.
    pub fn of(text: &str) -> Option<Level> {
        if let Some(rest) = text.strip_prefix('[') {
            return rest.split_once(']').and_then(|(word, _)| word.parse().ok());
        }
        if text.starts_with('{') {
            let object: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(text).ok()?;
            return KEYS
                .iter()
                .find_map(|key| object.get(*key)?.as_str()?.parse().ok());
        }
        // A request id and a time come first, and both are short.
        text.split('\t').nth(2)?.parse().ok()
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Level {
    type Err = InvalidLevel;

    /// Upper or lower case. Loggers also write `WARNING` for WARN and `CRITICAL` for FATAL.
    fn from_str(text: &str) -> Result<Self, InvalidLevel> {
        let is = |name: &str| text.eq_ignore_ascii_case(name);
        let named = Level::ALL.into_iter().find(|level| is(level.as_str()));
        named
            .or_else(|| is("WARNING").then_some(Level::Warn))
            .or_else(|| is("CRITICAL").then_some(Level::Fatal))
            .ok_or_else(|| InvalidLevel(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_read_from_the_forms_of_the_clients() {
        for (text, level) in [
            (
                "[INFO]\t2026-01-31T10:00:00.000Z\t8f3c\tdone",
                Some(Level::Info),
            ),
            ("[WARNING]\tlow", Some(Level::Warn)),
            (
                "2026-01-31T10:00:00.000Z\t8f3c\tERROR\tbroken",
                Some(Level::Error),
            ),
            (r#"{"level":"debug","message":"x"}"#, Some(Level::Debug)),
            (r#"{"severity":"CRITICAL"}"#, Some(Level::Fatal)),
            (r#"{"level":50}"#, None),
            ("{not json", None),
            ("[x] INFO", None),
            ("an ERROR in a sentence", None),
            ("", None),
        ] {
            assert_eq!(Level::of(text), level, "{text}");
        }
    }
}
