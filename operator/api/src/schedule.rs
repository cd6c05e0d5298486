//! The `Schedule` resource: when a function gets an event without a caller.
//!
//! Owns the fields. What an expression and a time zone mean, `pilotlight-events` knows (`schedule`); here only their form is
//! checked, by the same rules as `schedule_schema` states for the API server. `status` has the status.

use std::fmt;

use jiff::Timestamp;
use pilotlight_core::events::retry::EventTime;
use pilotlight_core::function::{EventRetries, FunctionName, Jitter, MaxEventAge};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::defaults::is_default;
use crate::function::{ApiVersion, Metadata, unquoted};

/// Events of one function at the times of an expression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "cluster", derive(kube_derive::CustomResource))]
#[cfg_attr(
    feature = "cluster",
    kube(
        crates(kube_core = "::kube_core"),
        group = "pilotlight.dev",
        version = "v1alpha1",
        kind = "Schedule",
        root = "ScheduleResource",
        namespaced,
        status = "crate::status::ScheduleStatus",
        shortname = "sch",
        category = "all",
        category = "pilotlight",
        doc = "Events of one function at the times of an expression.",
        printcolumn = r#"{"name":"Function","type":"string","jsonPath":".spec.function"}"#,
        printcolumn = r#"{"name":"Schedule","type":"string","jsonPath":".spec.schedule"}"#,
        printcolumn = r#"{"name":"Zone","type":"string","jsonPath":".spec.timeZone"}"#,
        printcolumn = r#"{"name":"Last","type":"date","jsonPath":".status.lastTime"}"#,
        printcolumn = r#"{"name":"Next","type":"string","jsonPath":".status.nextTime"}"#,
        printcolumn = r#"{"name":"Missed","type":"integer","jsonPath":".status.missed","priority":1}"#,
        printcolumn = r#"{"name":"Suspended","type":"boolean","jsonPath":".spec.suspend"}"#,
        printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
        printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason","priority":1}"#,
        printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
        schema = "derived"
    )
)]
#[serde(rename_all = "camelCase", try_from = "ScheduleFields")]
pub struct ScheduleSpec {
    /// A function of the same namespace.
    pub function: FunctionName,
    /// `cron(…)`, `rate(…)`, `at(…)`, or the five fields of Unix's cron.
    pub schedule: ScheduleText,
    /// The time zone of the expression. Absent: UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<TimeZoneName>,
    /// An event is sent up to this long after its time, in seconds: 0 (default) to 86400.
    #[serde(skip_serializing_if = "is_default")]
    pub jitter: Jitter,
    /// What the function gets. Absent: `{}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<ScheduleInput>,
    /// There is no time before this one. Absent: the schedule's creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<ScheduleTime>,
    /// There is no time after this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<ScheduleTime>,
    /// Its times pass without events, and are not missed.
    #[serde(skip_serializing_if = "is_default")]
    pub suspend: bool,
    #[serde(rename = "async", skip_serializing_if = "is_default")]
    pub asynchronous: ScheduleAsyncSpec,
}

/// A schedule as it is written, before its fields are checked against each other.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ScheduleFields {
    function: FunctionName,
    schedule: ScheduleText,
    #[serde(default)]
    time_zone: Option<TimeZoneName>,
    #[serde(default)]
    jitter: Jitter,
    #[serde(default)]
    input: Option<ScheduleInput>,
    #[serde(default)]
    start: Option<ScheduleTime>,
    #[serde(default)]
    end: Option<ScheduleTime>,
    #[serde(default, deserialize_with = "unquoted")]
    suspend: bool,
    #[serde(default, rename = "async")]
    asynchronous: ScheduleAsyncSpec,
}

/// What becomes of the schedule's events, in place of what the function declares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleAsyncSpec {
    /// How old an event may be when an attempt begins, and how late it may be sent, in seconds: 60 to 21600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<MaxEventAge>,
    /// How many attempts follow one in which the function failed: 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<EventRetries>,
}

/// It would end before it begins.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("has `end` {end} not after `start` {start}: move one of them")]
struct EndBeforeStart {
    start: ScheduleTime,
    end: ScheduleTime,
}

impl TryFrom<ScheduleFields> for ScheduleSpec {
    type Error = EndBeforeStart;

    fn try_from(fields: ScheduleFields) -> Result<Self, EndBeforeStart> {
        if let (Some(start), Some(end)) = (fields.start, fields.end)
            && end <= start
        {
            return Err(EndBeforeStart { start, end });
        }
        Ok(ScheduleSpec {
            function: fields.function,
            schedule: fields.schedule,
            time_zone: fields.time_zone,
            jitter: fields.jitter,
            input: fields.input,
            start: fields.start,
            end: fields.end,
            suspend: fields.suspend,
            asynchronous: fields.asynchronous,
        })
    }
}

/// A schedule: whose events, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Schedule {
    pub api_version: ApiVersion,
    pub kind: ScheduleKind,
    pub metadata: Metadata,
    pub spec: ScheduleSpec,
}

/// The kind of the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScheduleKind {
    Schedule,
}

/// An expression that has the form of one. Whether it has a time, only its reader knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ScheduleText(String);

