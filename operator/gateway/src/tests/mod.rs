//! A whole gateway in one thread, with paused time.
//!
//! ```text
//! Caller ─► routes ─► driver ─► instance ─► stream in memory ─► supervisor ◄─ stream ─ Instance
//!                        └─ Backend: Stage ◄── Start (a test says when, and whether) ┘
//! ```
//!
//! Routes, driver, instances and supervisors are what is shipped. A test takes the place of the backend
//! (`stage`), of the callers, and of each runtime process (`instance`), so it decides the order of all
//! events. Time moves on only while nothing else can happen.

#[cfg(feature = "cluster")]
pub(crate) mod authority;
mod instance;
mod peers;
mod stage;

mod abandon;
mod access;
mod apis;
mod cloudwatch;
mod deploys;
mod destinations;
mod dispatch;
mod events;
mod forward;
mod handover;
mod hidden;
mod intake;
mod limits;
mod listeners;
mod log_exports;
mod logs;
mod lost;
mod metrics;
mod not_started;
#[cfg(feature = "cluster")]
mod roles;
mod schedules;
mod shutdown;
mod signed;
mod spans;
mod state;
mod streams;
#[cfg(feature = "cluster")]
mod tls;
mod traces;
