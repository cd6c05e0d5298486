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

/// The addresses of the gateways that take part.
#[derive(Debug)]
pub struct Gateways {
    slices: Fold<EndpointSlice, Addresses>,
}

/// Those of one slice.
#[derive(Debug, Default, PartialEq, Eq)]
struct Addresses {
    ready: BTreeSet<SocketAddr>,
    /// Gateways that are not ready, and do not end.
    unready: BTreeSet<SocketAddr>,
}

impl Default for Gateways {
    fn default() -> Self {
        Gateways {
            slices: Fold::new(addresses),
        }
    }
}

impl Gateways {
    pub fn take(&mut self, event: Event<EndpointSlice>) {
        // The fold keeps the addresses; its changes say nothing more.
        self.slices.take(event);
    }

    /// The ready gateways. If there is none, all that do not end: after an outage of the API server, Kubernetes takes each node
    /// for lost until its kubelet reports again. The gateways run all that time, and each would take itself for the only one.
    pub fn present(&self) -> BTreeSet<SocketAddr> {
        let all = |of: fn(&Addresses) -> &BTreeSet<SocketAddr>| -> BTreeSet<SocketAddr> {
            self.slices.kept().flat_map(of).copied().collect()
        };
        let ready = all(|slice| &slice.ready);
        match ready.is_empty() {
            true => all(|slice| &slice.unready),
            false => ready,
        }
    }
}

/// Where the gateways of a slice listen for other parts. Empty for a slice without such a port: its gateways are of a release
/// that had one port for everything.
fn addresses(slice: &EndpointSlice) -> Addresses {
    let mut addresses = Addresses::default();
    let mut ports = slice.ports.iter().flatten();
    let port = ports.find(|port| port.name.as_deref() == Some(PARTS_PORT));
    let port = port.and_then(|port| u16::try_from(port.port?).ok());
    let Some(port) = port else {
        return addresses;
    };
    for endpoint in &slice.endpoints {
        let conditions = endpoint.conditions.as_ref();
        let is_ready = conditions.is_none_or(|conditions| conditions.ready != Some(false));
        let ends = conditions.is_some_and(|conditions| conditions.terminating == Some(true));
        let of = match (is_ready, ends) {
            (true, _) => &mut addresses.ready,
            (false, false) => &mut addresses.unready,
            (false, true) => continue,
        };
        let ips = endpoint.addresses.iter();
        let ips = ips.filter_map(|address| address.parse().ok());
        of.extend(ips.map(|ip| SocketAddr::new(ip, port)));
    }
    addresses
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slice(name: &str, ports: &Value, endpoints: &[(u8, bool, bool)]) -> EndpointSlice {
        let endpoint = |(last, ready, terminating): &(u8, bool, bool)| {
            json!({
                "addresses": [format!("10.0.0.{last}")],
                "conditions": {"ready": ready, "terminating": terminating},
            })
        };
        let slice = json!({
            "metadata": {"name": name},
            "addressType": "IPv4",
            "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
            "ports": ports,
        });
        serde_json::from_value(slice).expect("a slice")
    }

    fn present(slices: Vec<EndpointSlice>) -> Vec<String> {
        let mut gateways = Gateways::default();
        for slice in slices {
            gateways.take(Event::Apply(slice));
        }
        let present = gateways.present().into_iter();
        present.map(|address| address.to_string()).collect()
    }

    const ENDPOINTS: [(u8, bool, bool); 2] = [(1, true, false), (2, false, false)];

    #[test]
    fn ready_gateways_are_found_by_the_name_of_their_port_for_parts() {
        let status = json!({"name": "status", "port": 8081});
        let both = json!([status, {"name": "parts", "port": 8082}]);
        assert_eq!(
            present(vec![slice("a", &both, &ENDPOINTS)]),
            ["10.0.0.1:8082"]
        );
        let without = slice("a", &json!([status]), &ENDPOINTS);
        assert!(present(vec![without]).is_empty());
    }

    #[test]
    fn if_no_gateway_is_ready_all_are_there_that_do_not_end() {
        let ports = json!([{"name": "parts", "port": 80}]);
        let of = |name: &str, endpoints: &[(u8, bool, bool)]| slice(name, &ports, endpoints);
        let lost = of("a", &[(1, false, false), (2, false, true)]);
        let other = of("b", &[(3, false, false)]);
        assert_eq!(
            present(vec![lost.clone(), other]),
            ["10.0.0.1:80", "10.0.0.3:80"]
        );
        // One that is ready is enough, wherever it is.
        assert_eq!(
            present(vec![lost, of("b", &[(3, true, false)])]),
            ["10.0.0.3:80"]
        );
    }
}
