//! Reads the demands of the gateways: one stream from each ready endpoint of their Service.
//!
//! Follows the endpoints, keeps a connection to each and sends every demand to `worker`. It connects again when a
//! stream breaks or is silent; `worker` decides how long the last demand of a lost gateway stays in force.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::Empty;
use hyper::{Request, StatusCode, header};
use kube::Client;
use pilotlight_core::fleet::demands::GatewayEvent;
use pilotlight_net::client::HttpClient;
use pilotlight_net::identity::Identity;
use pilotlight_net::lines::Lines;
use pilotlight_watch::Gateways;
use pilotlight_wire::demand::{DEMAND_PATH, DemandLine};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::metrics::{Metrics, Operation};
use crate::options::Options;

/// A gateway sends a line each second. A stream without a line for this time counts as broken.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before the next attempt to connect to a gateway.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);
/// The longest line, in bytes. It has a name and an id for each of thousands of instances.
const LINE_LIMIT: usize = 4 * 1024 * 1024;

/// Follows the endpoints until the program ends.
pub(crate) async fn follow(
    client: Client,
    options: &Options,
    identity: Identity,
    worker: mpsc::Sender<GatewayEvent>,
    metrics: Metrics,
) {
    let (namespace, service) = (&options.gateway_namespace, &options.parts_service);
    let mut events = std::pin::pin!(pilotlight_watch::gateways(client, namespace, service));
    let mut gateways = Gateways::default();
    let mut followed: HashMap<SocketAddr, AbortHandle> = HashMap::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => gateways.take(event),
            Err(error) => {
                metrics.failed(Operation::watch);
                tracing::warn!(%error, "the watch of gateways is interrupted");
            }
        }
        let present = gateways.present();
        for (address, task) in followed.extract_if(|address, _| !present.contains(address)) {
            task.abort();
            // Sending fails only if the worker has ended, and then nobody needs the event.
            let _ = worker.send(GatewayEvent::Disconnected(address)).await;
        }
        // Report all of them before the first one can report a demand: see `Demands::all_reported`.
        for address in present.difference(&followed.keys().copied().collect()) {
            let _ = worker.send(GatewayEvent::Discovered(*address)).await;
        }
        for address in present {
            followed.entry(address).or_insert_with(|| {
                // The task is aborted when its endpoint is removed, or ends with the program.
                tokio::spawn(keep_open(address, identity.clone(), worker.clone())).abort_handle()
            });
        }
    }
}

async fn keep_open(address: SocketAddr, identity: Identity, worker: mpsc::Sender<GatewayEvent>) {
    loop {
        if let Err(reason) = read_demands(address, &identity, &worker).await {
            tracing::debug!(%address, %reason, "the stream of a gateway's demands broke");
        }
        if worker
            .send(GatewayEvent::Disconnected(address))
            .await
            .is_err()
        {
            return;
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

type StreamError = Box<dyn std::error::Error + Send + Sync>;

async fn read_demands(
    gateway: SocketAddr,
    identity: &Identity,
    worker: &mpsc::Sender<GatewayEvent>,
) -> Result<(), StreamError> {
    let stream = identity.connect_gateway(gateway, IDLE_TIMEOUT).await?;
    let mut client = HttpClient::over(stream).await?;
    let request = Request::builder()
        .uri(DEMAND_PATH)
        .header(header::HOST, gateway.to_string())
        .body(Empty::<Bytes>::new())?;
    let response = tokio::time::timeout(IDLE_TIMEOUT, client.send(request)).await??;
    if response.status() != StatusCode::OK {
        return Err(format!("the gateway answers {}", response.status()).into());
    }
    worker.send(GatewayEvent::Connected(gateway)).await?;
    let mut lines = Lines::new(response.into_body(), LINE_LIMIT).with_idle_timeout(IDLE_TIMEOUT);
    let read = async {
        while let Some(line) = lines.next().await? {
            match DemandLine::read(&line)? {
                DemandLine::Demand(demand) => {
                    worker.send(GatewayEvent::Demand(gateway, demand)).await?;
                }
                DemandLine::Alive => {}
            }
        }
        Ok(())
    };
    client.during(read).await
}
