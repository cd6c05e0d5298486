//! A function's invocations at the gateway that owns it: waiting, dispatched, rejected.
//!
//! `pool` decides; `queue` holds the invocations that wait, `roster` the instances by state, `starts`
//! the pace of starts and their backoff, `deadline` when an instance is given up, `budget` the limit that a
//! function's pools share. Fed by the gateway's driver. Nothing here knows a payload or an address. The other end of a lease
//! is `crate::instance`.

pub mod budget;
pub mod deadline;
pub mod pool;
pub mod queue;
mod roster;
mod starts;
