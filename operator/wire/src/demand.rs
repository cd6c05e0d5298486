//! The stream in which a gateway reports to the controller which instances it wants.
//!
//! `core::gateways::demand` has its content. The gateway's `cluster/demand` writes it, the controller's
//! `gateways` reads it.

/// `GET` on a gateway. Each line is a [`Demand`](pilotlight_core::gateways::demand::Demand) as JSON: first one for each
/// function that the gateway owns, then one at each change. An empty line at least once a second shows that the
/// gateway is alive.
pub const DEMAND_PATH: &str = "/pilotlight/v1/demand";
