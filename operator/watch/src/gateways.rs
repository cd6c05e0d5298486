//! The gateways of a cluster, as the endpoints of their Service list them.
//!
//! The controller connects to each of them for its demand; the gateways distribute the functions among
//! themselves. Both feed [`Gateways`] with the events of [`gateways`].

use std::collections::BTreeSet;
use std::net::SocketAddr;

use futures_util::Stream;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};

use crate::backoff::Backoff;
use crate::fold::Fold;

/// The name of the port where a gateway listens for the controller and the other gateways.
const PARTS_PORT: &str = "parts";

/// The watch of the endpoints of a Service that has the port `parts`.
pub fn gateways(
    client: Client,
    namespace: &str,
    service: &str,
) -> impl Stream<Item = Result<Event<EndpointSlice>, watcher::Error>> + Send + use<> {
    let slices = Api::namespaced(client, namespace);
    let service = format!("kubernetes.io/service-name={service}");
    watcher(slices, watcher::Config::default().labels(&service)).backoff(Backoff::default())
}

/// The addresses of the ready gateways.
#[derive(Debug)]
pub struct Gateways {
    slices: Fold<EndpointSlice, BTreeSet<SocketAddr>>,
}

impl Default for Gateways {
    fn default() -> Self {
        Gateways {
            slices: Fold::new(ready_addresses),
        }
    }
}

impl Gateways {
    pub fn take(&mut self, event: Event<EndpointSlice>) {
        // The fold keeps the addresses; its changes say nothing more.
        self.slices.take(event);
    }

    pub fn ready(&self) -> BTreeSet<SocketAddr> {
        self.slices.kept().flatten().copied().collect()
    }
}

/// The addresses at which the ready gateways of a slice listen for other parts. Empty for a slice without such a
/// port: its gateways are of a release that had one port for everything.
fn ready_addresses(slice: &EndpointSlice) -> BTreeSet<SocketAddr> {
    let mut ports = slice.ports.iter().flatten();
    let port = ports.find(|port| port.name.as_deref() == Some(PARTS_PORT));
    let port = port.and_then(|port| u16::try_from(port.port?).ok());
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slice(ports: Value) -> EndpointSlice {
        let endpoint = |last: u8, ready: bool| json!({"addresses": [format!("10.0.0.{last}")], "conditions": {"ready": ready}});
        let slice = json!({
            "metadata": {"name": "pilotlight-parts-1"},
            "addressType": "IPv4",
            "endpoints": [endpoint(1, true), endpoint(2, false)],
            "ports": ports,
        });
        serde_json::from_value(slice).expect("a slice")
    }

    #[test]
    fn ready_gateways_are_found_by_the_name_of_their_port_for_parts() {
        let status = json!({"name": "status", "port": 8081});
        let both = json!([status, {"name": "parts", "port": 8082}]);
        let expected = BTreeSet::from([SocketAddr::from(([10, 0, 0, 1], 8082))]);
        assert_eq!(ready_addresses(&slice(both)), expected);
        assert!(ready_addresses(&slice(json!([status]))).is_empty());
    }
}
