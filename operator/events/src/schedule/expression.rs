//! The expression of a schedule: `cron(…)` of the platform, the five fields of Unix, `rate(…)` and `at(…)`.
//!
//! `croner` reads the fields of cron and finds their times. What a change of clocks means, it says as well: a time that a
//! clock skips comes at the first moment after it, and one that comes twice is taken once; patterns that repeat within the
//! day go on with each hour that there is.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff_of_croner::Timestamp;
use jiff_of_croner::civil::DateTime;
use pilotlight_core::events::retry::EventTime;
use thiserror::Error;

use super::zone::Zone;

/// The longest expression, in characters.
const LENGTH: usize = 256;
/// The longest rate, in seconds: a thousand years of days are no rate.
const RATE_MAX: u64 = 366 * 86_400;

/// See the module.
#[derive(Clone, Debug)]
pub struct Expression {
    text: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Cron(Box<Cron>),
    Rate(Duration),
    At(DateTime),
}

/// It is no expression of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` is no schedule: {why}")]
pub struct InvalidExpression {
    text: String,
    why: String,
}

impl FromStr for Expression {
    type Err = InvalidExpression;

    fn from_str(text: &str) -> Result<Self, InvalidExpression> {
        let kind = parse(text).map_err(|why| InvalidExpression {
            text: text.chars().take(LENGTH).collect(),
            why,
        })?;
        Ok(Expression {
            text: text.to_owned(),
            kind,
        })
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn parse(text: &str) -> Result<Kind, String> {
    if text.len() > LENGTH {
        return Err(format!("it is longer than {LENGTH} characters"));
    }
    let within = |name: &str| {
        text.strip_prefix(name)?
            .strip_prefix('(')?
            .strip_suffix(')')
    };
    let kind = if let Some(fields) = within("cron") {
        cron(fields)?
    } else if let Some(rate) = within("rate") {
        Kind::Rate(self::rate(rate)?)
    } else if let Some(time) = within("at") {
        Kind::At(at(time)?)
    } else {
        unix(text)?
    };
    Ok(kind)
}

/// The platform's six fields: minutes, hours, day of the month, month, day of the week (1 is Sunday), year.
fn cron(fields: &str) -> Result<Kind, String> {
    let split: Vec<&str> = fields.split_ascii_whitespace().collect();
    let [.., day, _, weekday, _] = split[..] else {
        return Err(six(split.len()));
    };
    if split.len() != 6 {
        return Err(six(split.len()));
    }
    if (day == "?") == (weekday == "?") {
        return Err(
            "exactly one of the day of the month (third field) and the day of the week (fifth field) has to be ?"
                .to_owned(),
        );
    }
    let parser = CronParser::builder()
        // A year needs them.
        .seconds(Seconds::Required)
        .year(Year::Required)
        .alternative_weekdays(true)
        // A step may follow a single number there: 0/15.
        .sloppy_ranges(true)
        .build();
    let cron = parser.parse(&format!("0 {fields}"));
    let cron = cron.map_err(|error| error.to_string())?;
    Ok(Kind::Cron(Box::new(cron)))
}

fn six(found: usize) -> String {
    format!(
        "cron(…) has six fields, and here are {found}: minutes, hours, day of the month, month, day of the week, year"
    )
}

fn unix(fields: &str) -> Result<Kind, String> {
    let count = fields.split_ascii_whitespace().count();
    if count != 5 && !fields.starts_with('@') {
        return Err(
            "it is neither cron(MINUTES HOURS DAY MONTH WEEKDAY YEAR), rate(NUMBER UNIT), at(YYYY-MM-DDThh:mm:ss), nor five fields of Unix's cron"
                .to_owned(),
        );
    }
    let parser = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build();
    let cron = parser.parse(fields).map_err(|error| error.to_string())?;
    Ok(Kind::Cron(Box::new(cron)))
}

fn rate(text: &str) -> Result<Duration, String> {
    const FORM: &str = "rate(…) has a number and a unit: rate(1 minute), rate(5 minutes), rate(1 hour), rate(2 days)";
    let Some((number, unit)) = text.trim().split_once(' ') else {
        return Err(FORM.to_owned());
    };
    let number: u64 = number.parse().map_err(|_| FORM.to_owned())?;
    let (unit, is_plural) = match unit.trim().strip_suffix('s') {
        Some(unit) => (unit, true),
        None => (unit.trim(), false),
    };
    let seconds = match unit {
        "minute" => 60,
        "hour" => 3_600,
        "day" => 86_400,
        _ => return Err(FORM.to_owned()),
    };
    if number == 0 {
        return Err("the number of a rate is 1 or more".to_owned());
    }
    if (number == 1) == is_plural {
        return Err(format!("the unit of 1 is `{unit}`, and of more `{unit}s`"));
    }
    let seconds = number.checked_mul(seconds).filter(|all| *all <= RATE_MAX);
    let seconds = seconds.ok_or("a rate is at most 366 days")?;
    Ok(Duration::from_secs(seconds))
}

fn at(text: &str) -> Result<DateTime, String> {
    let time: Result<DateTime, _> = text.trim().parse();
    let time = time.ok().filter(|time| time.subsec_nanosecond() == 0);
    time.ok_or_else(|| "at(…) has a local time: at(2027-01-31T10:00:00)".to_owned())
}

impl Expression {
    /// The first time after `last`. `start`: from when a rate counts.
    pub(super) fn after(
        &self,
        last: EventTime,
        zone: &Zone,
        start: EventTime,
    ) -> Option<EventTime> {
        match &self.kind {
            Kind::Cron(cron) => {
                let last = timestamp(last)?.to_zoned(zone.0.clone());
                let next = cron.find_next_occurrence(&last, false).ok()?;
                event_time(next.timestamp())
            }
            Kind::Rate(every) => {
                let every = every.as_millis() as u64;
                let rounds = match last < start {
                    true => 0,
                    false => (last.0 - start.0) / every + 1,
                };
                Some(EventTime(start.0.checked_add(rounds.checked_mul(every)?)?))
            }
            Kind::At(time) => {
                // A time that the clock skips is as much later as it skips, and of a repeated one the first counts.
                let zoned = time.to_zoned(zone.0.clone()).ok()?;
                event_time(zoned.timestamp()).filter(|time| *time > last)
            }
        }
    }
}

fn timestamp(time: EventTime) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(time.0).ok()?).ok()
}

fn event_time(time: Timestamp) -> Option<EventTime> {
    Some(EventTime(u64::try_from(time.as_millisecond()).ok()?))
}
