//! The stream in which a gateway tells the controller what it wants of the functions it owns.
//!
//! `core::demand` has its content. The gateway's `cluster/demand` writes it, the controller's
//! `gateways` reads it.

/// `GET` on a gateway: what it wants of the functions it owns, a [`Demand`](pilotlight_core::gateways::demand::Demand) as JSON a line; first
/// all of them, then each that changes. An empty line now and then shows that both ends live.
pub const DEMAND_PATH: &str = "/pilotlight/v1/demand";
