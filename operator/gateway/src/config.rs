//! The settings of one gateway, as the command line passes them.
//!
//! `cli` fills them in; `driver`, the backends and the request handlers read them. Nothing here reads the
//! environment.

use std::sync::Arc;
use std::time::Duration;

use pilotlight_core::events::retry::EventTime;
use pilotlight_core::function::FunctionName;
use pilotlight_core::ids::{Namespace, PoolId};
use pilotlight_core::intake::limits::{IntakeLimits, MEMORY_DEFAULT};
use pilotlight_core::invoke::pool::{Bounds, Pacing};
use pilotlight_core::reason::Audience;
use pilotlight_events::queue::EventQueue;
use pilotlight_events::schedule::records::ScheduleRecords;
use pilotlight_net::identity::public::PublicDoor;

use crate::access::AccessConfig;
use crate::destinations::Destinations;
use crate::logs::LogExports;
use crate::traces::Traces;

/// How many functions have series of their own, unless an option says otherwise.
pub const OWN_SERIES_DEFAULT: u32 = 500;

/// The settings that a gateway gets at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// The namespace of the functions that callers name without one.
    pub namespace: Namespace,
    /// The region in ARNs and in the variable `AWS_REGION`.
    pub region: String,
    /// The account number in ARNs.
    pub account: String,
    /// The maximum number of instances of a function that has no reserved concurrency.
    pub concurrency: usize,
    /// How many bytes of payloads may wait for one function.
    pub queue_bytes: usize,
    /// How long an invocation may wait for an instance.
    pub queue_wait: Duration,
    pub pacing: Pacing,
    /// Who gets the answers, and so how much they say of a failure.
    pub audience: Audience,
    /// Whether the management calls answer with the values of `environment`.
    pub shows_environment: bool,
    /// What callers have to prove.
    pub access: AccessConfig,
    /// How many functions have series of their own in the metrics; the others share one set.
    pub own_series: usize,
    /// What its listeners accept.
    pub limits: IntakeLimits,
    /// The names by which this gateway may be called, besides addresses and localhost, so that no web page of a
    /// developer's browser can call it. `None`: by any name and from any page, as in a cluster.
    pub hosts: Option<Arc<[String]>>,
    /// The TLS of the listener for callers.
    pub door: PublicDoor,
    /// Where spans go; `None`: nowhere.
    pub traces: Option<Traces>,
    /// Where log records go beside their store; `None`: nowhere.
    pub log_exports: Option<LogExports>,
    /// Where the events of asynchronous calls are kept; `None`: such calls are refused.
    pub events: Option<EventsConfig>,
    /// What sends the records of events that have ended.
    pub destinations: Destinations,
    /// Where schedules are remembered: beside those events.
    pub schedules: Option<Arc<dyn ScheduleRecords>>,
}

/// Where the events of asynchronous calls are kept, and by which clock they are tried again.
#[derive(Clone, Debug)]
pub struct EventsConfig {
    pub queue: Arc<dyn EventQueue>,
    pub clock: fn() -> EventTime,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            namespace: Namespace::local(),
            region: "us-east-1".to_owned(),
            account: "000000000000".to_owned(),
            concurrency: 1000,
            queue_bytes: 256 * 1024 * 1024,
            queue_wait: Duration::from_secs(30),
            pacing: Pacing::default(),
            audience: Audience::default(),
            shows_environment: false,
            access: AccessConfig::default(),
            own_series: OWN_SERIES_DEFAULT as usize,
            limits: IntakeLimits::of(MEMORY_DEFAULT, usize::MAX),
            hosts: None,
            door: PublicDoor::off(),
            traces: None,
            log_exports: None,
            events: None,
            destinations: Destinations::default(),
            schedules: None,
        }
    }
}

impl Config {
    pub(crate) fn scope(&self) -> Scope {
        Scope {
            namespace: self.namespace.clone(),
            region: self.region.clone(),
            account: self.account.clone(),
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            queue_bytes: self.queue_bytes,
            queue_wait: self.queue_wait,
            pacing: self.pacing,
        }
    }
}

/// What a caller's function name is completed with: the namespace, and the region and account in ARNs.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) namespace: Namespace,
    pub(crate) region: String,
    pub(crate) account: String,
}

impl Scope {
    /// The newest version of the function that a caller names without a namespace.
    pub(crate) fn latest(&self, name: FunctionName) -> PoolId {
        PoolId::latest(self.namespace.clone(), name)
    }

    /// The ARN of a function. `name` may end in `:` and a qualifier.
    pub(crate) fn arn(&self, name: &str) -> String {
        format!(
            "arn:aws:lambda:{}:{}:function:{name}",
            self.region, self.account
        )
    }
}
