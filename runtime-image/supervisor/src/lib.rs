//! The first process of an instance. It runs one runtime process, which handles one event at a time.
//!
//! ```text
//! gateway ── gateways ──► control_api ──► worker ◄── runtime_api ── runtime process
//!     ▲         └► claim                    │ core's Machine decides       ▲ start, kill: process
//!     │                                     └── log ──► stdout             └ measure: memory
//!     └────── calls of other functions ── door ◄── SDK ── handler
//! ```
//!
//! All tasks run on one thread. `worker` owns all state and is never borrowed across an await.

mod claim;
mod clock;
mod connection;
mod control_api;
mod door;
mod entrypoint;
mod environment;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gateways;
pub mod hardening;
pub mod health;
pub mod in_process;
mod invocation;
mod lifecycle;
mod log;
mod memory;
mod output;
mod platform_log;
mod prestart;
mod process;
mod process_table;
mod records;
mod relay;
mod response;
mod runtime_api;
mod segments;
mod streamed;
mod worker;

pub use crate::hardening::Variables;
pub use crate::lifecycle::{Neighbours, Purpose, run};
