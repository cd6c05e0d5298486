//! The gateways of a cluster: who is one, who owns what, and the way to the others.
//!
//! Members are the ready endpoints of the gateways' Service, but for those that refuse connections:
//! while the API server is away a dead gateway's functions move all the same. `core::gateways::ownership`
//! shares the functions out among them; the parent module takes functions over and hands them on.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, future};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self as client, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Event};
use pilotlight_core::gateways::ownership;
use pilotlight_core::ids::FunctionKey;
use pilotlight_core::instance::failure::PAYLOAD_LIMIT;
use pilotlight_watch::Gateways;
use pilotlight_wire::invoke::{InvokeRequest, Outcome};
use pilotlight_wire::state::{STATE_PATH, State};
use tokio::net::TcpStream;
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
/// A connection on which nothing is acknowledged for interval × retries after this is broken:
/// a node that is lost says nothing.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(5), Duration::from_secs(2), 3);
/// The same while something is on its way there: the kernel does not ask then.
const SILENCE: Duration = Duration::from_secs(10);
/// Idle connections are given up before the peer may.
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
    client: Client<HttpConnector, Full<Bytes>>,
}

impl ClusterPeers {
    /// `me`: where the others reach this gateway.
    pub(crate) fn new(me: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        let (idle, interval, retries) = KEEPALIVE;
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_LIMIT));
        connector.set_keepalive(Some(idle));
        connector.set_keepalive_interval(Some(interval));
        connector.set_keepalive_retries(Some(retries));
        connector.set_tcp_user_timeout(Some(SILENCE));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .build(connector);
        let members = Members {
            me,
            are_known: false,
            listed: BTreeSet::new(),
            unreachable: BTreeSet::new(),
        };
        ClusterPeers {
            me,
            members: watch::Sender::new(members),
            client,
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
        while let Some(event) = events.next().await {
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
            let connected = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(peer)).await;
            if matches!(connected, Ok(Ok(_))) {
                self.change(|members| {
                    members.unreachable.remove(&peer);
                });
            }
        }
    }

    async fn state_of(&self, peer: SocketAddr) -> Option<State> {
        let request = Request::get(at(peer, Uri::from_static(STATE_PATH)));
        let request = request.body(Full::default()).ok()?;
        let state = async {
            let answer = self.client.request(request).await.ok()?;
            let body = Limited::new(answer.into_body(), STATE_LIMIT);
            let body = body.collect().await.ok()?.to_bytes();
            serde_json::from_slice(&body).ok()
        };
        let state = tokio::time::timeout(STATE_TIMEOUT, state).await;
        state.ok().flatten()
    }

    async fn send(&self, request: InvokeRequest) -> Forwarded {
        let owner = self.members.borrow().owner(&request.target.function);
        if owner == self.me {
            // This gateway is about to take the function over.
            return Forwarded::NeverSent;
        }
        span::record("owner", owner);
        let (function, request_id) = (request.target.clone(), request.request_id.clone());
        let (mut head, payload) = request.into_request().into_parts();
        head.uri = at(owner, head.uri);
        let request = Request::from_parts(head, Full::new(payload));
        let answered = async {
            let (head, body) = self.client.request(request).await?.into_parts();
            // A body beyond the limit is no outcome of a gateway, and reads as a lost invocation.
            let body = Limited::new(body, PAYLOAD_LIMIT).collect().await;
            Ok::<_, client::Error>(body.map(|body| Outcome::read(&head, body.to_bytes())))
        };
        match answered.await {
            Ok(Ok(outcome)) => Forwarded::Ended(outcome),
            Ok(Err(error)) => {
                tracing::warn!(peer = %owner, %function, %request_id, %error, "a forwarded call was lost");
                Forwarded::Ended(Outcome::Lost)
            }
            Err(error) if error.is_connect() => {
                self.suspect(owner);
                Forwarded::NeverSent
            }
            Err(error) => {
                tracing::warn!(peer = %owner, %function, %request_id, %error, "a forwarded call was lost");
                Forwarded::Ended(Outcome::Lost)
            }
        }
    }
}

/// The same path on another gateway.
fn at(peer: SocketAddr, uri: Uri) -> Uri {
    let mut uri = uri.into_parts();
    let authority = Authority::try_from(peer.to_string());
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(authority.expect("an address is an authority"));
    uri.path_and_query
        .get_or_insert(PathAndQuery::from_static("/"));
    Uri::from_parts(uri).expect("all parts are there")
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
