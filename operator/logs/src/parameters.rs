//! What a reader asks for, as names and values: the parameters of the gateway's API and the options of `pilotlight logs`.
//!
//! One reading for both, so that the same words select the same records with a gateway and without one. Each error names the
//! parameter. Knows nothing of HTTP.

use jiff::Timestamp;
use pilotlight_core::ids::FunctionKey;
use pilotlight_wire::log_record::LogSource;
use thiserror::Error;

use crate::entry::Position;
use crate::invocations::{self, Invocations, Pages};
use crate::query::{Field, InvalidCondition, Order, PAGE_LIMIT, Query, checked, regex};
use crate::store::{Page, StoreError};

/// All parameters, in the order in which errors name them.
pub const NAMES: [&str; 16] = [
    "instance",
    "request-id",
    "since",
    "until",
    "level",
    "source",
    "text",
    "regex",
    "field",
    "failed",
    "slow",
    "cold",
    "order",
    "limit",
    "after",
    "follow",
];
/// How often a parameter may be given that selects by several values.
const REPEATS: usize = 16;

/// What a reader asks for.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The first page. Its limit is [`PAGE_LIMIT`] where the reader has named none.
    pub query: Query,
    pub invocations: Invocations,
    /// The reader wants one page. Otherwise it wants all records.
    pub is_one_page: bool,
    /// The reader also wants the records that come later.
    pub follow: bool,
}

