//! The gateway in a cluster: Functions from the API server, instances as pods.
//!
//! ```text
//! API server ─ watch ─► Functions ─► deployments ─► driver ─► backend ─► demand ─► controller
//!      └────── watch ─► pods ─────────────────────────────────────┘
//! ```
//!
//! Owns the watches and the order of a start: first all pods and Functions are known, then those of
//! the functions that are this gateway's (`peers`) are taken over: living instances are adopted,
//! then the functions are claimed (`functions`). An invocation does not wait for the API server (rule 4);
//! while that is away, what is known stays in force.

mod allowed_secrets;
mod backend;
mod certificates;
mod claim;
mod code_store;
mod codes;
mod config_maps;
mod demand;
mod door;
mod functions;
mod judge;
mod keys;
mod log_store;
mod peer_logs;
mod peers;
mod pods;
mod public_certificate;
mod schedules;
mod sealed;
mod secrets;
mod stock;
mod supervisors;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Extension, Router, middleware};
use futures_util::{Stream, StreamExt, future};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_resource};
use kube::{Api, Client, Config as ClientConfig};
use pilotlight_api::resource::{FunctionResource, ScheduleResource};
use pilotlight_api::{ObjectName, labels};
use pilotlight_archive::Fetcher;
use pilotlight_core::access;
use pilotlight_core::address_rule::AddressRule;
use pilotlight_core::code_cache::CacheLimits;
use pilotlight_core::gateways::handover::Handover;
use pilotlight_core::identity::{Caller, Mode, Role};
use pilotlight_core::ids::Namespace;
use pilotlight_core::tls;
use pilotlight_events::destination::Receivers;
use pilotlight_logs::memory::MemoryStore;
use pilotlight_logs::store::Store;
pub use pilotlight_logs::victoria::Tenant;
use pilotlight_net::guarded::AddressGuard;
use pilotlight_net::identity::public::PublicDoor;
use pilotlight_net::identity::{Identity, MaterialError};
use pilotlight_net::listen::Admission;
pub use pilotlight_net::outbound::BaseUrl;
use pilotlight_runtimes::Runtimes;
use pilotlight_watch::{Backoff, Decoded, Fold};
use pilotlight_wire::demand::DEMAND_PATH;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::allowed_secrets::AllowedSecrets;
use self::backend::PodBackend;
use self::codes::Codes;
use self::config_maps::ConfigMaps;
pub(crate) use self::demand::Ledger;
use self::door::{Door, pass};
use self::functions::Functions;
use self::judge::ClusterJudge;
pub use self::keys::KeySecrets;
use self::log_store::ClusterStore;
pub use self::log_store::LogStoreConfig;
use self::peers::ClusterPeers;
use self::pods::{PodKey, Pods};
use self::schedules::ClusterSchedules;
pub use self::secrets::SecretPlace;
use self::stock::Stock;
use self::supervisors::Supervisors;
use self::tokens::Tokens;
use crate::config::Config;
use crate::destinations::Destinations;
use crate::gateway::{DRIVER_FAILED, Gateway};
use crate::http::https_only::HTTPS_ONLY;
use crate::http::parts;
use crate::http::server;
use crate::intake::Listener;
use crate::logs::Hub;
use crate::peers::Peers;

