//! The `Function` resource: group `pilotlight.dev`, version `v1alpha1`.
//!
//! Owns the fields, their defaults and their spelling; `manifest` reads it from YAML, and the CRD is
//! generated from it. `pilotlight-core::function` has the ranges of the values, `code` the forms of the
//! code, `pod` the settings of pods. Never resolves a path, an image or a config map.

use std::collections::BTreeMap;
use std::fmt;

use pilotlight_core::events::retry::EventPolicy;
use pilotlight_core::function::{
    Concurrency, EnvName, EnvValue, EphemeralStorageMiB, EventRetries, FunctionName, Handler,
    KeepAlive, LogRetention, MaxEventAge, MemoryMiB, QueueLimit, Runtime, Timeout,
};
use pilotlight_core::ids::Namespace;
use pilotlight_wire::config::{BetweenEvents, LogFormat};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::code::{Archive, Code, Layers};
use crate::defaults::{is_default, is_on};
use crate::destination::Destination;
use crate::pod::{EnvironmentSource, PodSettings};

/// A function: what runs, and within which limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Function {
    pub api_version: ApiVersion,
    pub kind: Kind,
    pub metadata: Metadata,
    pub spec: FunctionSpec,
}

/// The version of the resource. There is only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApiVersion {
    #[serde(rename = "pilotlight.dev/v1alpha1")]
    V1Alpha1,
}

/// The kind of the resource. Manifests hold functions only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Function,
}

/// The name of a function, and what marks it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    pub name: FunctionName,
    /// Absent: the namespace to which it is applied. Local mode has no namespaces and ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// How a function runs.
