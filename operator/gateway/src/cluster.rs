//! The gateway in a cluster: Functions from the API server, instances as pods.
//!
//! ```text
//! API server ─ watch ─► Functions ─► deployments ─► driver ─► backend ─► demand ─► controller
//!      └────── watch ─► pods ─────────────────────────────────────┘
//! ```
//!
//! Owns the watches and the order of a start: first all pods and Functions are known, then those of
//! the functions that are this gateway's (`peers`) are taken over: living instances are adopted,
//! then the functions are claimed. An invocation never waits for the API server; while that is
//! away, what is known stays in force.

mod backend;
mod claim;
mod codes;
mod demand;
mod door;
mod peers;
mod pods;
mod stock;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::middleware;
use axum::routing::get;
use futures_util::{Stream, StreamExt, future};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_resource};
use kube::{Api, Client, ResourceExt};
use pilotlight_api::resource::FunctionResource;
use pilotlight_api::{FunctionSpec, labels};
use pilotlight_core::function::FunctionName;
use pilotlight_core::wire::DEMAND_PATH;
use pilotlight_runtimes::Runtimes;
use pilotlight_watch::Patience;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::backend::{PodBackend, Refusals, Refused};
use self::codes::Codes;
use self::demand::Ledger;
use self::door::{Door, pass};
use self::peers::{ClusterPeers, Members};
use self::pods::Pods;
use crate::catalog::{Deployment, Source};
use crate::driver::OwnershipChange;
use crate::peers::Peers;
use crate::server::{self, Config, Gateway};

/// What a gateway of a cluster is told at its start, besides its [`Config`].
#[derive(Clone, Debug)]
pub struct Place {
    /// Where the Functions are.
    pub namespace: String,
    /// A directory for code from archives.
    pub cache: PathBuf,
    pub runtimes: Runtimes,
    /// Its Service, by namespace and name, and where the other gateways behind that reach this
    /// one; `None` if there is no other.
    pub among: Option<Among>,
}

/// See [`Place::among`].
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
    #[error("the server broke: {0}")]
    Server(#[from] io::Error),
}

/// Serves the Functions of one namespace until `stop` and nobody calls any more, then lets the calls
/// at hand finish. The instances live on for the next gateway.
pub async fn serve(
    place: Place,
    config: Config,
    listener: TcpListener,
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
        pod_events.backoff(Patience::default()),
        pods.clone(),
        pods_known,
    );
    let functions = Api::<FunctionResource>::namespaced(client.clone(), namespace);
    let function_events = watch_resource(functions, watcher::Config::default());
    let mut functions = Functions {
        gateway: gateway.clone(),
        pods,
        ledger: ledger.clone(),
        codes,
        refused,
        known: BTreeMap::new(),
        owned: HashSet::new(),
        members: cluster.as_ref().map(ClusterPeers::members),
    };
    let (deployed, are_deployed) = watch::channel(false);
    let following_functions = async {
        // An error means that the watch has ended; that is told below.
        let _ = pods_are_known.await;
        functions
            .follow(function_events.backoff(Patience::default()), deployed)
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
    let routes = gateway.routes().route(DEMAND_PATH, demand);
    let routes = routes.layer(middleware::from_fn_with_state(door.clone(), pass));
    let serving = server::serve(routes, listener, end.clone());
    let serving = async {
        let closing = async {
            door.closes().await;
            end.cancel();
        };
        future::join(serving, closing).await.0
    };
    tokio::select! {
        served = serving => Ok(served?),
        () = following_pods => Err(ServeError::Watch("pods")),
        () = following_functions => Err(ServeError::Watch("Functions")),
        () = following_peers => Err(ServeError::Watch("gateways")),
    }
}