/// How much of each function's log is kept without a store, in bytes.
const MEMORY_LOG_BYTES: usize = 256 * 1024;
/// How long the end waits for the log store to take the last records.
const LOG_FLUSH_LIMIT: Duration = Duration::from_secs(15);

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
    /// How much of it may be used.
    pub cache_limits: CacheLimits,
    /// Where archives may come from.
    pub fetcher: Fetcher,
    /// The Secrets that Functions may name for archives.
    pub archive_secrets: BTreeSet<String>,
    /// The Secrets that Functions may name for destinations.
    pub destination_secrets: BTreeSet<String>,
    /// Which addresses destinations may have.
    pub destination_addresses: AddressRule,
    /// Where log records are stored; `None`: in this process's memory.
    pub log_store: Option<LogStoreConfig>,
    pub runtimes: Runtimes,
    /// The runtime class of functions that name none, as the controller has it.
    pub runtime_class: Option<ObjectName>,
    /// Whether parts prove who they are. Without a Secret nobody does.
    pub identity: Mode,
    /// The keys that callers' signatures are checked with.
    pub keys: KeySecrets,
    /// This gateway's certificate.
    pub certificate: Option<SecretPlace>,
    /// Whether callers have to speak TLS.
    pub tls: tls::Mode,
    /// The certificate that they get.
    pub tls_secret: Option<SecretPlace>,
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
    #[error("no TLS for callers: {0}")]
    Tls(#[from] MaterialError),
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
    mut config: Config,
    listeners: Listeners,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let client = Client::try_default()
        .await
        .map_err(|error| ServeError::Client(Box::new(error)))?;
    let audience = config.access.audience.clone();
    let keyring = config.access.keyring.clone();
    let asks = config.access.mode != access::Mode::Off;
    config.access.judge = Some(Arc::new(ClusterJudge::new(
        asking_client().await?,
        audience,
    )));
    let namespace = place.namespace.as_str();
    let identity = Identity::new(place.identity);
    let tokens = match place.identity {
        Mode::Off => None,
        Mode::Permissive | Mode::Required => Some(Tokens::new(client.clone(), namespace)),
    };
    let (announced, announcements) = Supervisors::queue();
    let stock = Stock::new(place.runtime_class.clone());
    let pods = Pods::new(stock, tokens.is_some().then_some(announced));
    let ledger = Ledger::new();
    let supervisors = Supervisors::new(identity.clone(), tokens.clone(), pods.proven.clone());
    let maps = ConfigMaps::default();
    let codes = Codes::new(
        place.cache.clone(),
        place.cache_limits,
        place.fetcher.clone(),
        (
            AllowedSecrets::new(
                client.clone(),
                namespace,
                place.archive_secrets.clone(),
                "gateway.fetch.secrets",
            ),
            maps.clone(),
        ),
    );
    config.destinations = Destinations::new(
        Arc::new(AllowedSecrets::new(
            client.clone(),
            namespace,
            place.destination_secrets.clone(),
            "gateway.destinationSecrets",
        )),
        Receivers::new(AddressGuard::within(place.destination_addresses.clone())),
        config.region.clone(),
        None,
    );
    let (refused, refusals) = watch::channel(Arc::default());
    let backend = PodBackend {
        pods: pods.clone(),
        ledger: ledger.clone(),
        refusals,
        codes: codes.clone(),
        runtimes: place.runtimes.clone(),
        region: config.region.clone(),
        supervisors: supervisors.clone(),
    };
    let cluster = place
        .among
        .as_ref()
        .map(|among| ClusterPeers::new(among.address, identity.clone()));
    let peers = cluster
        .clone()
        .map(|peers| Arc::new(peers) as Arc<dyn Peers>);
    let public = PublicDoor::new(place.tls, identity.clone(), HTTPS_ONLY)?;
    let config = Config {
        door: public.clone(),
        ..config
    };
    let kept = place.log_store.clone();
    let kept = kept.map(|place| Arc::new(ClusterStore::new(client.clone(), place)));
    let store = match &kept {
        Some(store) => store.clone() as Arc<dyn Store>,
        None => {
            tracing::warn!(
                bytes_per_function = MEMORY_LOG_BYTES,
                "no log store is configured: the logs of functions are kept in memory, and end with this gateway"
            );
            // All together: as much as may wait for a store otherwise.
            let bytes = config.limits.log_bytes;
            Arc::new(MemoryStore::new(MEMORY_LOG_BYTES, bytes))
        }
    };
    let following_store = async {
        match &kept {
            Some(store) => store.run().await,
            None => std::future::pending().await,
        }
    };
    let logs = Hub::new(store, config.limits.log_bytes);
    let logs = match place.log_store {
        Some(_) => logs,
        None => logs.with_own_store(),
    };
    if let Some(cluster) = &cluster {
        logs.set_others(Arc::new(cluster.clone()));
    }
    let gateway = Gateway::start_among(peers, config, Arc::new(backend), Some(logs.clone()));

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
        // A gateway that cannot reach instances would only lose the calls that it accepts.
        identity.ready().await;
        functions
            .follow(function_events.backoff(Backoff::default()), deployed)
            .await;
    };
    let schedules = Api::<Decoded<ScheduleResource>>::namespaced(client.clone(), namespace);
    let schedule_events = watch_resource(schedules, watcher::Config::default());
    let schedules = ClusterSchedules::new(
        asking_client().await?,
        gateway.clone(),
        place.namespace.clone(),
    );
    let following_schedules = schedules.follow(
        schedule_events.backoff(Backoff::default()),
        are_deployed.clone(),
    );
    let following_peers = async {
        match (&cluster, &place.among) {
            (Some(peers), Some(among)) => {
                let (namespace, service) = (&among.namespace, &among.service);
                let client = client.clone();
                peers
                    .follow(pilotlight_watch::gateways(client, namespace, service))
                    .await;
            }
            _ => std::future::pending().await,
        }
    };
    let proving = async {
        let (client, identity) = (client.clone(), &identity);
        let following_certificate = async {
            if let Some(certificate) = &place.certificate {
                certificates::follow(client.clone(), certificate, identity).await;
            }
        };
        let following_public = async {
            if let Some(secret) = &place.tls_secret {
                let metrics = &gateway.metrics().tls;
                public_certificate::follow(client.clone(), secret, &public, metrics).await;
            }
        };
        let following_keys = async {
            if let Some(tokens) = &tokens {
                tokens.follow().await;
            }
        };
        let meeting = async {
            identity.ready().await;
            supervisors.meet(announcements).await;
        };
        let following_callers_keys = async {
            if asks {
                keys::follow(client.clone(), &place.keys, &keyring).await;
            }
        };
        // They go on until the gateway ends.
        future::join5(
            following_certificate,
            following_public,
            following_keys,
            following_callers_keys,
            meeting,
        )
        .await;
        std::future::pending::<()>().await;
    };
    let members = cluster.as_ref().map(ClusterPeers::members);
    let door = Door::new(are_deployed, members, stop);
    let end = CancellationToken::new();
    let serve = |routes: Router, whose, parts: Option<Identity>, listener| {
        let routes = routes.layer(middleware::from_fn_with_state(door.clone(), pass));
        let mut served = gateway.served(routes, whose);
        if let Some(identity) = parts {
            served.admission = Admission::Parts(identity);
        }
        server::serve(served, listener, end.clone())
    };
    let between_parts = between_parts(&gateway, ledger, end.clone());
    let serving = future::try_join3(
        serve(gateway.api(), Listener::api, None, listeners.api),
        serve(
            between_parts,
            Listener::parts,
            Some(identity.clone()),
            listeners.parts,
        ),
        serve(gateway.status(), Listener::status, None, listeners.status),
    );
    let serving = async {
        let closing = async {
            door.clone().closes().await;
            end.cancel();
        };
        future::join(serving, closing).await.0
    };
    let ended = tokio::select! {
        served = serving => Ok(served.map(|_| ())?),
        () = following_pods => Err(ServeError::Watch("pods")),
        () = following_functions => Err(ServeError::Watch("Functions")),
        () = following_schedules => Err(ServeError::Watch("Schedules")),
        () = maps.follow(&client, namespace) => Err(ServeError::Watch("config maps")),
        () = following_peers => Err(ServeError::Watch("gateways")),
        () = proving => Err(ServeError::Watch("the certificate")),
        () = following_store => Err(ServeError::Watch("the Secret of the log store")),
        () = gateway.driver_failed() => Err(ServeError::Driver),
    };
    if !logs.flush(LOG_FLUSH_LIMIT).await {
        tracing::warn!(
            "the log store has not taken the last records; the instances send them again to the next gateway"
        );
    }
    ended
}

/// For questions about callers and for statuses. kube would repeat them by itself, and somebody waits for them.
async fn asking_client() -> Result<Client, ServeError> {
    let made = async {
        let mut config = ClientConfig::infer()
            .await
            .map_err(kube::Error::InferConfig)?;
        config.default_retry = false;
        Client::try_from(config)
    };
    made.await
        .map_err(|error| ServeError::Client(Box::new(error)))
}

/// All paths of the listener for parts. `end`: ends the streams of the demand.
pub(crate) fn between_parts(gateway: &Gateway, ledger: Ledger, end: CancellationToken) -> Router {
    let demand = get(move |caller: Option<Extension<Caller>>| async move {
        match parts::allow(caller, Role::Controller) {
            Ok(()) => ledger.stream(end).into_response(),
            Err(refusal) => refusal,
        }
    });
    gateway.parts().route(DEMAND_PATH, demand)
}

async fn follow_pods(
    events: impl Stream<Item = Result<Event<Pod>, watcher::Error>>,
    pods: Pods,
    known: oneshot::Sender<()>,
) {
    let (mut known, mut fold) = (Some(known), Fold::new(PodKey::of));
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
