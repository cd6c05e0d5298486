//! What controller and gateways of a cluster watch alike, though neither knows the other.
//!
//! Owns how a watch rests between two attempts, and who the gateways are. What follows from either
//! is theirs.

mod gateways;
mod patience;

pub use gateways::{Gateways, gateways};
pub use patience::Patience;
