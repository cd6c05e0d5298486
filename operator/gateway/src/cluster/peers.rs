//! The gateways of a cluster: who is one, who owns what, and the way to the others.
//!
//! Members are the ready endpoints of the gateways' Service, but for those that refuse connections:
//! while the API server is away a dead gateway's functions move all the same. `core::gateways::ownership`
//! shares the functions out among them; the parent module takes functions over and hands them on.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, future};
use http::Request;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Event};
use pilotlight_core::gateways::ownership;
use pilotlight_core::ids::FunctionKey;
use pilotlight_core::instance::failure::PAYLOAD_LIMIT;
use pilotlight_net::client::ExchangeError;
use pilotlight_net::pooled::{PooledClient, PooledError};
use pilotlight_net::{address, keepalive};
use pilotlight_watch::Gateways;
use pilotlight_wire::invoke::{InvokeRequest, Outcome};
use pilotlight_wire::state::{STATE_PATH, State};
use tokio::sync::watch;

use crate::backend::Promise;
use crate::peers::{Forwarded, Peers};
use crate::span;

/// A peer that does not take a connection within this is as good as gone.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// A peer whose state does not come within this is named as one that did not answer.
const STATE_TIMEOUT: Duration = Duration::from_secs(1);
/// The greatest state of a peer that is read, in bytes: a thousand functions take about 1 MB.
const STATE_LIMIT: usize = 64 * 1024 * 1024;
/// Between two looks at whether an unreachable peer is back.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// A connection to a peer that is idle for this long is closed.
const POOL_IDLE: Duration = Duration::from_secs(30);

/// The members as this gateway sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Members {
    me: SocketAddr,
    /// Until they have been listed nobody knows what is whose.
    are_known: bool,
    listed: BTreeSet<SocketAddr>,
    unreachable: BTreeSet<SocketAddr>,
}

impl Members {
    /// Without any other the functions are this gateway's.
    fn owner(&self, function: &FunctionKey) -> SocketAddr {
        let reachable = self.listed.difference(&self.unreachable).copied();
        ownership::owner(function, reachable).unwrap_or(self.me)
    }

    /// Those that cannot be reached included.
    fn others(&self) -> BTreeSet<SocketAddr> {
        let others = self.listed.iter().filter(|peer| **peer != self.me);
        others.copied().collect()
    }

    pub(crate) fn is_mine(&self, function: &FunctionKey) -> bool {
        self.are_known && self.owner(function) == self.me
    }

    /// On its way up or down: others are asked to take its place.
    pub(crate) fn is_aside(&self) -> bool {
        !self.listed.is_empty() && !self.listed.contains(&self.me)
    }
}

/// Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(crate) struct ClusterPeers {
    me: SocketAddr,
    members: watch::Sender<Members>,
    client: Arc<PooledClient>,
}

impl ClusterPeers {
    /// `me`: where the others reach this gateway.
    pub(crate) fn new(me: SocketAddr) -> Self {
        let members = Members {
            me,
            are_known: false,
            listed: BTreeSet::new(),
            unreachable: BTreeSet::new(),
        };
        ClusterPeers {
            me,
            members: watch::Sender::new(members),
            client: Arc::new(PooledClient::new(CONNECT_LIMIT, POOL_IDLE)),
        }
    }

    pub(crate) fn members(&self) -> watch::Receiver<Members> {
        self.members.subscribe()
    }

