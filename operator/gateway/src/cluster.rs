//! The gateway in a cluster: Functions from the API server, instances as pods.
//!
//! ```text
//! API server ─ watch ─► Functions ─► deployments ─► driver ─► backend ─► demand ─► controller
//!      └────── watch ─► pods ─────────────────────────────────────┘
//! ```
//!
//! Owns the watches and the order of a start: first all pods and Functions are known, then living
//! instances are adopted, then their functions are claimed. An invocation never waits for the API
//! server; while that is away, what is known stays in force.

mod backend;
mod demand;
mod pods;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_resource};
use kube::{Api, Client, ResourceExt};
use pilotlight_api::labels;
use pilotlight_api::resource::FunctionResource;
use pilotlight_core::function::FunctionName;
use pilotlight_core::wire::DEMAND_PATH;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::backend::{PodBackend, Refusals};
use self::demand::Ledger;
use self::pods::Pods;
use crate::catalog::{Deployment, Source};
use crate::server::{Config, Gateway};

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

/// Serves the Functions of one namespace until `stop`, then lets the calls at hand finish. The
/// instances live on for the next gateway.
pub async fn serve(
    namespace: &str,
    config: Config,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let client = Client::try_default()
        .await
        .map_err(|error| ServeError::Client(Box::new(error)))?;
    let (pods, ledger) = (Pods::default(), Ledger::new());
    let (refused, refusals) = watch::channel(Arc::default());
    let backend = PodBackend {
        pods: pods.clone(),
        ledger: ledger.clone(),
        refusals,
    };
    let gateway = Gateway::start(config, Arc::new(backend), None);

    let (pods_known, pods_are_known) = oneshot::channel();
    let selected = watcher::Config::default().labels(labels::FUNCTION);
    let pod_events = watch_resource(Api::<Pod>::namespaced(client.clone(), namespace), selected);
    let following_pods = follow_pods(pod_events.default_backoff(), pods.clone(), pods_known);
    let functions = Api::<FunctionResource>::namespaced(client, namespace);
    let function_events = watch_resource(functions, watcher::Config::default());
    let mut functions = Functions {
        gateway: gateway.clone(),
        pods,
        ledger: ledger.clone(),
        refused,
        known: BTreeMap::new(),
    };
    let (deployed, are_deployed) = oneshot::channel();
    let following_functions = async {
        // An error means that the watch has ended; that is told below.
        let _ = pods_are_known.await;
        functions
            .follow(function_events.default_backoff(), deployed)
            .await;
    };
    let serving = async {
        // Only now, so that nobody is told of a function that it does not exist.
        let _ = are_deployed.await;
        let end = stop.clone();
        let demand = get(move || async move { ledger.stream(end) });
        gateway
            .serve_with(Router::new().route(DEMAND_PATH, demand), listener, stop)
            .await
    };
    tokio::select! {
        served = serving => Ok(served?),
        () = following_pods => Err(ServeError::Watch("pods")),
        () = following_functions => Err(ServeError::Watch("Functions")),
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
    refused: watch::Sender<Arc<Refusals>>,
    known: BTreeMap<FunctionName, Deployment>,
}

impl Functions {
    async fn follow(
        &mut self,
        events: impl Stream<Item = Result<Event<FunctionResource>, watcher::Error>>,
        deployed: oneshot::Sender<()>,
    ) {
        let mut deployed = Some(deployed);
        let mut listed = BTreeMap::new();
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(function)) => {
                    self.note_refusal(&function);
                    listed.extend(deployment(&function).map(|one| (one.name.clone(), one)));
                }
                Ok(Event::InitDone) => {
                    self.deploy(std::mem::take(&mut listed)).await;
                    if let Some(deployed) = deployed.take() {
                        // Whoever waited may have been stopped.
                        let _ = deployed.send(());
                    }
                }
                Ok(Event::Apply(function)) => {
                    self.note_refusal(&function);
                    let Some(one) = deployment(&function) else {
                        continue;
                    };
                    let known = self.known.get(&one.name);
                    if known.is_none_or(|known| !is_same(known, &one)) {
                        let mut all = self.known.clone();
                        all.insert(one.name.clone(), one);
                        self.deploy(all).await;
                    }
                }
                Ok(Event::Delete(function)) => {
                    let mut all = self.known.clone();
                    all.retain(|name, _| name.as_str() != function.name_any());
                    self.deploy(all).await;
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
        for (name, one) in &self.known {
            let Source::Cluster { uid } = &one.source else {
                continue;
            };
            if !before.contains_key(name) {
                let found = self.pods.found(name.as_str()).into_iter();
                let found = found.filter(|found| found.revision == one.revision);
                let instances = found.map(|found| found.instance).collect();
                self.gateway.adopt(name.clone(), instances).await;
            }
            self.ledger.claim(name, uid, &one.revision);
        }
        before
            .keys()
            .filter(|name| !self.known.contains_key(*name))
            .for_each(|name| {
                self.ledger.release(name);
            });
    }

    /// Lets a start that waits know that the API server refuses its pod.
    fn note_refusal(&self, function: &FunctionResource) {
        let Ok(name) = FunctionName::try_from(function.name_any()) else {
            return;
        };
        let refusal: Option<Arc<str>> = function.refusal().map(Arc::from);
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
fn deployment(function: &FunctionResource) -> Option<Deployment> {
    let name = FunctionName::try_from(function.name_any()).ok()?;
    let mut spec = function.spec.clone();
    // The controller knows the runtimes, and writes their default.
    let told = function
        .status
        .as_ref()
        .map(|status| status.handler.parse());
    spec.handler = spec.handler.or_else(|| told?.ok());
    let modified = function.creation_timestamp();
    let modified = modified.and_then(|at| jiff::Timestamp::from_second(at.0.as_second()).ok());
    Some(Deployment {
        name,
        revision: function.spec.revision(),
        // The code's own digest and size are known where it is fetched, which is not here.
        code_sha256: String::new(),
        code_size: 0,
        modified: modified.unwrap_or_default(),
        source: Source::Cluster {
            uid: function.uid().unwrap_or_default(),
        },
        spec,
    })
}

/// A change of the status alone changes nothing here.
fn is_same(known: &Deployment, one: &Deployment) -> bool {
    let uid = |deployment: &Deployment| match &deployment.source {
        Source::Cluster { uid } => Some(uid.clone()),
        Source::Local(_) => None,
    };
    known.spec == one.spec && uid(known) == uid(one)
}
