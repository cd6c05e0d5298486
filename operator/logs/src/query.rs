//! Which records a reader asks for.
//!
//! [`Selection::admits`] is the one meaning of each condition: live tails and stores that keep records in memory use it
//! directly, and the other stores give the same result. Nothing here reads a record from anywhere.

use jiff::Timestamp;
use pilotlight_core::ids::FunctionKey;
use pilotlight_wire::log_record::LogSource;
use regex::{Regex, RegexBuilder};
use serde_json::Value;
use thiserror::Error;

use crate::entry::{Entry, Position};
use crate::level::Level;

/// The most records that one page has.
pub const PAGE_LIMIT: usize = 10_000;
/// The longest text, pattern or path in a condition, in bytes.
pub const TEXT_LIMIT: usize = 1024;
/// The memory that a compiled regular expression may take, in bytes.
const REGEX_LIMIT: usize = 1024 * 1024;

/// Conditions that a record meets all of. The default selects each record.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// From this instance alone.
    pub instance: Option<String>,
    pub request_id: Option<String>,
    pub source: Option<LogSource>,
    /// At this time or later.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
    /// At least as severe. A record without a level does not match.
    pub level: Option<Level>,
    /// The record's text contains each of these.
    pub contains: Vec<String>,
    pub regex: Option<Regex>,
    pub fields: Vec<Field>,
}

/// A field of a record whose text is a JSON object. `path` has keys between dots, and numbers for elements of arrays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub path: String,
    /// Equal to the field's text, or to the JSON of a field that is no text.
    pub value: String,
}

/// A condition cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidCondition {
    #[error("{name} has {length} bytes; at most {TEXT_LIMIT} are allowed")]
    TooLong { name: &'static str, length: usize },
    #[error("{name} is empty")]
    Empty { name: &'static str },
    #[error("regex is no regular expression: {0}")]
    Regex(String),
    #[error("field must have the form PATH=VALUE, for example order.id=17")]
    Field,
}

/// In which order a reader gets records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    #[default]
    OldestFirst,
    NewestFirst,
}

/// One page of a function's log.
#[derive(Clone, Debug)]
pub struct Query {
    pub function: FunctionKey,
    pub selection: Selection,
    pub order: Order,
    /// Records that follow this one in the order; the record itself is not among them.
    pub after: Option<Position>,
    /// From 1 to [`PAGE_LIMIT`].
    pub limit: usize,
}

impl Selection {
    pub fn admits(&self, record: &Entry) -> bool {
        let is =
            |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|w| w == value);
        is(&self.instance, &record.instance)
            && is(
                &self.request_id,
                record.request_id.as_deref().unwrap_or_default(),
            )
            && self.source.is_none_or(|source| source == record.source)
            && self.since.is_none_or(|since| record.time >= since)
            && self.until.is_none_or(|until| record.time < until)
            && self.level.is_none_or(|level| record.level >= Some(level))
            && self.contains.iter().all(|text| record.text.contains(text))
            && self
                .regex
                .as_ref()
                .is_none_or(|regex| regex.is_match(&record.text))
            && self.admits_fields(&record.text)
    }

    fn admits_fields(&self, text: &str) -> bool {
        if self.fields.is_empty() {
            return true;
        }
        let Ok(object @ Value::Object(_)) = serde_json::from_str(text) else {
            return false;
        };
        self.fields.iter().all(|field| field.matches(&object))
    }
}

impl Query {
    /// The first page of a function's whole log.
    pub fn all(function: FunctionKey) -> Self {
        Query {
            function,
            selection: Selection::default(),
            order: Order::default(),
            after: None,
            limit: PAGE_LIMIT,
        }
    }

    /// Whether a record of the function belongs to the pages from here on.
    pub fn admits(&self, record: &Entry) -> bool {
        let follows = |after: &Position| match self.order {
            Order::OldestFirst => record.position() > *after,
            Order::NewestFirst => record.position() < *after,
        };
        record.function == self.function.name
            && record.namespace == self.function.namespace
            && self.after.as_ref().is_none_or(follows)
            && self.selection.admits(record)
    }
}

impl Field {
    /// Reads `PATH=VALUE`.
    ///
    /// # Errors
    /// The text has no `=`, no path, or is too long.
    pub fn parse(text: &str) -> Result<Self, InvalidCondition> {
        let text = checked("field", text)?;
        let parts = text.split_once('=').filter(|(path, _)| !path.is_empty());
        let (path, value) = parts.ok_or(InvalidCondition::Field)?;
        Ok(Field {
            path: path.to_owned(),
            value: value.to_owned(),
        })
    }