///
/// The resource has no `scale` subresource: instances follow load, so `kubectl scale` and autoscalers have
/// no number to set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "cluster", derive(kube_derive::CustomResource))]
#[cfg_attr(
    feature = "cluster",
    kube(
        crates(kube_core = "::kube_core"),
        group = "pilotlight.dev",
        version = "v1alpha1",
        kind = "Function",
        root = "FunctionResource",
        namespaced,
        status = "crate::status::FunctionStatus",
        shortname = "fn",
        category = "all",
        category = "pilotlight",
        doc = "A function: what runs, and within which limits.",
        printcolumn = r#"{"name":"Runtime","type":"string","jsonPath":".spec.runtime"}"#,
        printcolumn = r#"{"name":"Handler","type":"string","jsonPath":".status.handler"}"#,
        printcolumn = r#"{"name":"Memory","type":"integer","jsonPath":".spec.memory"}"#,
        printcolumn = r#"{"name":"Instances","type":"integer","jsonPath":".status.instances"}"#,
        printcolumn = r#"{"name":"Ready","type":"integer","jsonPath":".status.ready"}"#,
        printcolumn = r#"{"name":"In-Flight","type":"integer","jsonPath":".status.inFlight"}"#,
        printcolumn = r#"{"name":"Events","type":"integer","jsonPath":".status.events"}"#,
        printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason","priority":1}"#,
        printcolumn = r#"{"name":"Pool","type":"string","jsonPath":".status.warmPool","priority":1}"#,
        printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
        schema = "derived"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FunctionSpec {
    pub runtime: Runtime,
    /// Absent: the default in the runtime's description (`pilotlight-runtimes`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<Handler>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Description>,
    /// Memory of one instance, in MiB: 128 (default) to 10240.
    #[serde(default, skip_serializing_if = "is_default")]
    pub memory: MemoryMiB,
    /// How long one invocation may run, in seconds: 1 to 900, default 3.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeout: Timeout,
    /// Variables of the runtime process, in addition to the platform's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<EnvName, EnvValue>,
    /// More variables, from secrets and config maps of a cluster; a later entry wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment_from: Vec<EnvironmentSource>,
    pub code: Code,
    /// Archives unpacked under `/opt`, where each runtime looks for libraries.
    #[serde(default, skip_serializing_if = "Layers::is_empty")]
    pub layers: Layers,
    /// Size of one instance's `/tmp`, in MiB: 512 (default) to 10240.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ephemeral_storage: EphemeralStorageMiB,
    #[serde(default, skip_serializing_if = "is_default")]
    pub concurrency: ConcurrencySpec,
    /// How long an idle instance stays warm, in seconds: 0 to 3600, default 600.
    #[serde(default, skip_serializing_if = "is_default")]
    pub keep_alive: KeepAlive,
    #[serde(default, skip_serializing_if = "is_default")]
    pub logging: Logging,
    #[serde(default, skip_serializing_if = "is_default")]
    pub errors: ErrorDetail,
    /// What becomes of the events of asynchronous calls.
    #[serde(default, rename = "async", skip_serializing_if = "is_default")]
    pub asynchronous: AsyncSpec,
    /// Whether the function's processes may go on while no event is at hand.
    #[serde(default, skip_serializing_if = "is_default")]
    pub between_events: BetweenEvents,
    /// Whether calls that go round in a circle are stopped.
    #[serde(default, skip_serializing_if = "is_default")]
    pub recursive_loop: RecursiveLoop,
    /// Where the function's pods run and under which account. Local mode ignores it.
    #[serde(default, skip_serializing_if = "PodSettings::is_empty")]
    pub pod: PodSettings,
}

/// The directories of code and of layers in the images.
pub const TASK: &str = "var/task";
pub const OPT: &str = "opt";

impl FunctionSpec {
    /// The archives of a function, each with its field in the manifest: the code, then the layers in their order.
    pub fn archives(&self) -> impl Iterator<Item = (String, &Archive)> {
        self.placed_archives()
            .map(|(field, _, archive)| (field, archive))
    }

    /// The same, each with the directory below the root that instances unpack it to.
    pub fn placed_archives(&self) -> impl Iterator<Item = (String, &'static str, &Archive)> {
        let code = match &self.code {
            Code::Archive(archive) => Some(("spec.code.archive".to_owned(), TASK, archive)),
            _ => None,
        };
        let layers = self.layers.iter().enumerate();
        let layers = layers.map(|(place, layer)| (format!("spec.layers[{place}]"), OPT, layer));
        code.into_iter().chain(layers)
    }
}

/// How many events run and wait at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "ConcurrencyFields")]
pub struct ConcurrencySpec {
    /// Instances that are set aside for the function, which are also its limit: 0 to 10000; 0 throttles
    /// every event. Absent: the function shares what the others leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<Concurrency>,
    /// How many events may wait while all instances are busy: 0 to 10000, default 100; 0 refuses
    /// at once with 429.
    #[serde(default, skip_serializing_if = "is_default")]
    pub queue: QueueLimit,
    /// Instances that are kept initialised, 0 to 10000, whether they are called or not; at most
    /// `reserved`, where that is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioned: Option<Concurrency>,
}

/// Concurrency as it is written, before its fields are checked against each other.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConcurrencyFields {
    #[serde(default)]
    reserved: Option<Concurrency>,
    #[serde(default)]
    queue: QueueLimit,
    #[serde(default)]
    provisioned: Option<Concurrency>,
}

/// More instances would be kept initialised than the function may have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "has `provisioned` {provisioned} above `reserved` {reserved}: lower one or raise the other"
)]
struct ProvisionedAboveReserved {
    provisioned: u32,
    reserved: u32,
}

impl TryFrom<ConcurrencyFields> for ConcurrencySpec {
    type Error = ProvisionedAboveReserved;

    fn try_from(fields: ConcurrencyFields) -> Result<Self, ProvisionedAboveReserved> {
        let numbers = fields.provisioned.zip(fields.reserved);
        if let Some((provisioned, reserved)) = numbers
            && provisioned > reserved
        {
            return Err(ProvisionedAboveReserved {
                provisioned: provisioned.get(),
                reserved: reserved.get(),
            });
        }
        Ok(Self {
            reserved: fields.reserved,
            queue: fields.queue,
            provisioned: fields.provisioned,
        })
    }
}

/// What becomes of the events of asynchronous calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AsyncSpec {
    /// How old an event may be when an attempt begins, in seconds: 60 to 21600 (default).
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_age: MaxEventAge,
    /// How many attempts follow one in which the function failed: 0 to 2 (default).
    #[serde(default, skip_serializing_if = "is_default")]
    pub retries: EventRetries,
    /// What gets the record of each event that the function has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_success: Option<Destination>,
    /// What gets the record of each event that was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<Destination>,
}

