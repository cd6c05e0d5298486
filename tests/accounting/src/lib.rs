//! An account of invocations: what clients sent and were told, what handlers did.
//!
//! `record` is the format, `account` the checker. Knows nothing of Pilotlight: core's simulation and
//! a run on a real cluster (tests/chaos) are held against the same rules.

pub mod account;
pub mod record;
