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

/// The watch of the endpoints of a Service; [`Gateways`] takes in what it tells.
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

/// Where the ready ones of a slice listen, by its first port.
fn ready_addresses(slice: &EndpointSlice) -> BTreeSet<SocketAddr> {
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
