//! The controller: turns Functions, the gateways' demand and WarmPools into pods. It is the only creator and
//! deleter of pods, and never sees an invocation.
//!
//! ```text
//! API server ─ watch ─► resources, pods, code ─┐           ┌► function ── core::fleet decides ─┐
//! gateways ─ gateways.rs ──────────────────────┴► worker ─┴► warm_pool ─ core::stock decides ──┴►
//!                  leadership ─ may it act? ──────┘   reconcile: dereference ─► build ─► apply, status
//! ```
//!
//! One of several controllers leads and acts. The others watch and listen, so that they know everything when
//! they take over. If two should act for a moment nevertheless, no pod is created twice, because names are
//! never used twice, and none of the other's pods is deleted, because deletions name the UID.

mod clock;
mod collection;
mod default_pools;
mod function;
mod gateways;
mod health;
mod identity;
mod leadership;
mod metrics;
mod options;
mod passwords;
mod reconcile;
mod session_keys;
mod spans;
mod status_writes;
mod tracked;
mod warm_pool;
mod worker;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config};
use pilotlight_api::labels;
use pilotlight_api::resource::{FunctionResource, WarmPoolResource};
use pilotlight_core::election::{Loss, Timing};
use pilotlight_net::identity::Identity;
use pilotlight_watch::{Backoff, Decoded};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::function::code::Shown;
use crate::identity::Keeper;
use crate::leadership::{Contender, LEASE};
use crate::metrics::Metrics;
pub use crate::options::{
    IdentitySecrets, LOG_RATE, LOG_STORAGE_MIB, Options, PodOptions, PublicTls,
};
use crate::passwords::PasswordKeeper;
use crate::session_keys::SessionKeeper;
use crate::worker::{Streams, Worker};

/// Reports of gateways that may wait for the worker. A gateway's stream waits when the inbox is full.
const INBOX: usize = 256;

/// Why the controller cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("no client of the API server: {0}")]
    Client(#[source] Box<kube::Error>),
    #[error("no configuration for the API server: {0}")]
    Config(#[source] Box<kube::config::InferConfigError>),
    #[error("the watch of {0} ended")]
    Watch(&'static str),
    // The source says why.
    #[error("it has lost the Lease {LEASE}")]
    Lease(#[source] Loss),
    #[error("the server for probes and metrics failed: {0}")]
    Health(#[source] std::io::Error),
}

/// Runs until `stop`. The pods live on, and the next controller finds them. `health` serves probes and metrics.
///
/// # Errors
/// If a watch, the leadership or the server for probes ends before `stop`.
pub async fn run(
    options: Options,
    health: TcpListener,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let client = client().await?;
    let exports = options.exporter.as_ref().map(|exporter| exporter.counts());
    let metrics = Metrics::new(exports);
    let (term, leads) = watch::channel(None);
    let (events, demands) = mpsc::channel(INBOX);
    let (ready, is_ready) = watch::channel(false);
    let identity = Identity::new(options.parts_identity);
    let following = gateways::follow(
        client.clone(),
        &options,
        identity.clone(),
        events,
        metrics.clone(),
    );
    let mut session_keeper = SessionKeeper::new(client.clone(), &options, leads.clone());
    let [mut log_password, mut queue_password] = PasswordKeeper::both(&client, &options, &leads);
    let (mut keeper, bundle) = Keeper::new(client.clone(), &options, identity, leads.clone());
    let serving = health::serve(health, metrics.clone(), is_ready);
    let timing = Timing::default();
    let mut contender = Contender::new(client.clone(), &options, timing, term, metrics.clone());
    let mut worker = Worker::new(client.clone(), &options, (leads, bundle), ready, metrics);
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        what = worker.run(streams(&client, &options.namespace), demands) => {
            Err(RunError::Watch(what))
        }
        () = following => Err(RunError::Watch("gateways")),
        () = keeper.run() => Err(RunError::Watch("certificates")),
        () = log_password.run() => Err(RunError::Watch("the log store's password")),
        () = queue_password.run() => Err(RunError::Watch("the event queue's password")),
        () = session_keeper.run() => Err(RunError::Watch("the keys of sessions")),
        loss = contender.contend() => Err(RunError::Lease(loss)),
        served = serving => Err(RunError::Health(served.err().unwrap_or_else(|| {
            std::io::ErrorKind::UnexpectedEof.into()
        }))),
    };
    // All operations end before the Lease is given back: whoever takes over is then the only one who acts.
    drop(worker);
    contender.give_back().await;
    ended
}

async fn client() -> Result<Client, RunError> {
    let mut config = Config::infer()
        .await
        .map_err(|error| RunError::Config(Box::new(error)))?;
    // The controller decides what is retried and when. kube would repeat writes by itself.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| RunError::Client(Box::new(error)))
}

fn streams(client: &Client, namespace: &str) -> Streams {
    let functions = Api::<Decoded<FunctionResource>>::namespaced(client.clone(), namespace);
    let pools = Api::<Decoded<WarmPoolResource>>::namespaced(client.clone(), namespace);
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let code = Api::<Shown>::namespaced(client.clone(), namespace);
    let made = format!("{}={}", labels::MANAGED_BY, labels::MANAGER);
    let made = watcher::Config::default().labels(&made);
    let of_functions = watcher::Config::default().labels(labels::FUNCTION);
    Streams {
        functions: watcher(functions, watcher::Config::default())
            .backoff(Backoff::default())
            .boxed(),
        pools: watcher(pools, watcher::Config::default())
            .backoff(Backoff::default())
            .boxed(),
        pods: watcher(pods, made).backoff(Backoff::default()).boxed(),
        code: watcher(code, of_functions)
            .backoff(Backoff::default())
            .boxed(),
    }
}