async fn follow_pods(
    events: impl Stream<Item = Result<Event<Pod>, watcher::Error>>,
    pods: Pods,
    known: oneshot::Sender<()>,
) {
    let (mut known, mut seen) = (Some(known), HashSet::new());
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                let is_all = matches!(event, Event::InitDone);
                pods.take(event, &mut seen);
                if let (true, Some(known)) = (is_all, known.take_if(|_| is_all)) {
                    // Whoever waited may have been stopped.
                    let _ = known.send(());
                }
            }
            Err(error) => tracing::warn!(%error, "the watch of pods is interrupted"),
        }
    }
}

/// The Functions of the namespace, as the driver is told them.
struct Functions {
    gateway: Gateway,
    pods: Pods,
    ledger: Ledger,
    codes: Codes,
    refused: watch::Sender<Arc<Refusals>>,
    known: BTreeMap<FunctionName, Deployment>,
    /// Those of them that are this gateway's.
    owned: HashSet<FunctionName>,
    /// None where this is the only gateway.
    members: Option<watch::Receiver<Members>>,
}

impl Functions {
    async fn follow(
        &mut self,
        events: impl Stream<Item = Result<Event<FunctionResource>, watcher::Error>>,
        deployed: watch::Sender<bool>,
    ) {
        let mut listed = BTreeMap::new();
        let mut events = std::pin::pin!(events);
        let mut members = self.members.clone();
        loop {
            let members_changed = async {
                match &mut members {
                    Some(members) => members.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                event = events.next() => event,
                true = members_changed => {
                    self.settle_all().await;
                    continue;
                }
            };
            let Some(event) = event else { return };
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(function)) => {
                    self.note_refusal(&function);
                    let name = name_of(&function);
                    listed.extend(name.map(|name| (name.clone(), deployment(name, &function))));
                }
                Ok(Event::InitDone) => {
                    self.deploy(std::mem::take(&mut listed)).await;
                    deployed.send_replace(true);
                }
                Ok(Event::Apply(function)) => {
                    self.note_refusal(&function);
                    let Some(name) = name_of(&function) else {
                        continue;
                    };
                    let known = self.known.get(&name);
                    if known.is_none_or(|known| !is_same(known, &function)) {
                        self.set(deployment(name, &function)).await;
                    }
                }
                Ok(Event::Delete(function)) => {
                    if let Some(name) = name_of(&function) {
                        self.remove(name).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "the watch of Functions is interrupted"),
            }
        }
    }

    async fn deploy(&mut self, all: BTreeMap<FunctionName, Deployment>) {
        let before = std::mem::replace(&mut self.known, all);
        self.gateway
            .deploy(self.known.values().cloned().collect())
            .await;
        for (name, before) in &before {
            self.forget_unless_same(name, Some(before));
        }
        for name in &self.owned {
            self.claim(name);
        }
        self.settle_all().await;
        self.keep_codes();
    }

    async fn set(&mut self, one: Deployment) {
        let name = one.name.clone();
        let before = self.known.insert(name.clone(), one.clone());
        self.gateway.change(vec![one], Vec::new()).await;
        self.forget_unless_same(&name, before.as_ref());
        if self.owned.contains(&name) {
            self.claim(&name);
        }
        self.settle_ownership(&[name]).await;
        self.keep_codes();
    }

    async fn remove(&mut self, name: FunctionName) {
        let before = self.known.remove(&name);
        self.gateway.change(Vec::new(), vec![name.clone()]).await;
        self.forget_unless_same(&name, before.as_ref());
        self.keep_codes();
    }

    /// One of the same name that was made anew is another.
    fn forget_unless_same(&mut self, name: &FunctionName, before: Option<&Deployment>) {
        if before.map(uid) != self.known.get(name).map(uid) {
            self.ledger.forget(name);
            self.owned.remove(name);
        }
    }

    fn keep_codes(&self) {
        self.codes.keep(self.known.values().map(|one| &one.spec));
    }

    async fn settle_all(&mut self) {
        let all: Vec<_> = self.known.keys().cloned().collect();
        self.settle_ownership(&all).await;
    }

