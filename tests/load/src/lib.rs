//! The load tool of all tests and benchmarks: it sends invocations, records them, and judges the records.
//!
//! ```text
//! arrivals ─► accounted ─► connection ─► the platform ─► handler.py ─► journal
//!    │            └──────────► records ◄────────────────────────────────┘
//!    └─────► timing ─► connection                records ─► account (check)
//! ```
//!
//! `record` is the format and `account` the checker. Neither knows anything about Pilotlight nor does
//! any IO: core's simulation and a run on a real cluster are judged by the same rules. Everything else
//! needs the feature `command`.

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