    /// Follows the endpoints of the gateways' Service for ever.
    pub(crate) async fn follow(
        &self,
        events: impl Stream<Item = Result<Event<EndpointSlice>, watcher::Error>>,
    ) {
        let mut events = std::pin::pin!(events);
        let mut gateways = Gateways::default();
        let mut idle_checks = tokio::time::interval(POOL_IDLE);
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                _ = idle_checks.tick() => {
                    self.client.close_idle();
                    continue;
                }
            };
            let Some(event) = event else {
                return;
            };
            let are_listed = matches!(event, Ok(Event::InitDone));
            match event {
                Ok(event) => gateways.take(event),
                Err(error) => tracing::warn!(%error, "the watch of gateways is interrupted"),
            }
            let ready = gateways.ready();
            self.change(|members| {
                members.unreachable.retain(|peer| ready.contains(peer));
                members.listed = ready;
                members.are_known |= are_listed;
            });
        }
    }

    fn change(&self, change: impl FnOnce(&mut Members)) {
        self.members.send_if_modified(|members| {
            let before = members.clone();
            change(members);
            *members != before
        });
    }

    /// Counts a peer as gone until it takes connections again, or is no member any more.
    fn suspect(&self, peer: SocketAddr) {
        let is_news = self.members.send_if_modified(|members| {
            members.listed.contains(&peer) && members.unreachable.insert(peer)
        });
        if is_news {
            tracing::warn!(%peer, "another gateway cannot be reached");
            let peers = self.clone();
            // Ends with the peer's return or with its membership.
            tokio::spawn(async move { peers.probe(peer).await });
        }
    }

    async fn probe(&self, peer: SocketAddr) {
        while self.members.borrow().unreachable.contains(&peer) {
            tokio::time::sleep(PROBE_INTERVAL).await;
            let connected = address::connect(peer, CONNECT_LIMIT, keepalive::PARTS).await;
            if connected.is_ok() {
                self.change(|members| {
                    members.unreachable.remove(&peer);
                });
            }
        }
    }

    async fn state_of(&self, peer: SocketAddr) -> Option<State> {
        let request = Request::get(STATE_PATH).body(Bytes::new()).ok()?;
        let answered = self.client.exchange(peer, request, STATE_LIMIT);
        let answered = tokio::time::timeout(STATE_TIMEOUT, answered).await;
        serde_json::from_slice(answered.ok()?.ok()?.body()).ok()
    }

    async fn send(&self, request: InvokeRequest) -> Forwarded {
        let owner = self.members.borrow().owner(&request.target.function);
        if owner == self.me {
            // This gateway is about to take the function over.
            return Forwarded::NeverSent;
        }
        span::record("owner", owner);
        let (function, request_id) = (request.target.clone(), request.request_id.clone());
        let request = request.into_request();
        match self.client.exchange(owner, request, PAYLOAD_LIMIT).await {
            Ok(response) => {
                let (head, body) = response.into_parts();
                Forwarded::Ended(Outcome::read(&head, body))
            }
            Err(PooledError::Unreachable(_)) => {
                self.suspect(owner);
                Forwarded::NeverSent
            }
            Err(PooledError::Exchange(ExchangeError::NeverSent)) => Forwarded::NeverSent,
            // A body beyond the limit is no outcome of a gateway, and reads as a lost invocation.
            Err(error) => {
                tracing::warn!(peer = %owner, %function, %request_id, %error, "a forwarded call was lost");
                Forwarded::Ended(Outcome::Lost)
            }
        }
    }
}

impl Peers for ClusterPeers {
    fn forward(&self, request: InvokeRequest) -> Promise<'_, Forwarded> {
        Box::pin(self.send(request))
    }

    fn own_address(&self) -> String {
        self.me.to_string()
    }

    fn states(&self) -> Promise<'_, Vec<(String, Option<State>)>> {
        let others = self.members.borrow().others();
        let states = others.into_iter().map(async |peer| {
            let state = self.state_of(peer).await;
            (peer.to_string(), state)
        });
        Box::pin(future::join_all(states))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 8080))
    }

    fn seen_by(me: u8, listed: &[u8], unreachable: &[u8]) -> Members {
        let set = |all: &[u8]| all.iter().map(|last| address(*last)).collect();
        Members {
            me: address(me),
            are_known: true,
            listed: set(listed),
            unreachable: set(unreachable),
        }
    }

    fn mine(members: &Members) -> Vec<u32> {
        let is_mine = |n: &u32| members.is_mine(&format!("shop/f{n}").parse().expect("a function"));
        (0..100).filter(is_mine).collect()
    }

    #[test]
    fn each_function_is_one_gateways() {
        let owned = [1, 2, 3].map(|me| mine(&seen_by(me, &[1, 2, 3], &[])));
        let mut all = owned.concat();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        assert!(owned.iter().all(|some| !some.is_empty()));
    }

    #[test]
    fn a_gateway_that_is_not_ready_owns_nothing_unless_there_is_no_other() {
        let members = seen_by(1, &[2], &[]);
        assert!(mine(&members).is_empty() && members.is_aside());
        let alone = seen_by(1, &[], &[]);
        assert!(mine(&alone).len() == 100 && !alone.is_aside());
        let unknown = Members {
            are_known: false,
            ..alone
        };
        assert!(mine(&unknown).is_empty());
    }

    #[test]
    fn what_an_unreachable_gateway_owns_is_shared_out() {
        let (before, after) = (seen_by(1, &[1, 2], &[]), seen_by(1, &[1, 2], &[2]));
        assert!(mine(&before).len() < 100);
        assert_eq!(mine(&after).len(), 100);
    }
}