    /// Takes over what of these is this gateway's by now, and hands on what is not any more.
    async fn settle_ownership(&mut self, names: &[FunctionName]) {
        let members = self.members.as_ref();
        let members = members.map(|members| members.borrow().clone());
        let is_mine = |name: &FunctionName| members.as_ref().is_none_or(|all| all.is_mine(name));
        let mut change = OwnershipChange::default();
        let known = names
            .iter()
            .filter_map(|name| self.known.get_key_value(name));
        for (name, one) in known {
            match (self.owned.contains(name), is_mine(name)) {
                (false, true) => {
                    let found = self.pods.found(name.as_str()).into_iter();
                    let found = found
                        .filter(|found| found.revision == one.revision && found.owner == uid(one));
                    let instances = found.map(|found| found.instance).collect();
                    change.gained.push((name.clone(), instances));
                }
                (true, false) => change.lost.push(name.clone()),
                (true, true) | (false, false) => {}
            }
        }
        if change.gained.is_empty() && change.lost.is_empty() {
            return;
        }
        let (gained, lost) = (change.gained.len(), change.lost.len());
        tracing::info!(gained, lost, "functions change their owner");
        // First: what a released function's instances are wanted for is another's to say.
        for name in &change.lost {
            self.ledger.release(name);
            self.owned.remove(name);
        }
        let gained: Vec<_> = change.gained.iter().map(|(name, _)| name.clone()).collect();
        self.gateway.own(change).await;
        // Only now, when all that lives is wanted.
        for name in gained {
            self.claim(&name);
            self.owned.insert(name);
        }
    }

    fn claim(&self, name: &FunctionName) {
        if let Some(one) = self.known.get(name) {
            self.ledger.claim(name, uid(one), &one.revision);
        }
    }

    /// Lets a start that waits know that the API server refuses its pod.
    fn note_refusal(&self, function: &FunctionResource) {
        let Some(name) = name_of(function) else {
            return;
        };
        let refusal = function.refusal().map(Refused::from);
        self.refused.send_if_modified(|refusals| {
            if refusals.get(&name) == refusal.as_ref() {
                return false;
            }
            let refusals = Arc::make_mut(refusals);
            match refusal {
                Some(refusal) => refusals.insert(name, refusal),
                None => refusals.remove(&name),
            };
            true
        });
    }
}

/// `None`: the controller says what is wrong with it; to callers it does not exist.
fn name_of(function: &FunctionResource) -> Option<FunctionName> {
    FunctionName::try_from(function.name_any()).ok()
}

fn deployment(name: FunctionName, function: &FunctionResource) -> Deployment {
    let modified = function.creation_timestamp();
    let modified = modified.and_then(|at| jiff::Timestamp::from_second(at.0.as_second()).ok());
    Deployment {
        name,
        revision: function.spec.revision(),
        // The code's own digest and size are known where it is fetched, which is not here.
        code_sha256: String::new(),
        code_size: 0,
        modified: modified.unwrap_or_default(),
        source: Source::Cluster {
            uid: function.uid().unwrap_or_default(),
        },
        spec: served(function),
    }
}

/// With the handler: the controller knows the runtimes, and writes their default.
fn served(function: &FunctionResource) -> FunctionSpec {
    let mut spec = function.spec.clone();
    let told = function
        .status
        .as_ref()
        .map(|status| status.handler.parse());
    spec.handler = spec.handler.or_else(|| told?.ok());
    spec
}

/// A change of the status alone changes nothing here, and comes often: no revision is made for it.
fn is_same(known: &Deployment, function: &FunctionResource) -> bool {
    known.spec == served(function) && uid(known) == function.uid().unwrap_or_default()
}

fn uid(deployment: &Deployment) -> &str {
    match &deployment.source {
        Source::Cluster { uid } => uid,
        Source::Local(_) => "",
    }
}
