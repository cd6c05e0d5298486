//! Decides for a gateway which functions have series of their own (`places`), and reads the metrics that a function
//! writes into its log (`embedded`).
//!
//! It never counts invocations and never writes a format: the gateway's `metrics` does.

pub mod embedded;
pub mod places;
