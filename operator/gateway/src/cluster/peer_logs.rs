//! The logs that other gateways have, over the listener for parts (`wire::logs`).
//!
//! A gateway has the records of the instances whose functions it owns. One that serves a reader asks all others. Who follows
//! gets a task for each other gateway, which ends with the reader.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{self, BoxFuture};
use http::{Request, StatusCode};
use pilotlight_core::ids::FunctionKey;
use pilotlight_logs::entry::Entry;
use pilotlight_net::lines::Lines;
use pilotlight_wire::logs::LogsRequest;
use tokio::task::JoinSet;

use super::peers::ClusterPeers;
use crate::logs::others::OtherGateways;
use crate::logs::tail::Sink;

/// How long a reader waits for another gateway. That one waits for its instances meanwhile (`CATCH_UP_LIMIT`).
const PEER_LOGS_LIMIT: Duration = Duration::from_secs(3);
/// The pause before a gateway that does not send records is asked again.
const FOLLOW_PAUSE: Duration = Duration::from_millis(500);
/// The most that is read of one gateway, in bytes.
const ANSWER_LIMIT: usize = 32 * 1024 * 1024;
/// The longest line of JSON: an entry whose text is escaped.
const ENTRY_LIMIT: usize = 4 * 1024 * 1024;

impl OtherGateways for ClusterPeers {
    fn waiting<'a>(
        &'a self,
        function: &'a FunctionKey,
    ) -> BoxFuture<'a, Vec<(String, Option<Vec<Entry>>)>> {
        let asked = self.others().into_iter().map(async |peer| {
            let waiting = tokio::time::timeout(PEER_LOGS_LIMIT, self.waiting_at(peer, function));
            (peer.to_string(), waiting.await.ok().flatten())
        });
        Box::pin(future::join_all(asked))
    }

    fn follow(&self, function: &FunctionKey, reader: Sink) {
        let (peers, function) = (self.clone(), function.clone());
        // It ends with the reader.
        tokio::spawn(async move {
            let gone = reader.clone();
            tokio::select! {
                () = peers.follow_all(&function, &reader) => {}
                () = gone.is_gone() => {}
            }
        });
    }
}

impl ClusterPeers {
    async fn waiting_at(&self, peer: SocketAddr, function: &FunctionKey) -> Option<Vec<Entry>> {
        let request = request(function, false)?;
        let answered = self
            .client()
            .exchange(peer, request, ANSWER_LIMIT)
            .await
            .ok()?;
        if answered.status() != StatusCode::OK {
            return None;
        }
        let lines = answered.body().split(|byte| *byte == b'\n');
        // A later release may have entries that this one cannot read.
        let entries = lines.filter_map(|line| serde_json::from_slice(line).ok());
        Some(entries.collect())
    }

    /// Follows each other gateway, as they come and go.
    async fn follow_all(&self, function: &FunctionKey, reader: &Sink) {
        let mut members = self.members();
        let mut followed: BTreeMap<SocketAddr, tokio::task::AbortHandle> = BTreeMap::new();
        let mut tasks = JoinSet::new();
        loop {
            let others = self.others();
            followed.retain(|peer, task| {
                let stays = others.contains(peer);
                if !stays {
                    task.abort();
                }
                stays
            });
            for peer in others {
                followed.entry(peer).or_insert_with(|| {
                    let (peers, function, reader) =
                        (self.clone(), function.clone(), reader.clone());
                    tasks.spawn(async move {
                        loop {
                            // What the gateway has of before is among what follows, and the reader drops what it knows.
                            peers.follow_one(peer, &function, &reader).await;
                            tokio::time::sleep(FOLLOW_PAUSE).await;
                        }
                    })
                });
            }
            if members.changed().await.is_err() {
                return;
            }
        }
    }

    async fn follow_one(
        &self,
        peer: SocketAddr,
        function: &FunctionKey,
        reader: &Sink,
    ) -> Option<()> {
        let opened = self
            .client()
            .send(peer, request(function, true)?)
            .await
            .ok()?;
        if opened.head().status != StatusCode::OK {
            return None;
        }
        opened
            .read(async |body| {
                let mut lines = Lines::new(body, ENTRY_LIMIT);
                while let Ok(Some(line)) = lines.next().await {
                    if let Ok(entry) = serde_json::from_slice::<Entry>(&line) {
                        reader.put(entry);
                    }
                }
                Some(())
            })
            .await
    }
}

fn request(function: &FunctionKey, follow: bool) -> Option<Request<Bytes>> {
    let function = function.clone();
    let target = LogsRequest { function, follow }.target();
    Request::get(target).body(Bytes::new()).ok()
}
