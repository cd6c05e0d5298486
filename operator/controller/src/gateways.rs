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
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use kube::Client;
use pilotlight_core::gateways::demand::Demand;
use pilotlight_watch::Gateways;
use pilotlight_wire::demand::DEMAND_PATH;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::Options;
use crate::metrics::{Metrics, Operation};

/// A gateway says something each second; one that does not is gone.
const SILENCE: Duration = Duration::from_secs(5);
/// Between two attempts to reach a gateway.
const PAUSE: Duration = Duration::from_millis(500);
/// Of one line: a name and an id for each of thousands of instances.
const LINE_LIMIT: usize = 4 * 1024 * 1024;

/// What the worker is told.
#[derive(Debug)]
pub(crate) enum Told {
    /// It is to be reached.
    Found(SocketAddr),
    Connected(SocketAddr),
    Demand(SocketAddr, Demand),
    Lost(SocketAddr),
}

/// Follows the endpoints for ever.
pub(crate) async fn follow(
    client: Client,
    options: &Options,
    worker: mpsc::Sender<Told>,
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
            let _ = worker.send(Told::Lost(address)).await;
        }
        // All are told of before the first one can speak.
        for address in present.difference(&followed.keys().copied().collect()) {
            let _ = worker.send(Told::Found(*address)).await;
        }
        for address in present {
            followed.entry(address).or_insert_with(|| {
                // Ended with the entry, or with the program.
                tokio::spawn(keep_open(address, worker.clone())).abort_handle()
            });
        }
    }
}

async fn keep_open(address: SocketAddr, worker: mpsc::Sender<Told>) {
    loop {
        if let Err(reason) = listen(address, &worker).await {
            tracing::debug!(%address, %reason, "a gateway's demand is interrupted");
        }
        if worker.send(Told::Lost(address)).await.is_err() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

type Broken = Box<dyn std::error::Error + Send + Sync>;

async fn listen(address: SocketAddr, worker: &mpsc::Sender<Told>) -> Result<(), Broken> {
    let stream = tokio::time::timeout(SILENCE, TcpStream::connect(address)).await??;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .uri(DEMAND_PATH)
        .header(header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())?;
    let read = async {
        let response = tokio::time::timeout(SILENCE, sender.send_request(request)).await??;
        if response.status() != StatusCode::OK {
            return Err(format!("{} instead of demand", response.status()).into());
        }
        worker.send(Told::Connected(address)).await?;
        let mut body = response.into_body();
        let mut pending = Vec::new();
        while let Some(frame) = tokio::time::timeout(SILENCE, body.frame()).await? {
            pending.extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data));
            if pending.len() > LINE_LIMIT {
                return Err("a line of demand is too long".into());
            }
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                if end > 0 {
                    let demand = serde_json::from_slice(&line)?;
                    worker.send(Told::Demand(address, demand)).await?;
                }
            }
        }
        Ok(())
    };
    tokio::select! {
        read = read => read,
        ended = connection => Ok(ended?),
    }
}