/// A parameter cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidParameter {
    #[error("`{0}` is no parameter: use {names}", names = NAMES.join(", "))]
    Unknown(String),
    #[error("{0} is given twice")]
    Twice(&'static str),
    #[error("{0} is given more than {REPEATS} times")]
    TooOften(&'static str),
    #[error("{name} must be {form}, got `{got}`")]
    Form {
        name: &'static str,
        form: &'static str,
        got: String,
    },
    #[error(transparent)]
    Condition(#[from] InvalidCondition),
    #[error("{0}: {1}")]
    Level(&'static str, crate::level::InvalidLevel),
    #[error("follow cannot be used with {0}: new records come after all others")]
    Follow(&'static str),
}

impl Reading {
    /// Reads the parameters for a function's log.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn of<'a>(
        function: FunctionKey,
        parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, InvalidParameter> {
        let mut reading = Reading {
            query: Query::all(function),
            invocations: Invocations::default(),
            is_one_page: false,
            follow: false,
        };
        let mut given = Vec::new();
        for (name, value) in parameters {
            let known = NAMES.into_iter().find(|known| *known == name);
            let name = known.ok_or_else(|| InvalidParameter::Unknown(shortened(name)))?;
            if given.contains(&name) && !["text", "field"].contains(&name) {
                return Err(InvalidParameter::Twice(name));
            }
            given.push(name);
            reading.take(name, value)?;
        }
        if reading.follow {
            let opposed = [
                ("order", reading.query.order == Order::NewestFirst),
                ("limit", reading.is_one_page),
                ("until", reading.query.selection.until.is_some()),
            ];
            if let Some((name, _)) = opposed.into_iter().find(|(_, is_given)| *is_given) {
                return Err(InvalidParameter::Follow(name));
            }
        }
        Ok(reading)
    }

    /// The page that [`Reading::query`] describes now.
    ///
    /// # Errors
    /// Why the log cannot be read.
    pub async fn page(&self, pages: &dyn Pages) -> Result<Page, StoreError> {
        match self.invocations.admits_all() {
            true => pages.page(&self.query).await,
            false => invocations::page(pages, &self.query, &self.invocations).await,
        }
    }

    fn take(&mut self, name: &'static str, value: &str) -> Result<(), InvalidParameter> {
        let selection = &mut self.query.selection;
        match name {
            "instance" => selection.instance = Some(checked(name, value)?.to_owned()),
            "request-id" => selection.request_id = Some(checked(name, value)?.to_owned()),
            "since" => selection.since = Some(time(name, value)?),
            "until" => selection.until = Some(time(name, value)?),
            "level" => {
                // No level is longer than what an error repeats.
                let level = shortened(value).parse();
                let level = level.map_err(|error| InvalidParameter::Level(name, error));
                selection.level = Some(level?);
            }
            "source" => selection.source = Some(source(name, value)?),
            "text" => {
                several(name, selection.contains.len())?;
                selection.contains.push(checked(name, value)?.to_owned());
            }
            "regex" => selection.regex = Some(regex(value)?),
            "field" => {
                several(name, selection.fields.len())?;
                selection.fields.push(Field::parse(value)?);
            }
            "failed" => self.invocations.failed = switch(name, value)?,
            "slow" => self.invocations.slow = Some(millis(name, value)?),
            "cold" => self.invocations.cold = switch(name, value)?,
            "order" => {
                self.query.order = match value {
                    "oldest-first" => Order::OldestFirst,
                    "newest-first" => Order::NewestFirst,
                    got => return Err(form(name, "oldest-first or newest-first", got)),
                }
            }
            "limit" => {
                let limit = value.parse().ok();
                let limit = limit.filter(|limit| (1..=PAGE_LIMIT).contains(limit));
                let limit = limit.ok_or_else(|| form(name, "a number from 1 to 10000", value))?;
                (self.query.limit, self.is_one_page) = (limit, true);
            }
            "after" => {
                let after = Position::of_cursor(value);
                let wanted = "a cursor of an earlier answer: TIME,INSTANCE,NUMBER";
                self.query.after = Some(after.ok_or_else(|| form(name, wanted, value))?);
            }
            _ => self.follow = switch(name, value)?,
        }
        Ok(())
    }
}

impl Position {
    /// The position as a text: `TIME,INSTANCE,NUMBER`.
    pub fn cursor(&self) -> String {
        format!("{},{},{}", self.time, self.instance, self.sequence)
    }

    /// Reads such a text.
    pub fn of_cursor(text: &str) -> Option<Self> {
        let (time, rest) = text.split_once(',')?;
        let (instance, sequence) = rest.rsplit_once(',')?;
        Some(Position {
            time: time.parse().ok()?,
            instance: instance.to_owned(),
            sequence: sequence.parse().ok()?,
        })
    }
}

fn several(name: &'static str, count: usize) -> Result<(), InvalidParameter> {
    match count < REPEATS {
        true => Ok(()),
        false => Err(InvalidParameter::TooOften(name)),
    }
}

fn time(name: &'static str, text: &str) -> Result<Timestamp, InvalidParameter> {
    let time = text.parse();
    time.map_err(|_| form(name, "a time such as 2026-01-31T10:00:00Z", text))
}

fn switch(name: &'static str, text: &str) -> Result<bool, InvalidParameter> {
    let switch = text.parse();
    switch.map_err(|_| form(name, "true or false", text))
}

fn millis(name: &'static str, text: &str) -> Result<f64, InvalidParameter> {
    let millis = text.parse::<f64>().ok();
    let millis = millis.filter(|millis| millis.is_finite() && *millis >= 0.0);
    millis.ok_or_else(|| form(name, "a number of milliseconds, 0 or more", text))
}

fn source(name: &'static str, text: &str) -> Result<LogSource, InvalidParameter> {
    let sources = [LogSource::Stdout, LogSource::Stderr, LogSource::Platform];
    let source = sources.into_iter().find(|source| source.as_str() == text);
    source.ok_or_else(|| form(name, "stdout, stderr or platform", text))
}

fn form(name: &'static str, form: &'static str, got: &str) -> InvalidParameter {
    InvalidParameter::Form {
        name,
        form,
        got: shortened(got),
    }
}

/// What an error repeats of a text that a reader has sent.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::Level;

    fn reading(parameters: &[(&str, &str)]) -> Result<Reading, InvalidParameter> {
        let function = "local/hello".parse().expect("a key");
        Reading::of(function, parameters.iter().copied())
    }

    #[test]
    fn each_parameter_has_its_meaning() {
        let read = reading(&[
            ("instance", "i1"),
            ("request-id", "r1"),
            ("since", "2026-01-31T10:00:00Z"),
            ("level", "warning"),
            ("source", "stderr"),
            ("text", "a"),
            ("text", "b"),
            ("regex", "^c"),
            ("field", "d.e=f=g"),
            ("failed", "true"),
            ("slow", "2.5"),
            ("cold", "false"),
            ("after", "2026-01-31T10:00:00.000001Z,i,1,7"),
            ("follow", "true"),
        ]);
        let read = read.expect("all are good");
        let selection = &read.query.selection;
        assert_eq!(selection.instance.as_deref(), Some("i1"));
        assert_eq!(selection.request_id.as_deref(), Some("r1"));
        assert_eq!(selection.since, "2026-01-31T10:00:00Z".parse().ok());
        assert_eq!(selection.level, Some(Level::Warn));
        assert_eq!(selection.source, Some(LogSource::Stderr));
        assert_eq!(selection.contains, ["a", "b"]);
        assert_eq!(selection.regex.as_ref().map(|r| r.as_str()), Some("^c"));
        let field = &selection.fields[0];
        assert_eq!((field.path.as_str(), field.value.as_str()), ("d.e", "f=g"));
        let wanted = Invocations {
            failed: true,
            slow: Some(2.5),
            cold: false,
        };
        assert_eq!(read.invocations, wanted);
        let after = read.query.after.expect("a position");
        assert_eq!((after.instance.as_str(), after.sequence), ("i,1", 7));
        assert_eq!(after.cursor(), "2026-01-31T10:00:00.000001Z,i,1,7");
        assert!(read.follow && !read.is_one_page);
        let page = reading(&[("limit", "5"), ("order", "newest-first")]).expect("good");
        assert!(page.is_one_page && page.query.limit == 5);
        assert_eq!(page.query.order, Order::NewestFirst);
        assert_eq!(reading(&[]).expect("good").query.limit, PAGE_LIMIT);
    }

    #[test]
    fn an_error_names_the_parameter() {
        let long = "x".repeat(2000);
        let often = [("text", "a"); 17];
        for (parameters, said) in [
            (
                &[("filter", "a")][..],
                "`filter` is no parameter: use instance, ",
            ),
            (&[("since", "today")], "since must be a time such as"),
            (&[("until", "")], "until must be a time such as"),
            (&[("level", "loud")], "level: `loud` is no level"),
            (
                &[("source", "x")],
                "source must be stdout, stderr or platform, got `x`",
            ),
            (&[("text", "")], "text is empty"),
            (&[("text", &long)], "text has 2000 bytes; at most 1024"),
            (&often, "text is given more than 16 times"),
            (&[("regex", "(")], "regex is no regular expression"),
            (&[("field", "a")], "field must have the form PATH=VALUE"),
            (
                &[("failed", "yes")],
                "failed must be true or false, got `yes`",
            ),
            (&[("slow", "-1")], "slow must be a number of milliseconds"),
            (&[("slow", "NaN")], "slow must be a number of milliseconds"),
            (
                &[("order", "up")],
                "order must be oldest-first or newest-first",
            ),
            (
                &[("limit", "0")],
                "limit must be a number from 1 to 10000, got `0`",
            ),
            (
                &[("limit", "10001")],
                "limit must be a number from 1 to 10000",
            ),
            (
                &[("after", "x")],
                "after must be a cursor of an earlier answer",
            ),
            (
                &[("instance", "a"), ("instance", "b")],
                "instance is given twice",
            ),
            (
                &[("follow", "true"), ("limit", "1")],
                "follow cannot be used with limit",
            ),
            (
                &[("follow", "true"), ("order", "newest-first")],
                "follow cannot be used with order",
            ),
        ] {
            let error = reading(parameters).expect_err(said).to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
