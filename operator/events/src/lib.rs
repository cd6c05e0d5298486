//! Events of asynchronous invocation, from the caller's 202 to their end.
//!
//! ```text
//! event ─► queue: accept (durable) ─► take ─► settle: gone, or again at a later time
//!            ├── sqlite: local mode
//!            └── jetstream: clusters
//! ended ─► destination: what others get about it
//! schedule: when an event is made without a caller
//! ```
//!
//! When an event is tried, and whose turn it is, is decided in `pilotlight_core::events`. Nothing here runs a function.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(feature = "destinations")]
pub mod destination;
pub mod ended;
pub mod event;
#[cfg(feature = "jetstream")]
pub mod jetstream;
pub mod queue;
#[cfg(feature = "schedule")]
pub mod schedule;
#[cfg(feature = "sqlite")]
pub mod sqlite;