/// The name of a time zone, by its form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeZoneName(String);

/// What is wrong with one value of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidSchedule {
    #[error("{}", Self::FORM)]
    Form,
    #[error(
        "must be a name of the IANA database with at most 64 characters, such as `Europe/Zurich` or `UTC`"
    )]
    Zone,
    #[error("must be a time such as `2027-01-31T10:00:00Z` or `2027-01-31T10:00:00+01:00`")]
    Time,
    #[error("must have at most 262144 bytes as JSON")]
    Input,
}

impl InvalidSchedule {
    /// For the API server as well.
    pub(crate) const FORM: &'static str = "must be cron(MINUTES HOURS DAY MONTH WEEKDAY YEAR), rate(NUMBER UNIT) such as \
                                           rate(5 minutes), at(YYYY-MM-DDThh:mm:ss), or five fields of Unix's cron";
}

impl ScheduleText {
    /// The longest one, in characters.
    pub(crate) const LENGTH: usize = 256;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ScheduleText {
    type Error = InvalidSchedule;

    fn try_from(text: String) -> Result<Self, InvalidSchedule> {
        match text.len() <= Self::LENGTH && has_form(&text) {
            true => Ok(ScheduleText(text)),
            false => Err(InvalidSchedule::Form),
        }
    }
}

impl From<ScheduleText> for String {
    fn from(text: ScheduleText) -> Self {
        text.0
    }
}

/// What the rule of `schedule_schema` says in the language of the API server.
fn has_form(text: &str) -> bool {
    let within = |name: &str| {
        text.strip_prefix(name)?
            .strip_prefix('(')?
            .strip_suffix(')')
    };
    if let Some(fields) = within("cron") {
        return are_fields(fields, 6);
    }
    if let Some(rate) = within("rate") {
        let Some((number, unit)) = rate.split_once(' ') else {
            return false;
        };
        let is_number = !number.starts_with('0')
            && (1..=9).contains(&number.len())
            && number.bytes().all(|byte| byte.is_ascii_digit());
        let unit = unit.strip_suffix('s').unwrap_or(unit);
        return is_number && ["minute", "hour", "day"].contains(&unit);
    }
    if let Some(time) = within("at") {
        let form = "0000-00-00T00:00:00";
        let mut pairs = time.bytes().zip(form.bytes());
        return time.len() == form.len()
            && pairs.all(|(byte, wanted)| match wanted {
                b'0' => byte.is_ascii_digit(),
                _ => byte == wanted,
            });
    }
    are_fields(text, 5)
}

fn are_fields(text: &str, count: usize) -> bool {
    let is_field = |field: &str| {
        let mut bytes = field.bytes();
        !field.is_empty()
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"*,/?#-".contains(&byte))
    };
    let fields: Vec<&str> = text.split(' ').filter(|field| !field.is_empty()).collect();
    let is_trimmed = !text.starts_with(' ') && !text.ends_with(' ');
    is_trimmed && fields.len() == count && fields.into_iter().all(is_field)
}

impl TimeZoneName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TimeZoneName {
    type Error = InvalidSchedule;

    fn try_from(name: String) -> Result<Self, InvalidSchedule> {
        let is_part = |part: &str| {
            let mut bytes = part.bytes();
            !part.is_empty()
                && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_+-".contains(&byte))
        };
        match name.len() <= 64 && name.split('/').all(is_part) {
            true => Ok(TimeZoneName(name)),
            false => Err(InvalidSchedule::Zone),
        }
    }
}

impl From<TimeZoneName> for String {
    fn from(name: TimeZoneName) -> Self {
        name.0
    }
}

/// A moment, with its offset from UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ScheduleTime(Timestamp);

impl ScheduleTime {
    /// Not before 1970.
    pub fn event_time(self) -> EventTime {
        EventTime(u64::try_from(self.0.as_millisecond()).unwrap_or(0))
    }
}

impl TryFrom<String> for ScheduleTime {
    type Error = InvalidSchedule;

    fn try_from(text: String) -> Result<Self, InvalidSchedule> {
        let has_form = text.len() <= 64 && text.is_ascii();
        let time = has_form.then(|| text.parse()).and_then(Result::ok);
        time.map(ScheduleTime).ok_or(InvalidSchedule::Time)
    }
}

impl From<ScheduleTime> for String {
    fn from(time: ScheduleTime) -> Self {
        time.0.to_string()
    }
}

impl fmt::Display for ScheduleTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the function gets: any JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct ScheduleInput(Value);

impl ScheduleInput {
    /// The largest one, in bytes. The API server's own bound is not far above.
    const LIMIT: usize = 256 * 1024;

    pub fn to_json(&self) -> String {
        self.0.to_string()
    }
}

impl TryFrom<Value> for ScheduleInput {
    type Error = InvalidSchedule;

    fn try_from(value: Value) -> Result<Self, InvalidSchedule> {
        match value.to_string().len() <= Self::LIMIT {
            true => Ok(ScheduleInput(value)),
            false => Err(InvalidSchedule::Input),
        }
    }
}

impl From<ScheduleInput> for Value {
    fn from(input: ScheduleInput) -> Self {
        input.0
    }
}
