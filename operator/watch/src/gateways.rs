//! The gateways of a cluster, as the endpoints of their Service show them.
//!
//! Read by the controller, which asks each for its demand, and by the gateways, which share the
//! functions out among themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use futures_util::Stream;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};

use crate::Patience;

/// The name of the port where a gateway listens for the controller and the other gateways.
const PARTS_PORT: &str = "parts";

/// The watch of the endpoints of a Service that has [`PARTS_PORT`]; [`Gateways`] takes in what it tells.
pub fn gateways(
    client: Client,
    namespace: &str,
    service: &str,
) -> impl Stream<Item = Result<Event<EndpointSlice>, watcher::Error>> + Send + use<> {
    let slices = Api::namespaced(client, namespace);
    let service = format!("kubernetes.io/service-name={service}");
    watcher(slices, watcher::Config::default().labels(&service)).backoff(Patience::default())
}

/// Where the ready gateways listen.
#[derive(Debug, Default)]
pub struct Gateways {
    slices: BTreeMap<String, BTreeSet<SocketAddr>>,
    /// Of a list that is not complete yet.
    listed: BTreeMap<String, BTreeSet<SocketAddr>>,
}

impl Gateways {
    pub fn take(&mut self, event: Event<EndpointSlice>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(slice) => {
                self.listed
                    .insert(slice.name_any(), ready_addresses(&slice));
            }
            Event::InitDone => self.slices = std::mem::take(&mut self.listed),
            Event::Apply(slice) => {
                self.slices
                    .insert(slice.name_any(), ready_addresses(&slice));
            }
            Event::Delete(slice) => {
                self.slices.remove(&slice.name_any());
            }
        }
    }

    pub fn ready(&self) -> BTreeSet<SocketAddr> {
        self.slices.values().flatten().copied().collect()
    }
}

/// Where the ready ones of a slice listen for other parts. None in a slice without such a port: it has gateways
/// of a release that had one port for everything.
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
