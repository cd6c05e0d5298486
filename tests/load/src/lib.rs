//! The load tool of all tests and benchmarks: it sends invocations, records them, and judges the records.
//!
//! ```text
//! arrivals ─► accounted ─► connection ─► the platform ─► handler.py ─► journal
//!    │            └──────────► records ◄────────────────────────────────┘
//!    └─────► timing ─► connection                records ─► account (check)
//! ```
//!
//! `record` is the format and `account` the checker. They know nothing about Pilotlight and do no IO, so
//! that the same rules judge core's simulation and a run on a real cluster. Everything else needs the
//! feature `command`.

pub mod account;
pub mod record;

#[cfg(feature = "command")]
pub mod accounted;
#[cfg(feature = "command")]
pub mod arrivals;
#[cfg(feature = "command")]
pub mod connection;
#[cfg(feature = "command")]
pub mod invocation;
#[cfg(feature = "command")]
pub mod journal;
#[cfg(feature = "command")]
pub mod records;
#[cfg(feature = "command")]
pub mod timing;
