//! The gateway in a cluster: Functions from the API server, instances as pods.
//!
//! ```text
//! API server ─ watch ─► Functions ─► deployments ─► driver ─► backend ─► demand ─► controller
//!      └────── watch ─► pods ─────────────────────────────────────┘
//! ```
//!
//! Owns the watches and the order of a start: first all pods and Functions are known, then those of
//! the functions that are this gateway's (`peers`) are taken over: living instances are adopted,
//! then the functions are claimed (`functions`). An invocation never waits for the API server; while that is
//! away, what is known stays in force.

mod backend;
mod claim;
mod codes;
mod demand;
mod door;
mod functions;
mod peers;
mod pods;
mod stock;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::routing::get;
use axum::{Router, middleware};
use futures_util::{Stream, StreamExt, future};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_resource};
use kube::{Api, Client};
use pilotlight_api::labels;
use pilotlight_api::resource::FunctionResource;
use pilotlight_core::gateways::handover::Handover;
use pilotlight_core::ids::Namespace;
use pilotlight_runtimes::Runtimes;
use pilotlight_watch::{Backoff, Decoded, Fold};
use pilotlight_wire::demand::DEMAND_PATH;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::backend::PodBackend;
use self::codes::Codes;
use self::demand::Ledger;
use self::door::{Door, pass};
use self::functions::Functions;
use self::peers::ClusterPeers;
use self::pods::{Identity, Pods};
use crate::config::Config;
use crate::gateway::{DRIVER_FAILED, Gateway};
use crate::http::server;
use crate::peers::Peers;

/// Where a gateway of a cluster listens.
#[derive(Debug)]
pub struct Listeners {
    /// For callers.
    pub api: TcpListener,
    /// For the controller and the other gateways.
    pub parts: TcpListener,
    /// For probes and metrics.
    pub status: TcpListener,
}

/// The settings of a gateway in a cluster, besides its [`Config`].
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// The namespace of the Functions.
    pub namespace: Namespace,
    /// A directory for code from archives.
    pub cache: PathBuf,
    pub runtimes: Runtimes,
    /// Its Service, by namespace and name, and where the other gateways behind that reach this
    /// one; `None` if there is no other.
    pub among: Option<Among>,
}

/// See [`ClusterConfig::among`].
#[derive(Clone, Debug)]
pub struct Among {
    pub namespace: String,
    pub service: String,
    pub address: SocketAddr,
}

