//! The gateways of a cluster, as the endpoints of their Service show them.
//!
//! Read by the controller, which asks each for its demand, and by the gateways, which share the
//! functions out among themselves.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use k8s_openapi::api::discovery::v1::EndpointSlice;

/// Where the ready ones of a slice listen, by its first port.
pub fn ready_addresses(slice: &EndpointSlice) -> BTreeSet<SocketAddr> {
    let ports = slice.ports.iter().flatten();
    let port = ports
        .filter_map(|port| u16::try_from(port.port?).ok())
        .next();
    let Some(port) = port else {
        return BTreeSet::new();
    };
    let ready = slice.endpoints.iter().filter(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.is_none_or(|conditions| conditions.ready != Some(false))
    });
    let addresses = ready.flat_map(|endpoint| &endpoint.addresses);
    let addresses = addresses.filter_map(|address| address.parse().ok());
    addresses.map(|ip| SocketAddr::new(ip, port)).collect()
}
