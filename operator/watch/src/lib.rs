//! Watches of the API server, for the controller and the gateways.
//!
//! ```text
//! API server ─ kube's watcher ─ backoff ─► events ─ decoded ─► fold ─► changes ─► controller, gateways
//!                                                               └────► gateways: who the gateways are
//! ```
//!
//! Owns how a watch pauses between attempts, what happens to objects that this version cannot read, and how
//! lists and events become changes. It decides nothing and writes nothing.

mod backoff;
mod decoded;
mod fold;
mod gateways;

pub use backoff::Backoff;
pub use decoded::{Decoded, Unreadable};
pub use fold::{Change, Fold};
pub use gateways::{Gateways, gateways};
