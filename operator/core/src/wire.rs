//! What gateway and supervisor say to each other: names and shapes, no IO.
//!
//! Owns the lease call, the status stream and the configuration of an instance, and what a
//! gateway tells the controller. `instance` decides what is said; `docs/design.md` shows the calls
//! in full.
//!
//! ```text
//! POST /lease    event in, answer out; 409 with `pilotlight-refusal` if it never started
//! GET  /status   a line `<epoch> <condition>` now, and one at each change
//! POST /drain    take no further lease, finish, end
//! POST /mark     adds a record to the log, after everything logged before
//! POST /claim    a [`Claim`] as a line of JSON, then code as a tar; 409 if another was first
//! ```

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::function::{FunctionName, MemoryMiB, Timeout};
use crate::instance::{Condition, Status};

pub const LEASE_PATH: &str = "/lease";
pub const STATUS_PATH: &str = "/status";
pub const DRAIN_PATH: &str = "/drain";
pub const CLAIM_PATH: &str = "/claim";
pub const MARK_PATH: &str = "/mark";

/// On a lease: the invocation's request id.
pub const REQUEST_ID: &str = "pilotlight-request-id";
/// On a lease: `1` if the answer shall bring the log's last 4 KB; on the answer: these, base64.
pub const LOG_TAIL: &str = "pilotlight-log-tail";
/// On an answer: `success` or `function-error`.
pub const OUTCOME: &str = "pilotlight-outcome";
pub const OUTCOME_SUCCESS: &str = "success";
pub const OUTCOME_FUNCTION_ERROR: &str = "function-error";
/// On every answer: `<epoch> <condition>` after it.
pub const STATUS: &str = "pilotlight-status";
/// On an instance's first lease: what the cold start took before, as in `Server-Timing`:
/// `queue;dur=0.21, claim;dur=3.4`, in milliseconds. On its answer: what it took in the instance,
/// `unpack;dur=1.02, init;dur=8.4`; the first of these on the answer to a claim too.
pub const PHASES: &str = "pilotlight-phases";
/// On a 409: why the lease never started.
pub const REFUSAL: &str = "pilotlight-refusal";
/// Headers that a lease hands on to the runtime's `next` as they are (contract §1).
pub const CLIENT_CONTEXT: &str = "lambda-runtime-client-context";
pub const FUNCTION_ARN: &str = "lambda-runtime-invoked-function-arn";
pub const TRACE_ID: &str = "lambda-runtime-trace-id";

/// The environment variable that holds an [`InstanceConfig`] as JSON.
pub const CONFIG_VARIABLE: &str = "PILOTLIGHT_INSTANCE";

/// The environment variable that holds an [`Unclaimed`] as JSON.
pub const UNCLAIMED_VARIABLE: &str = "PILOTLIGHT_UNCLAIMED";

/// A supervisor that has this waits for a [`Claim`] before it starts anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unclaimed {
    /// As in [`InstanceConfig`].
    pub listen: String,
    pub ends_with_parent: bool,
    /// Names in a claim's tar are below this: `/` in an image.
    pub root: PathBuf,
    /// A runtime process that is to wait for the claim with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prestart: Option<Prestart>,
    /// Milliseconds: in the place of `following::ORPHANED_AFTER`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orphaned_after_ms: Option<u64>,
}

/// A runtime process that is started before it is known for which function.
///
/// It reads one [`Begin`] as JSON from its standard input, up to the end of that, and is from then
/// on what a process is that was started with it. If the input ends without one, it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prestart {
    pub command: Vec<String>,
    /// Its working directory.
    pub task_root: PathBuf,
    pub environment: BTreeMap<String, String>,
    /// Variables that such a process reads once, as it starts: names, or beginnings of names with
    /// `*` after them. A function that has other values of them gets a process of its own.
    pub reads: Vec<String>,
}

/// What a prestarted process becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Begin {
    /// The program and its arguments, as they would have been started.
    pub command: Vec<String>,
    pub task_root: PathBuf,
    /// The whole environment, in order.
    pub environment: Vec<(String, String)>,
}

/// What an unclaimed instance becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The name that it has from now on.
    pub instance: String,
    /// `None` for one that was started with its configuration, and lacks the code alone.
    pub config: Option<InstanceConfig>,
}

/// In the answer to a claim that came too late: the instance that it has become.
pub const INSTANCE: &str = "pilotlight-instance";

/// Begins the name of each variable of a supervisor that comes from a secret or config map: without
/// it, it is the runtime process's.
pub const GIVEN_PREFIX: &str = "PILOTLIGHT_ENV_";

/// The environment variable that lists, separated by commas, the defaults in the configuration: variables
/// with [`GIVEN_PREFIX`] override these, but not the manifest's or the platform's.
pub const DEFAULTS_VARIABLE: &str = "PILOTLIGHT_DEFAULTS";

/// The environment variable that holds [`Gateways`] as JSON. It is no field of the configuration, because a
/// supervisor of an earlier release refuses a field that it does not know, and ignores a variable.
pub const GATEWAYS_VARIABLE: &str = "PILOTLIGHT_GATEWAYS";

/// The address for an instance's calls of other functions, and part of its identity there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gateways {
    /// `host:port` of any gateway.
    pub address: String,
    /// The function's namespace, for [`CALLER`].
    pub namespace: String,
}

