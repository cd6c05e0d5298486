//! The gateway: takes calls, queues them, and hands each to an instance.
//!
//! An invocation's way through this crate:
//!
//! ```text
//! server ─► invoke_api ─► driver ─► instance ─► (wire) supervisor
//!    │          ▲  │         │ core::invoke decides   │
//!    │          └──┼─────────┴──── reply ◄────────────┘
//!    │   function_ref, error_response        peers: calls that another gateway's driver places
//!    ├─► management_api ─► catalog          backend, process: instances as local processes
//!    └─► logs_api ─► log_store ◄──────────────┘
//! ```

// What several gateways need, one alone does not.
#![cfg_attr(not(feature = "cluster"), allow(dead_code))]

mod backend;
pub mod catalog;
mod clock;
#[cfg(feature = "cluster")]
pub mod cluster;
mod connect;
mod driver;
mod error_response;
mod function_ref;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod instance;
mod invoke_api;
mod log_marks;
mod log_store;
mod logs_api;
mod management_api;
mod metrics;
mod peers;
pub mod process;
mod server;
#[cfg(test)]
mod tests;

pub use backend::{Backend, Promise, Reservation, Running};
pub use catalog::{Deployment, Source};
pub use connect::{Opening, Stream};
pub use log_store::{LogEntry, LogStore};
pub use server::{Config, Gateway};
