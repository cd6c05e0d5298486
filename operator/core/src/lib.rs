//! Every decision Pilotlight takes, and nothing else.
//!
//! The gateway's driver and the simulation in `tests/` run the same code: callers bring the
//! time and what happened (`handle(now, event)`), collect what is to be done (`poll_action()`)
//! and ask when to come back (`next_wakeup()`). No IO, no clock, no tokio, no kube.
//!
//! An invocation's way through this crate:
//!
//! ```text
//! gateway                                          supervisor
//! pool ── admit ──► queue ── dispatch ──► lease ──► instance ── deliver ──► runtime
//!   └── wanted = in flight + queued: start, stop        └── failure: what the caller is told
//! ```

mod creations;
pub mod demand;
pub mod election;
pub mod failure;
pub mod fleet;
pub mod following;
pub mod function;
pub mod instance;
pub mod launch;
pub mod memory;
pub mod ownership;
pub mod phases;
pub mod pool;
pub mod prestart;
pub mod queue;
mod roster;
pub mod stock;
pub mod trace;
