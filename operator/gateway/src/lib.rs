//! The gateway: takes calls, queues them, and hands each to an instance.
//!
//! An invocation's way through this crate:
//!
//! ```text
//! http::server ─► http::invoke ─► invoker ─► driver ─► instance ─► (wire) supervisor
//!    │                    ▲         │ │         │ core::invoke decides   │
//!    │                    └─────────┘ │ ◄───────┴──── outcome ◄──────────┘
//!    │                                └─► peers ─► (wire) http::parts of the gateway that owns the function
//!    ├─► http::management ─► registry         backend, process: instances as local processes
//!    └─► http::logs ─► logs (hub) ◄──────────────┘
//! ```
//!
//! An event of an asynchronous call goes from `http::invoke` to the durable queue of `events`, and from there to `invoker`.
//! `schedules` sends the events that have no caller there.
//!
//! `http::access` reads who calls, and `access` asks the cluster about callers and remembers its answers.
//!
//! `intake` bounds what callers can hold of the gateway's memory: `http::server` and `http::connections` count
//! connections, `http::invoke` and `http::parts` events, `instance` answers.
//!
//! `gateway` starts all of it; `message` has the messages between handlers, driver and instances.

// A single gateway does not use the code that several gateways need.
#![cfg_attr(not(feature = "cluster"), allow(dead_code))]

mod access;
mod answer_stream;
mod app;
mod backend;
pub mod catalog;
mod clock;
#[cfg(feature = "cluster")]
pub mod cluster;
mod config;
mod destinations;
mod driver;
mod events;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod gateway;
mod histogram;
mod http;
mod instance;
mod intake;
mod invoker;
mod logs;
mod message;
mod metrics;
mod peers;
pub mod process;
mod registry;
mod schedules;
mod span;
mod status_stream;
#[cfg(test)]
mod tests;
mod traces;

pub use access::{AUDIENCE, AUDIT_TARGET, AccessConfig, Judge, Keyring, Later};
pub use backend::{Backend, Promise, Reservation, Running};
pub use catalog::{Deployment, Source};
pub use config::{Config, EventsConfig, OWN_SERIES_DEFAULT};
pub use destinations::{
    DestinationSecrets, DestinationTarget, Destinations, SecretData, SecretFolders,
};
pub use events::time_of_day;
pub use gateway::Gateway;
pub use logs::{ExportPlace, Followed, Hub, LogExports, Tail};
pub use schedules::{
    ScheduleDeployment, ScheduleReport, ScheduleState, ScheduleTimes, WrongSchedule, check_schedule,
};
pub use span::{ACCESS_TARGET, SPAN_TARGET};
pub use traces::Traces;
