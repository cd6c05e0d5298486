//! What a supervisor is started with: JSON in variables of its environment.
//!
//! The gateway's `process` and the controller's `reconcile/build` write it; the supervisor's `main`
//! reads it. A claim brings the same configuration later (`claim`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use pilotlight_core::function::{FunctionName, MemoryMiB, Timeout};
use pilotlight_core::instance::parts::OwnArchive;
use pilotlight_core::instance::prestart::Prestart;
use serde::{Deserialize, Serialize};

/// The environment variable that holds an [`InstanceConfig`] as JSON.
pub const CONFIG_VARIABLE: &str = "PILOTLIGHT_INSTANCE";

/// The environment variable that holds an [`Unclaimed`] as JSON.
pub const UNCLAIMED_VARIABLE: &str = "PILOTLIGHT_UNCLAIMED";

/// A supervisor that has this waits for a [`Claim`](crate::claim::Claim) before it starts anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unclaimed {
    /// As in [`InstanceConfig`].
    pub listen: String,
    pub ends_with_parent: bool,
    /// Names in a claim's tar are below this: `/` in an image.
    pub root: PathBuf,
    /// The instance that this pod was made as. It then has its configuration, and a claim brings the code alone.
    /// `None` in a warm pool, where a claim brings both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The archives of the code and the layers of such a pod, in their order. A claim brings exactly these, as their author
    /// made them. `None` in a warm pool, and from a controller of an earlier release: then a claim brings tars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archives: Option<Vec<OwnArchive>>,
    /// A runtime process that waits for the claim together with the supervisor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prestart: Option<Prestart>,
    /// Replaces `following::ORPHANED_AFTER`, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orphaned_after_ms: Option<u64>,
}

/// The prefix of a supervisor's variables that come from a secret or a config map. The runtime process gets
/// them without the prefix.
pub const GIVEN_PREFIX: &str = "PILOTLIGHT_ENV_";

/// The environment variable that lists the names of defaults in the configuration, separated by commas.
/// Variables with [`GIVEN_PREFIX`] override these, but not those of the manifest or of the platform.
pub const DEFAULTS_VARIABLE: &str = "PILOTLIGHT_DEFAULTS";

/// The environment variable that holds [`DoorConfig`] as JSON. It is no field of the configuration, because a
/// supervisor of an earlier release refuses a field that it does not know, and ignores a variable.
pub const GATEWAYS_VARIABLE: &str = "PILOTLIGHT_GATEWAYS";

/// The environment variable with the `host:port` at which a supervisor answers the kubelet's probe. Without it there
/// is no such port.
pub const HEALTH_VARIABLE: &str = "PILOTLIGHT_HEALTH";
/// The only path there. The answer is 200 while the supervisor runs.
pub const HEALTH_PATH: &str = "/healthz";

/// The environment variable with the bytes a second that a supervisor logs of what the function prints. Without it
/// there is no limit.
pub const LOG_RATE_VARIABLE: &str = "PILOTLIGHT_LOG_RATE";

/// The environment variable that says, by being there, that the installation keeps traces: the supervisor then takes the
/// segments of the function.
pub const TRACES_VARIABLE: &str = "PILOTLIGHT_TRACES";

/// Where an instance calls other functions, and the namespace that its calls name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DoorConfig {
    /// `host:port` of any gateway.
    pub address: String,
    /// The function's namespace, for [`CALLER`](crate::caller::CALLER).
    pub namespace: String,
    /// `None`: calls are in plain text. Otherwise the gateway shows a certificate of the authorities in
    /// [`IdentityConfig`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<DoorTls>,
    /// The file with the token that proves to gateways whose calls they are. `None`: calls prove nothing, or what the
    /// function shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<PathBuf>,
}

/// Whether gateways may be called without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DoorTls {
    /// Gateways of a release that speaks no TLS are called without it.
    Preferred,
    Required,
}

/// The environment variable that holds [`IdentityConfig`] as JSON. It is no field of the configuration, for the same
/// reason.
pub const IDENTITY_VARIABLE: &str = "PILOTLIGHT_INSTANCE_IDENTITY";

/// How an instance recognises gateways, and proves to them which pod it is. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityConfig {
    /// The certificates of the release's authorities in PEM.
    pub authorities: String,
    /// The file with the token of the pod.
    pub token: PathBuf,
    /// Refuse connections without TLS.
    pub needs_tls: bool,
}

/// What a supervisor needs to run one function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstanceConfig {
    /// The address for leases: `host:port`, or `unix:` and the path of a socket. With port 0 the kernel chooses
    /// a port, which the first log record reports.
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
    /// Its environment. The supervisor adds `AWS_LAMBDA_RUNTIME_API`, the variables with [`GIVEN_PREFIX`], and
    /// the address for calls of other functions.
    pub environment: BTreeMap<String, String>,
    /// A supervisor that does not know this field refuses the configuration, which is better than a function that runs
    /// on although its author forbids it.
    #[serde(default, skip_serializing_if = "BetweenEvents::is_run")]
    pub between_events: BetweenEvents,
}

/// Whether the processes of a function may work while no invocation is at hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BetweenEvents {
    /// They may go on.
    #[default]
    Run,
    /// They stand still until the next event.
    Freeze,
}

impl BetweenEvents {
    fn is_run(&self) -> bool {
        *self == BetweenEvents::Run
    }
}

impl InstanceConfig {
    /// Whether callers may read the function's own log in an answer (`X-Amz-Log-Type: Tail`).
    pub fn shows_log_to_callers(&self) -> bool {
        self.logs && !self.sanitize_errors
    }
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
