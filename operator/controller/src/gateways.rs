//! What the gateways want: a stream from each ready endpoint of their Service.
//!
//! Follows the endpoints, keeps a connection to each and hands every line to `worker`. A stream
//! that breaks or falls silent is opened again; the worker decides for how long the last word of
//! a lost gateway counts.

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
use pilotlight_net::lines::Lines;
use pilotlight_net::{address, keepalive};
use pilotlight_watch::Gateways;
use pilotlight_wire::demand::{DEMAND_PATH, DemandLine};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::metrics::{Metrics, Operation};
use crate::options::Options;

/// A gateway says something each second; one that does not is gone.
const SILENCE: Duration = Duration::from_secs(5);
/// Between two attempts to reach a gateway.
const PAUSE: Duration = Duration::from_millis(500);
/// Of one line: a name and an id for each of thousands of instances.
const LINE_LIMIT: usize = 4 * 1024 * 1024;

/// Follows the endpoints for ever.
pub(crate) async fn follow(
    client: Client,
    options: &Options,
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
        let present = gateways.ready();
        for (address, task) in followed.extract_if(|address, _| !present.contains(address)) {
            task.abort();
            // Without a worker there is nobody left to tell.
            let _ = worker.send(GatewayEvent::Disconnected(address)).await;
        }
        // Report all of them before the first one can report a demand: see `Demands::all_reported`.
        for address in present.difference(&followed.keys().copied().collect()) {
            let _ = worker.send(GatewayEvent::Discovered(*address)).await;
        }
        for address in present {
            followed.entry(address).or_insert_with(|| {
                // Ended with the entry, or with the program.
                tokio::spawn(keep_open(address, worker.clone())).abort_handle()
            });
        }
    }
}

async fn keep_open(address: SocketAddr, worker: mpsc::Sender<GatewayEvent>) {
    loop {
        if let Err(reason) = listen(address, &worker).await {
            tracing::debug!(%address, %reason, "a gateway's demand is interrupted");
        }
        if worker
            .send(GatewayEvent::Disconnected(address))
            .await
            .is_err()
        {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

type Broken = Box<dyn std::error::Error + Send + Sync>;

async fn listen(gateway: SocketAddr, worker: &mpsc::Sender<GatewayEvent>) -> Result<(), Broken> {
    let stream = address::connect(gateway, SILENCE, keepalive::PARTS).await?;
    let mut client = HttpClient::over(stream).await?;
    let request = Request::builder()
        .uri(DEMAND_PATH)
        .header(header::HOST, gateway.to_string())
        .body(Empty::<Bytes>::new())?;
    let response = tokio::time::timeout(SILENCE, client.send(request)).await??;
    if response.status() != StatusCode::OK {
        return Err(format!("{} instead of demand", response.status()).into());
    }
    worker.send(GatewayEvent::Connected(gateway)).await?;
    let mut lines = Lines::new(response.into_body(), LINE_LIMIT).with_idle_timeout(SILENCE);
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
