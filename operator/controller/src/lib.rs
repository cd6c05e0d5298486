//! The controller: Functions, the gateways' demand and WarmPools become pods. The only creator and
//! deleter of pods; it never sees an invocation.
//!
//! ```text
//! API server ─ watch ─► resources, pods, code ─┐       ┌► function ─ core::fleet decides ─┐
//! gateways ─ gateways.rs ─► demands.rs ─────────┴► worker ┴► pool ─ core::fleet decides ─────┴►
//!                  leadership ─ may it act? ──────┘           reconcile: build ─► apply ─► status
//! ```
//!
//! Of several one leads and acts; the others watch and listen, so that they know all when they take
//! over. Should two act for a moment all the same, names that are never used twice keep a pod from
//! being made twice, and UIDs keep another's from being deleted.

mod demands;
mod function;
mod gateways;
mod health;
mod leadership;
mod metrics;
mod pool;
mod reconcile;
mod steps;
mod worker;

use std::collections::BTreeMap;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config};
use pilotlight_api::labels;
use pilotlight_api::resource::{FunctionResource, WarmPoolResource};
use pilotlight_core::election::{Loss, Timing};
use pilotlight_runtimes::Runtimes;
use pilotlight_watch::Patience;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::function::code::Shown;
use crate::leadership::{Contender, LEASE};
use crate::metrics::Metrics;
use crate::worker::{Streams, Worker};

/// Lines of demand that may wait for the worker; a gateway's stream waits for room.
const INBOX: usize = 256;

/// What the controller is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    pub namespace: String,
    /// What this controller is called among those that contend for the leadership; no other process
    /// that lives has this name.
    pub identity: String,
    /// The Service with the gateways' port for parts; its endpoints are the gateways.
    pub parts_service: String,
    /// The Service at which instances call other functions.
    pub gateway_service: String,
    /// The namespace of both Services.
    pub gateway_namespace: String,
    /// The port of the Service at which instances call other functions.
    pub gateway_port: u16,
    pub region: String,
    /// The image of each runtime, by the runtime's canonical name.
    pub images: BTreeMap<String, String>,
    pub runtimes: Runtimes,
}

impl Options {
    /// The `host:port` at which instances call other functions.
    fn gateways(&self) -> String {
        let Options {
            gateway_service: service,
            gateway_namespace: namespace,
            gateway_port: port,
            ..
        } = self;
        format!("{service}.{namespace}.svc:{port}")
    }
}

/// Why the controller cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("no way to the API server: {0}")]
    Client(#[source] Box<kube::Error>),
    #[error("no way to the API server is known: {0}")]
    Config(#[source] Box<kube::config::InferConfigError>),
    #[error("the watch of {0} ended")]
    Watch(&'static str),
    // The source says why.
    #[error("it leads no more, as of the Lease {LEASE}")]
    Lease(#[source] Loss),
    #[error("the port for probes and metrics broke: {0}")]
    Health(#[source] std::io::Error),
}

/// Runs until `stop`. Pods live on: the next controller finds them. `health`: for probes and
/// metrics.
pub async fn run(
    options: Options,
    health: TcpListener,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let client = client().await?;
    let metrics = Metrics::new();
    let (term, leads) = watch::channel(None);
    let (told, demands) = mpsc::channel(INBOX);
    let (ready, is_ready) = watch::channel(false);
    let following = gateways::follow(client.clone(), &options, told, metrics.clone());
    let serving = health::serve(health, metrics.clone(), is_ready);
    let timing = Timing::default();
    let mut contender = Contender::new(client.clone(), &options, timing, term, metrics.clone());
    let mut worker = Worker::new(client.clone(), &options, leads, ready, metrics);
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        what = worker.run(streams(&client, &options.namespace), demands) => {
            Err(RunError::Watch(what))
        }
        () = following => Err(RunError::Watch("gateways")),
        loss = contender.contend() => Err(RunError::Lease(loss)),
        served = serving => Err(RunError::Health(served.err().unwrap_or_else(|| {
            std::io::ErrorKind::UnexpectedEof.into()
        }))),
    };
    // With all its steps: whoever takes over is to be the only one who acts.
    drop(worker);
    contender.give_back().await;
    ended
}

async fn client() -> Result<Client, RunError> {
    let mut config = Config::infer()
        .await
        .map_err(|error| RunError::Config(Box::new(error)))?;
    // What is tried again, and when, is decided here; and kube would send a write again unasked.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| RunError::Client(Box::new(error)))
}

fn streams(client: &Client, namespace: &str) -> Streams {
    let functions = Api::<FunctionResource>::namespaced(client.clone(), namespace);
    let pools = Api::<WarmPoolResource>::namespaced(client.clone(), namespace);
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let code = Api::<Shown>::namespaced(client.clone(), namespace);
    let made = format!("{}={}", labels::MANAGED_BY, labels::MANAGER);
    let made = watcher::Config::default().labels(&made);
    let of_functions = watcher::Config::default().labels(labels::FUNCTION);
    Streams {
        functions: watcher(functions, watcher::Config::default())
            .backoff(Patience::default())
            .boxed(),
        pools: watcher(pools, watcher::Config::default())
            .backoff(Patience::default())
            .boxed(),
        pods: watcher(pods, made).backoff(Patience::default()).boxed(),
        code: watcher(code, of_functions)
            .backoff(Patience::default())
            .boxed(),
    }
}
