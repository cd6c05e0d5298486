//! The parameters of requests: their shapes, and the limits of the service model.

use jiff::Timestamp;
use serde::Deserialize;

use super::error::LogsError;
use super::names;

/// The most items of a list, and how many there are unless the caller says.
pub(super) const LIST_MAX: usize = 50;
/// The same for events.
pub(super) const EVENTS_MAX: usize = 10_000;
const NAME_MAX: usize = 512;
const IDENTIFIER_MAX: usize = 2048;

/// The group that a request is about.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Group {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
}

impl Group {
    /// Its name.
    pub(super) fn name(&self) -> Result<&str, LogsError> {
        match (&self.log_group_name, &self.log_group_identifier) {
            (Some(name), None) => group_name("logGroupName", name),
            (None, Some(identifier)) => self::identifier("logGroupIdentifier", identifier),
            (Some(_), Some(_)) => Err(LogsError::invalid(
                "LogGroup name and LogGroup ARN are mutually exclusive parameters.",
            )),
            (None, None) => Err(LogsError::invalid(
                "One of logGroupName and logGroupIdentifier must be there.",
            )),
        }
    }
}

pub(super) fn group_name<'a>(field: &str, name: &'a str) -> Result<&'a str, LogsError> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || ".-_/#".contains(c);
    if (1..=NAME_MAX).contains(&name.len()) && name.chars().all(is_allowed) {
        return Ok(name);
    }
    Err(LogsError::invalid(format!(
        "1 validation error detected: Value at '{field}' failed to satisfy constraint: Member must have 1 to {NAME_MAX} \
         characters of [.-_/#A-Za-z0-9]"
    )))
}

/// The name of the group in an identifier.
pub(super) fn identifier<'a>(field: &str, text: &'a str) -> Result<&'a str, LogsError> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_#+=/:,.@-*".contains(c);
    if (1..=IDENTIFIER_MAX).contains(&text.len()) && text.chars().all(is_allowed) {
        return Ok(names::of_identifier(text));
    }
    Err(LogsError::invalid(format!(
        "1 validation error detected: Value at '{field}' failed to satisfy constraint: Member must be the name or the ARN \
         of a log group"
    )))
}

pub(super) fn stream_name<'a>(field: &str, name: &'a str) -> Result<&'a str, LogsError> {
    if (1..=NAME_MAX).contains(&name.len()) && !name.contains([':', '*']) {
        return Ok(name);
    }
    Err(LogsError::invalid(format!(
        "1 validation error detected: Value at '{field}' failed to satisfy constraint: Member must have 1 to {NAME_MAX} \
         characters without ':' and '*'"
    )))
}

/// A list of names of streams.
pub(super) fn stream_names(field: &str, names: &[String]) -> Result<(), LogsError> {
    if !(1..=100).contains(&names.len()) {
        return Err(LogsError::invalid(format!(
            "1 validation error detected: Value at '{field}' failed to satisfy constraint: Member must have 1 to 100 names"
        )));
    }
    let mut names = names.iter();
    names.try_for_each(|name| stream_name(field, name).map(drop))
}

/// `limit`, from 1 to `most`, which is also the default.
pub(super) fn limit(limit: Option<i64>, most: usize) -> Result<usize, LogsError> {
    let Some(limit) = limit else {
        return Ok(most);
    };
    let read = usize::try_from(limit).ok();
    let read = read.filter(|limit| (1..=most).contains(limit));
    read.ok_or_else(|| {
        LogsError::invalid(format!(
            "1 validation error detected: Value '{limit}' at 'limit' failed to satisfy constraint: Member must have value \
             from 1 to {most}"
        ))
    })
}

/// A time in milliseconds since 1970.
pub(super) fn time(field: &str, millis: Option<i64>) -> Result<Option<Timestamp>, LogsError> {
    let Some(millis) = millis else {
        return Ok(None);
    };
    let read = Timestamp::from_millisecond(millis).ok();
    match read.filter(|_| millis >= 0) {
        Some(time) => Ok(Some(time)),
        None => Err(LogsError::invalid(format!(
            "1 validation error detected: Value '{millis}' at '{field}' failed to satisfy constraint: Member must be a \
             time in milliseconds since 1970"
        ))),
    }
}