impl AsyncSpec {
    /// The destinations that it has, each with the name of its field.
    pub fn destinations(&self) -> impl Iterator<Item = (&'static str, &Destination)> {
        let both = [
            ("onSuccess", self.on_success.as_ref()),
            ("onFailure", self.on_failure.as_ref()),
        ];
        let both = both.into_iter();
        both.filter_map(|(field, destination)| Some((field, destination?)))
    }

    pub fn policy(&self) -> EventPolicy {
        EventPolicy {
            max_age: self.max_age.duration(),
            // 0 to 2.
            retries: self.retries.get() as u8,
        }
    }
}

/// What happens when a function has led to its own call again and again, in the words of the platform's
/// PutFunctionRecursionConfig.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecursiveLoop {
    /// The next call is refused.
    #[default]
    Terminate,
    Allow,
}

/// Where the function's log lines go and how they look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "LoggingFields")]
pub struct Logging {
    #[serde(skip_serializing_if = "is_default")]
    pub format: LogFormat,
    /// What the function's own logger writes, with the JSON format. Absent: from INFO on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<LogLevel>,
    /// Absent: as long as the log store keeps records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<LogRetention>,
    /// False drops the function's output; the answers stay the same.
    #[serde(skip_serializing_if = "is_on")]
    pub enabled: bool,
}

/// The least severe records that a function's logger writes, in the spelling of `AWS_LAMBDA_LOG_LEVEL` (contract §2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LogLevel {
    Trace,
    Debug,
    #[default]
    Info,
    Warn,
    Error,
    Fatal,
}

impl LogLevel {
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Trace => "TRACE",
            LogLevel::Debug => "DEBUG",
            LogLevel::Info => "INFO",
            LogLevel::Warn => "WARN",
            LogLevel::Error => "ERROR",
            LogLevel::Fatal => "FATAL",
        }
    }
}

/// Logging as it is written, before its fields are checked against each other.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LoggingFields {
    #[serde(default)]
    format: LogFormat,
    #[serde(default)]
    level: Option<LogLevel>,
    #[serde(default)]
    retention: Option<LogRetention>,
    #[serde(default = "on", deserialize_with = "unquoted")]
    enabled: bool,
}

fn on() -> bool {
    true
}

/// The clients filter by level in the JSON format alone.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("has a `level` without `format: JSON`: add the format, or remove the level")]
struct LevelOfText;

impl TryFrom<LoggingFields> for Logging {
    type Error = LevelOfText;

    fn try_from(fields: LoggingFields) -> Result<Self, LevelOfText> {
        if fields.level.is_some() && fields.format != LogFormat::Json {
            return Err(LevelOfText);
        }
        Ok(Self {
            format: fields.format,
            level: fields.level,
            retention: fields.retention,
            enabled: fields.enabled,
        })
    }
}

/// Refuses text. The YAML parser would accept `"no"` in quotes as false, and the API server does not.
pub(crate) fn unquoted<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    struct Unquoted;

    impl Visitor<'_> for Unquoted {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("true or false")
        }

        fn visit_bool<E: de::Error>(self, value: bool) -> Result<bool, E> {
            Ok(value)
        }
    }

    // Serde places its own error at the mapping; a new error is placed at the value.
    let value = deserializer.deserialize_any(Unquoted);
    value.map_err(|_| de::Error::custom("must be true or false"))
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            level: None,
            retention: None,
            enabled: true,
        }
    }
}

/// How much of a failure the caller sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorDetail {
    /// Type, message and stack trace, as the runtime reported them.
    #[default]
    Full,
    /// Only the type. The rest stays in the log.
    Sanitized,
}

/// A line for people, of at most 256 characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Description(String);

/// A description of more than 256 characters.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("must have at most 256 characters, got {0}")]
pub struct DescriptionTooLong(usize);

impl Description {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Description {
    type Error = DescriptionTooLong;

    fn try_from(text: String) -> Result<Self, DescriptionTooLong> {
        match text.chars().count() {
            0..=256 => Ok(Self(text)),
            length => Err(DescriptionTooLong(length)),
        }
    }
}

impl From<Description> for String {
    fn from(description: Description) -> Self {
        description.0
    }
}