    fn matches(&self, object: &Value) -> bool {
        let at = |value: &Value, key: &str| match value {
            Value::Object(fields) => fields.get(key).cloned(),
            Value::Array(elements) => key
                .parse::<usize>()
                .ok()
                .and_then(|at| elements.get(at).cloned()),
            _ => None,
        };
        let found = self
            .path
            .split('.')
            .try_fold(object.clone(), |value, key| at(&value, key));
        match found {
            Some(Value::String(text)) => text == self.value,
            Some(other) => format!("{other}") == self.value,
            None => false,
        }
    }
}

/// Compiles a regular expression that a reader has sent.
///
/// # Errors
/// It is none, or takes too much memory.
pub fn regex(text: &str) -> Result<Regex, InvalidCondition> {
    let built = RegexBuilder::new(checked("regex", text)?)
        .size_limit(REGEX_LIMIT)
        .build();
    built.map_err(|error| InvalidCondition::Regex(error.to_string()))
}

/// The text of the condition `name`, if it can be used.
///
/// # Errors
/// It is empty or too long.
pub fn checked<'a>(name: &'static str, text: &'a str) -> Result<&'a str, InvalidCondition> {
    match text.len() {
        0 => Err(InvalidCondition::Empty { name }),
        length if length > TEXT_LIMIT => Err(InvalidCondition::TooLong { name, length }),
        _ => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use pilotlight_core::ids::Qualifier;

    use super::*;
    use crate::entry::Origin;

    fn record(line: &str) -> Entry {
        let origin = Origin {
            function: "local/hello".parse().expect("a key"),
            qualifier: Qualifier::Latest,
            instance: "i1".to_owned(),
        };
        Entry::of_line(&origin, 3, line, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn each_condition_selects_and_refuses() {
        let line = r#"2026-01-31T10:00:00Z stdout 8f3c {"level":"WARN","order":{"id":17,"tags":["a"]},"x":"y"}"#;
        let record = record(line);
        let with = |change: &dyn Fn(&mut Selection)| {
            let mut selection = Selection::default();
            change(&mut selection);
            selection.admits(&record)
        };
        let time = |text: &str| Some(text.parse().expect("a time"));
        let field = |text: &str| vec![Field::parse(text).expect("a field")];
        assert!(with(&|_| {}));
        assert!(with(&|s| s.instance = Some("i1".to_owned())));
        assert!(!with(&|s| s.instance = Some("i2".to_owned())));
        assert!(with(&|s| s.request_id = Some("8f3c".to_owned())));
        assert!(!with(&|s| s.request_id = Some("8f3".to_owned())));
        assert!(with(&|s| s.source = Some(LogSource::Stdout)));
        assert!(!with(&|s| s.source = Some(LogSource::Platform)));
        assert!(with(&|s| s.since = time("2026-01-31T10:00:00Z")));
        assert!(!with(&|s| s.since = time("2026-01-31T10:00:01Z")));
        assert!(!with(&|s| s.until = time("2026-01-31T10:00:00Z")));
        assert!(with(&|s| s.until = time("2026-01-31T10:00:01Z")));
        assert!(with(&|s| s.level = Some(Level::Warn)));
        assert!(!with(&|s| s.level = Some(Level::Error)));
        assert!(with(
            &|s| s.contains = vec!["order".to_owned(), "17".to_owned()]
        ));
        assert!(!with(
            &|s| s.contains = vec!["order".to_owned(), "18".to_owned()]
        ));
        assert!(with(&|s| s.regex = regex(r#""id":\d+"#).ok()));
        assert!(!with(&|s| s.regex = regex("^id").ok()));
        assert!(with(&|s| s.fields = field("order.id=17")));
        assert!(with(&|s| s.fields = field("order.tags.0=a")));
        assert!(with(&|s| s.fields = field("x=y")));
        assert!(!with(&|s| s.fields = field("order.id=1")));
        assert!(!with(&|s| s.fields = field("order.none=1")));
    }

    #[test]
    fn a_page_goes_on_after_a_position_in_both_orders() {
        let record = record("2026-01-31T10:00:00Z stdout - x");
        let mut query = Query::all("local/hello".parse().expect("a key"));
        let mut at = record.position();
        for (sequence, oldest_first, newest_first) in
            [(2, true, false), (3, false, false), (4, false, true)]
        {
            at.sequence = sequence;
            query.after = Some(at.clone());
            query.order = Order::OldestFirst;
            assert_eq!(query.admits(&record), oldest_first, "{sequence}");
            query.order = Order::NewestFirst;
            assert_eq!(query.admits(&record), newest_first, "{sequence}");
        }
    }

    #[test]
    fn a_condition_that_cannot_be_used_is_refused_with_its_name() {
        assert!(
            regex("(")
                .expect_err("no expression")
                .to_string()
                .starts_with("regex")
        );
        assert!(regex(&"(a{1000}){1000}".repeat(3)).is_err());
        assert!(matches!(
            regex(""),
            Err(InvalidCondition::Empty { name: "regex" })
        ));
        for text in ["", "x", "=x"] {
            assert!(Field::parse(text).is_err(), "{text}");
        }
    }
}
