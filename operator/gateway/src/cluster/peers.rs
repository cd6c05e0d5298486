//! The gateways of a cluster: which ones exist, which one owns a function, and the connections to them.
//!
//! Members are the ready endpoints of the gateways' Service. Only members that accept connections own functions, so
//! the functions of a dead gateway get a new owner even while the API server is down. `core::gateways::ownership`
//! assigns each function to a member; the parent module carries out the handover.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt, future};
use http::Request;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Event};
use pilotlight_core::gateways::ownership;
use pilotlight_core::ids::FunctionKey;
use pilotlight_core::instance::failure::PAYLOAD_LIMIT;
use pilotlight_net::client::ExchangeError;
use pilotlight_net::identity::Identity;
use pilotlight_net::pooled::{Opened, PooledClient, PooledError};
use pilotlight_watch::Gateways;
use pilotlight_wire::invoke::{InvokeRequest, Outcome};
use pilotlight_wire::state::{STATE_PATH, State};
use pilotlight_wire::stream::StreamHead;
use tokio::sync::watch;

use crate::answer_stream::{self, AnswerStream};
use crate::backend::Promise;
use crate::intake::Intake;
use crate::peers::{Forwarded, Peers};
use crate::span;

/// A peer that does not accept a connection within this time counts as unreachable.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// A peer that does not send its state within this time is listed as unanswered.
const STATE_TIMEOUT: Duration = Duration::from_secs(1);
/// The largest state that is read from a peer, in bytes. A thousand functions take about 1 MB.
const STATE_LIMIT: usize = 64 * 1024 * 1024;
/// The pause between two attempts to connect to an unreachable peer.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// A connection to a peer is closed once it was idle for this time.
const POOL_IDLE: Duration = Duration::from_secs(30);

/// The members as this gateway sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Members {
    me: SocketAddr,
    /// Whether the first list of members is complete. Until then this gateway owns no function.
    are_known: bool,
    listed: BTreeSet<SocketAddr>,
    unreachable: BTreeSet<SocketAddr>,
}

impl Members {
    /// If no member is reachable, this gateway is the owner.
    fn owner(&self, function: &FunctionKey) -> SocketAddr {
        let reachable = self.listed.difference(&self.unreachable).copied();
        ownership::owner(function, reachable).unwrap_or(self.me)
    }

    /// All other members, including the unreachable ones.
    fn others(&self) -> BTreeSet<SocketAddr> {
        let others = self.listed.iter().filter(|peer| **peer != self.me);
        others.copied().collect()
    }

    pub(crate) fn is_mine(&self, function: &FunctionKey) -> bool {
        self.are_known && self.owner(function) == self.me
    }

    /// Whether others are members and this gateway is not: it is starting or stopping, and they serve instead of it.
    pub(crate) fn is_aside(&self) -> bool {
        !self.listed.is_empty() && !self.listed.contains(&self.me)
    }
}

/// Clones share the members and the connections.
#[derive(Clone, Debug)]
pub(crate) struct ClusterPeers {
    me: SocketAddr,
    members: watch::Sender<Members>,
    client: Arc<PooledClient>,
    identity: Identity,
}

impl ClusterPeers {
    /// `me`: the address at which peers reach this gateway.
    pub(crate) fn new(me: SocketAddr, identity: Identity) -> Self {
        let members = Members {
            me,
            are_known: false,
            listed: BTreeSet::new(),
            unreachable: BTreeSet::new(),
        };
        ClusterPeers {
            me,
            members: watch::Sender::new(members),
            client: Arc::new(PooledClient::new(
                identity.clone(),
                CONNECT_LIMIT,
                POOL_IDLE,
            )),
            identity,
        }
    }

    pub(super) fn client(&self) -> &PooledClient {
        &self.client
    }

    /// All other members, including those that do not accept connections.
    pub(super) fn others(&self) -> BTreeSet<SocketAddr> {
        self.members.borrow().others()
    }

    pub(crate) fn members(&self) -> watch::Receiver<Members> {
        self.members.subscribe()
    }

    /// Follows the endpoints of the gateways' Service until `events` ends.
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
            let present = gateways.present();
            self.change(|members| {
                members.unreachable.retain(|peer| present.contains(peer));
                members.listed = present;
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

    /// Counts a peer as unreachable until it accepts a connection or is no longer a member.
    fn suspect(&self, peer: SocketAddr) {
        let is_new = self.members.send_if_modified(|members| {
            members.listed.contains(&peer) && members.unreachable.insert(peer)
        });
        if is_new {
            tracing::warn!(%peer, "another gateway cannot be reached");
            let peers = self.clone();
            // The task ends when the peer accepts a connection or is no longer a member.
            tokio::spawn(async move { peers.probe(peer).await });
        }
    }

    async fn probe(&self, peer: SocketAddr) {
        while self.members.borrow().unreachable.contains(&peer) {
            tokio::time::sleep(PROBE_INTERVAL).await;
            let connected = self.identity.connect_gateway(peer, CONNECT_LIMIT).await;
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

    async fn send(&self, request: InvokeRequest, intake: &Intake) -> Forwarded {
        let owner = self.members.borrow().owner(&request.target.function);
        if owner == self.me {
            // This gateway is about to take the function over.
            return Forwarded::NeverSent;
        }
        span::record("owner", owner);
        let (function, request_id) = (request.target.clone(), request.request_id.clone());
        let request = request.into_request();
        let ended = match self.client.send(owner, request).await {
            Ok(opened) => match StreamHead::read(opened.head()) {
                Some(head) => return Forwarded::Began(follow(head, opened)),
                None => {
                    let room = intake.room_for(opened.body()).await;
                    let whole = opened.whole(PAYLOAD_LIMIT).await;
                    whole.map(|response| response.map(|body| room.hold(body)))
                }
            },
            Err(error) => Err(error),
        };
        match ended {
            Ok(response) => {
                let (head, body) = response.into_parts();
                Forwarded::Ended(Outcome::read(&head, body))
            }
            Err(PooledError::Unreachable(_)) => {
                self.suspect(owner);
                Forwarded::NeverSent
            }
            Err(PooledError::Exchange(ExchangeError::NeverSent)) => Forwarded::NeverSent,
            // A gateway never sends a body beyond the limit, so a larger one also counts as a lost invocation.
            Err(error) => {
                tracing::warn!(peer = %owner, %function, %request_id, %error, "a forwarded call was lost");
                Forwarded::Ended(Outcome::Lost)
            }
        }
    }
}

/// Starts a task that reads the response. The returned stream yields the pieces.
fn follow(head: StreamHead, opened: Opened) -> AnswerStream {
    // No tally here: the owner counts the invocation.
    let (writer, stream) = answer_stream::channel(head, None);
    // The task ends with the response, and the owner ends the response at the function's timeout.
    tokio::spawn(async move {
        if let Some(end) = opened.read(|body| writer.copy(body)).await {
            writer.end(end);
        }
    });
    stream
}

impl Peers for ClusterPeers {
    fn forward<'a>(&'a self, request: InvokeRequest, intake: &'a Intake) -> Promise<'a, Forwarded> {
        Box::pin(self.send(request, intake))
    }

    fn own_address(&self) -> String {
        self.me.to_string()
    }

    fn owns(&self, function: &FunctionKey) -> bool {
        self.members.borrow().is_mine(function)
    }

    fn changes(&self) -> BoxStream<'static, ()> {
        let changes = stream::unfold(self.members(), |mut members| async {
            members.changed().await.ok()?;
            Some(((), members))
        });
        changes.boxed()
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
