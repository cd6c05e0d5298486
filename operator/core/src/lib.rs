//! Every decision Pilotlight takes, and nothing else.
//!
//! The gateway, the controller, the supervisor and the simulation in `tests/` run the same code:
//! callers pass the time and what happened (`handle(now, event)`), collect what they have to do
//! (`poll_action()`) and ask when to call again (`next_wakeup()`). No IO, no clock, no tokio, no kube.
//!
//! An invocation's way through this crate:
//!
//! ```text
//! gateway                                              supervisor
//! invoke::pool ─ admit ─► queue ─ dispatch ─► lease ──► instance ── deliver ──► runtime
//!   └── wanted = in flight + queued: start, stop           └── failure: the caller's error
//!
//! events: when an event is tried, and again
//! gateways: which gateway owns a function        fleet: which pods the controller makes and deletes
//! ```

pub mod access;
pub mod address_rule;
pub mod code_cache;
pub mod credentials;
pub mod election;
pub mod events;
pub mod fleet;
pub mod function;
pub mod gateways;
pub mod identity;
pub mod ids;
pub mod instance;
pub mod intake;
pub mod invoke;
pub mod logs;
pub mod metrics;
pub mod reason;
pub mod redirect;
pub mod shown_url;
pub mod tls;
pub mod traces;