/// On a call that comes through an instance's loopback door: `namespace/function`.
pub const CALLER: &str = "pilotlight-caller";
/// The prefix of all headers between the parts of Pilotlight.
pub const HEADER_PREFIX: &str = "pilotlight-";

/// All that a supervisor needs to know to run one function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstanceConfig {
    /// Where to listen for leases: `host:port`, where port 0 picks one, told by the first log line;
    /// or [`UNIX`] and the path of a socket.
    pub listen: String,
    /// End when standard input ends: the parent process holds the other end.
    pub ends_with_parent: bool,
    pub function: FunctionName,
    pub memory: MemoryMiB,
    pub timeout: Timeout,
    /// Hide the function's error text from callers.
    pub sanitize_errors: bool,
    pub log_format: LogFormat,
    /// Whether what the function prints and the platform's lines are logged.
    pub logs: bool,
    pub log_group: String,
    pub log_stream: String,
    /// The runtime's name in `INIT_START Runtime Version: …`.
    pub runtime: String,
    /// The runtime process and its arguments.
    pub command: Vec<String>,
    /// Its working directory, `LAMBDA_TASK_ROOT`.
    pub task_root: PathBuf,
    /// Its environment. The supervisor adds `AWS_LAMBDA_RUNTIME_API`, what it was given under
    /// [`GIVEN_PREFIX`], and how other functions are called.
    pub environment: BTreeMap<String, String>,
}

/// Text or JSON lines, as `logging.format` of the manifest says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    #[default]
    Text,
    #[serde(rename = "JSON")]
    Json,
}

impl LogFormat {
    /// As `AWS_LAMBDA_LOG_FORMAT` spells it (contract §2).
    pub fn as_str(self) -> &'static str {
        match self {
            LogFormat::Text => "Text",
            LogFormat::Json => "JSON",
        }
    }
}

impl Condition {
    fn as_str(self) -> &'static str {
        match self {
            Condition::Starting => "starting",
            Condition::Ready => "ready",
            Condition::Draining => "draining",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.epoch, self.condition.as_str())
    }
}

/// The text is not `<epoch> <condition>`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an instance's status `<epoch> starting|ready|draining`")]
pub struct NotAStatus(String);

impl FromStr for Status {
    type Err = NotAStatus;

    fn from_str(text: &str) -> Result<Self, NotAStatus> {
        let parse = || {
            let (epoch, condition) = text.split_once(' ')?;
            let conditions = [Condition::Starting, Condition::Ready, Condition::Draining];
            let condition = conditions
                .into_iter()
                .find(|known| known.as_str() == condition)?;
            Some(Status {
                epoch: epoch.parse().ok()?,
                condition,
            })
        };
        parse().ok_or_else(|| NotAStatus(text.to_owned()))
    }
}

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

/// Follows the source of a record whose text is escaped. A gateway of an earlier release takes such a line
/// for a text of the platform's.
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

impl<'a> LogRecord<'a> {
    /// `None` if the line is not a record.
    pub fn parse(line: &'a str) -> Option<Self> {
        let mut parts = line.splitn(4, ' ');
        let (time, source) = (parts.next()?, parts.next()?);
        let request_id = parts.next().map(|id| (id != "-").then_some(id))?;
        let text = parts.next()?;
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

/// Begins an address that is the path of a Unix socket.
pub const UNIX: &str = "unix:";

/// The supervisor's first record: its text is this, then the address it listens on.
pub const LISTENING: &str = "LISTENING ";

/// The text of a platform record that a [`MARK_PATH`] call asks for is this, then the call's body. The record
/// follows everything logged before, and the last record of an invocation that is answered but not over.
pub const MARK: &str = "MARK ";

/// `GET` on a gateway: what it wants of the functions it owns, a [`Demand`] as JSON a line; first
/// all of them, then each that changes. An empty line now and then shows that both ends live.
pub const DEMAND_PATH: &str = "/pilotlight/v1/demand";

/// Which instances of one function shall live. The controller makes those that are missing and
/// deletes all others of the function that no gateway wants.
///
/// During an upgrade one side is newer than the other: unknown fields are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Demand {
    pub function: FunctionName,
    /// Of the Function resource: one of the same name made later is another.
    pub uid: String,
    /// What the instances are made from; the controller makes none of another revision.
    pub revision: String,
    /// Names of instances; part of their pods' names.
    pub instances: BTreeSet<String>,
    /// Those of the instances that this gateway has made from pods of warm pools, by claiming them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claimed: BTreeMap<String, ClaimedPod>,
    pub in_flight: usize,
    pub queued: usize,
    /// This gateway speaks for the function no longer, and says nothing of its instances.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
}

/// A pod of a warm pool that has become an instance of a function. Its labels and its owner follow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedPod {
    pub name: String,
    pub uid: String,
    /// Of the function, when it was claimed.
    pub revision: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_back_as_written() {
        let status = Status {
            epoch: 7,
            condition: Condition::Draining,
        };
        assert_eq!(status.to_string().parse(), Ok(status));
        assert!("7 sleeping".parse::<Status>().is_err());
    }

    #[test]
    fn a_demand_of_a_newer_gateway_is_understood() {
        let text = r#"{"function":"hello","uid":"u","revision":"r","instances":["a"],
            "inFlight":1,"queued":2,"added":{"later":true}}"#;
        let demand: Demand = serde_json::from_str(text).expect("a demand");
        assert_eq!((demand.in_flight, demand.queued), (1, 2));
    }

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