/// Why the gateway cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("no way to the API server: {0}")]
    Client(#[source] Box<kube::Error>),
    #[error("the watch of {0} ended")]
    Watch(&'static str),
    #[error("{DRIVER_FAILED}")]
    Driver,
    #[error("the server broke: {0}")]
    Server(#[from] io::Error),
}

/// Serves the Functions of one namespace until `stop` and nobody calls any more, then lets the calls
/// at hand finish. The instances live on for the next gateway.
pub async fn serve(
    place: ClusterConfig,
    config: Config,
    listeners: Listeners,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let client = Client::try_default()
        .await
        .map_err(|error| ServeError::Client(Box::new(error)))?;
    let namespace = place.namespace.as_str();
    let (pods, ledger) = (Pods::default(), Ledger::new());
    let codes = Codes::new(place.cache.clone());
    let (refused, refusals) = watch::channel(Arc::default());
    let backend = PodBackend {
        pods: pods.clone(),
        ledger: ledger.clone(),
        refusals,
        codes: codes.clone(),
        runtimes: place.runtimes.clone(),
        region: config.region.clone(),
    };
    let cluster = place
        .among
        .as_ref()
        .map(|among| ClusterPeers::new(among.address));
    let peers = cluster
        .clone()
        .map(|peers| Arc::new(peers) as Arc<dyn Peers>);
    let gateway = Gateway::start_among(peers, config, Arc::new(backend), None);

    let (pods_known, pods_are_known) = oneshot::channel();
    let ours = format!("{}={}", labels::MANAGED_BY, labels::MANAGER);
    let selected = watcher::Config::default().labels(&ours);
    let pod_events = watch_resource(Api::<Pod>::namespaced(client.clone(), namespace), selected);
    let following_pods = follow_pods(
        pod_events.backoff(Backoff::default()),
        pods.clone(),
        pods_known,
    );
    let functions = Api::<Decoded<FunctionResource>>::namespaced(client.clone(), namespace);
    let function_events = watch_resource(functions, watcher::Config::default());
    let mut functions = Functions {
        gateway: gateway.clone(),
        pods,
        ledger: ledger.clone(),
        codes,
        refused,
        namespace: place.namespace.clone(),
        known: BTreeMap::new(),
        handover: Handover::default(),
        unreadable: BTreeMap::new(),
        members: cluster.as_ref().map(ClusterPeers::members),
    };
    let (deployed, are_deployed) = watch::channel(false);
    let following_functions = async {
        // An error means that the watch has ended; that is told below.
        let _ = pods_are_known.await;
        functions
            .follow(function_events.backoff(Backoff::default()), deployed)
            .await;
    };
    let following_peers = async {
        match (&cluster, &place.among) {
            (Some(peers), Some(among)) => {
                let (namespace, service) = (&among.namespace, &among.service);
                peers
                    .follow(pilotlight_watch::gateways(client, namespace, service))
                    .await;
            }
            _ => std::future::pending().await,
        }
    };
    let members = cluster.as_ref().map(ClusterPeers::members);
    let door = Door::new(are_deployed, members, stop);
    let end = CancellationToken::new();
    let until = end.clone();
    let demand = get(move || async move { ledger.stream(until) });
    let serve = |routes: Router, listener| {
        let routes = routes.layer(middleware::from_fn_with_state(door.clone(), pass));
        server::serve(routes, listener, end.clone())
    };
    let serving = future::try_join3(
        serve(gateway.api(), listeners.api),
        serve(gateway.parts().route(DEMAND_PATH, demand), listeners.parts),
        serve(gateway.status(), listeners.status),
    );
    let serving = async {
        let closing = async {
            door.clone().closes().await;
            end.cancel();
        };
        future::join(serving, closing).await.0
    };
    tokio::select! {
        served = serving => Ok(served.map(|_| ())?),
        () = following_pods => Err(ServeError::Watch("pods")),
        () = following_functions => Err(ServeError::Watch("Functions")),
        () = following_peers => Err(ServeError::Watch("gateways")),
        () = gateway.driver_failed() => Err(ServeError::Driver),
    }
}

async fn follow_pods(
    events: impl Stream<Item = Result<Event<Pod>, watcher::Error>>,
    pods: Pods,
    known: oneshot::Sender<()>,
) {
    let (mut known, mut fold) = (Some(known), Fold::new(Identity::of));
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                fold.take(event)
                    .into_iter()
                    .for_each(|change| pods.take(change));
                if let Some(known) = known.take_if(|_| fold.is_complete()) {
                    // Whoever waited may have been stopped.
                    let _ = known.send(());
                }
            }
            Err(error) => tracing::warn!(%error, "the watch of pods is interrupted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use pilotlight_api::pod_state::PodState;
    use serde_json::json;
    use tokio::sync::mpsc;

    use super::*;

    fn pod(instance: &str) -> Pod {
        let pod = json!({
            "metadata": {
                "name": instance,
                "uid": instance,
                "labels": {labels::FUNCTION: "hello", labels::INSTANCE: instance},
            },
            "spec": {"nodeName": "node-1", "containers": []},
            "status": {"phase": "Pending"},
        });
        serde_json::from_value(pod).expect("a pod")
    }

    #[tokio::test]
    async fn pods_are_known_once_the_first_list_is_complete_and_stay_so_while_the_watch_fails() {
        let pods = Pods::default();
        let (tell, told) = mpsc::unbounded_channel();
        let events = stream::unfold(told, |mut told: mpsc::UnboundedReceiver<_>| async {
            Some((told.recv().await?, told))
        });
        let (known, mut are_known) = oneshot::channel();
        let following = tokio::spawn(follow_pods(events, pods.clone(), known));
        for event in [Event::Init, Event::InitApply(pod("a"))] {
            tell.send(Ok(event)).unwrap();
        }
        let mut a = pods.follow("a");
        a.changed().await.unwrap();
        assert!(are_known.try_recv().is_err());
        tell.send(Ok(Event::InitDone)).unwrap();
        are_known.await.unwrap();

        // After the failure the watch begins anew, and lacks what was deleted meanwhile.
        tell.send(Err(watcher::Error::NoResourceVersion)).unwrap();
        for event in [Event::Init, Event::InitApply(pod("b")), Event::InitDone] {
            tell.send(Ok(event)).unwrap();
        }
        let gone = a.wait_for(|state| matches!(state, PodState::Ended(_)));
        gone.await.unwrap();
        assert!(pods.has("b") && !pods.has("a"));
        drop(tell);
        following.await.unwrap();
    }
}
