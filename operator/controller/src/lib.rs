//! The controller: Functions and the gateways' demand become pods. The only creator and deleter
//! of pods; it never sees an invocation.
//!
//! ```text
//! API server ─ watch ─► Functions, pods ─┐
//! gateways ─ gateways.rs ─► demands.rs ──┴─► worker ─► function ─ core::fleet decides ─►
//!                                                        reconcile: build ─► apply ─► status
//! ```
//!
//! One runs at a time: the chart's Deployment has one replica and stops the old one first. Should
//! two run all the same, names that are never used twice keep a pod from being made twice.

mod demands;
mod function;
mod gateways;
mod reconcile;
mod worker;

use std::collections::BTreeMap;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use pilotlight_api::labels;
use pilotlight_api::resource::FunctionResource;
use pilotlight_runtimes::Runtimes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::worker::Worker;

/// Lines of demand that may wait for the worker; a gateway's stream waits for room.
const INBOX: usize = 256;

/// What the controller is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    pub namespace: String,
    /// The Service whose endpoints are the gateways.
    pub gateway_service: String,
    /// The namespace of that Service.
    pub gateway_namespace: String,
    pub region: String,
    /// The image of each runtime, by the runtime's name.
    pub images: BTreeMap<String, String>,
    pub runtimes: Runtimes,
}

/// Why the controller cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("no way to the API server: {0}")]
    Client(#[source] Box<kube::Error>),
    #[error("the watch of {0} ended")]
    Watch(&'static str),
}

/// Runs until `stop`. Pods live on: the next controller finds them.
pub async fn run(options: Options, stop: CancellationToken) -> Result<(), RunError> {
    let client = Client::try_default()
        .await
        .map_err(|error| RunError::Client(Box::new(error)))?;
    let (told, demands) = mpsc::channel(INBOX);
    let following = gateways::follow(client.clone(), &options, told);
    let functions = Api::<FunctionResource>::namespaced(client.clone(), &options.namespace);
    let functions = watcher(functions, watcher::Config::default())
        .default_backoff()
        .boxed();
    let selected = watcher::Config::default().labels(labels::FUNCTION);
    let pods = Api::<Pod>::namespaced(client.clone(), &options.namespace);
    let pods = watcher(pods, selected).default_backoff().boxed();
    let mut worker = Worker::new(client, &options);
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        what = worker.run(functions, pods, demands) => Err(RunError::Watch(what)),
        () = following => Err(RunError::Watch("gateways")),
    }
}
