//! The connections of gateways, from before a claim to the end.
//!
//! Owns the proof of who is at both ends, and which of `claim` and `control_api` answers: a connection outlives the
//! claim that it brought, and carries leases afterwards. In the time between, requests wait. Decides when connections are
//! closed; never what a request is answered.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use pilotlight_core::identity::{Caller, Role};
use pilotlight_net::framing::Framed;
use pilotlight_net::identity::instance::InstanceIdentity;
use pilotlight_net::identity::{Accepted, TlsStream};
use pilotlight_wire::config::IdentityConfig;
use pilotlight_wire::proof::IDENTITY_PATH;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::claim::{self, Claimed, Own, PendingClaim, WinsClaim};
use crate::connection::{Connection, Listener};
use crate::control_api::{self, Api};
use crate::response::{self, ControlResponse};

/// The most gateways that may be proving who they are at a time. A further one takes the place of the one that
/// has not finished for the longest time.
const HANDSHAKES: usize = 64;

/// How long closing waits for answers that are being written.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the end waits for gateways to close their connections; a lost gateway never does.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How this instance recognises gateways and proves which pod it is. Clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    identity: InstanceIdentity,
    is_required: bool,
    token: Rc<Path>,
}

impl Proof {
    pub(crate) fn of(config: &IdentityConfig) -> anyhow::Result<Self> {
        let identity = InstanceIdentity::new(&config.authorities, config.needs_tls);
        Ok(Proof {
            identity: identity.context("the authorities of the release")?,
            is_required: config.needs_tls,
            token: Rc::from(config.token.as_path()),
        })
    }

    /// The kubelet replaces the token while the pod lives, so it is read each time.
    fn show(&self) -> ControlResponse {
        match fs::read_to_string(&self.token) {
            Ok(token) => response::text(StatusCode::OK, token),
            Err(error) => {
                let reason = format!("the token of the pod cannot be read: {error}\n");
                response::text(StatusCode::INTERNAL_SERVER_ERROR, reason)
            }
        }
    }
}

/// Who answers requests.
#[derive(Clone, Debug)]
enum Phase {
    Unclaimed(Rc<RefCell<PendingClaim>>),
    /// The instance starts. Requests wait.
    Starting,
    Serving(Rc<Api>),
}

/// The port for gateways, and their connections.
#[derive(Debug)]
pub(crate) struct GatewayPort {
    pub(crate) listener: Listener,
    connections: Rc<Connections>,
}

#[derive(Debug)]
struct Connections {
    /// `None` in local mode, where only this machine's user reaches the socket.
    proof: Option<Proof>,
    /// Ends the handshakes that have not finished, the oldest first.
    handshakes: RefCell<VecDeque<CancellationToken>>,
    phase: watch::Sender<Phase>,
    /// Closes those that are open when the wait for a claim is over. The connection of the claim stays open.
    unclaimed_end: CancellationToken,
    open: TaskTracker,
}

impl GatewayPort {
    pub(crate) fn new(listener: Listener, proof: Option<Proof>) -> Self {
        let connections = Rc::new(Connections {
            proof,
            handshakes: RefCell::default(),
            phase: watch::Sender::new(Phase::Starting),
            unclaimed_end: CancellationToken::new(),
            open: TaskTracker::new(),
        });
        GatewayPort {
            listener,
            connections,
        }
    }

    /// Waits for a claim and its code; `None` if a gateway drains the instance instead.
    pub(crate) async fn wait_for_claim(
        &self,
        root: PathBuf,
        own: Option<Own>,
    ) -> anyhow::Result<Option<Claimed>> {
        // A gateway that has to prove who it is names the parts of the code. During the upgrade from a release whose
        // gateways can do neither, neither is required.
        let proof = self.connections.proof.as_ref();
        let needs_parts = proof.is_some_and(|proof| proof.is_required);
        let (pending, mut result) = PendingClaim::new(root, own, needs_parts);
        let phase = &self.connections.phase;
        phase.send_replace(Phase::Unclaimed(pending));
        let claimed = loop {
            tokio::select! {
                // The result first: connections that come later wait for the instance.
                biased;
                result = &mut result => break result.context("the claim was dropped")?,
                stream = self.listener.next() => self.connections.serve(stream),
            }
        };
        phase.send_replace(Phase::Starting);
        self.connections.unclaimed_end.cancel();
        if !matches!(claimed, Ok(Some(_))) {
            // The process ends after this, and its answer has to leave before.
            self.connections.end_within(CLOSE_TIMEOUT).await;
        }
        claimed
    }

    /// Serves until `end`. Then answers requests on open connections, with refusals, until the gateways have closed
    /// these, at most [`DISCONNECT_TIMEOUT`]; the end of a status stream tells a gateway to do so. If this process closed
    /// first, a gateway could not tell whether its last request was read.
    pub(crate) async fn serve(self, api: Api, end: Rc<Notify>) {
        let connections = self.connections;
        connections.phase.send_replace(Phase::Serving(Rc::new(api)));
        loop {
            tokio::select! {
                stream = self.listener.next() => connections.serve(stream),
                () = end.notified() => break,
            }
        }
        connections.end_within(DISCONNECT_TIMEOUT).await;
    }
}

impl Connections {
    /// Waits until all are closed. Nobody waits for those who have not proven who they are.
    async fn end_within(&self, limit: Duration) {
        for handshake in self.handshakes.take() {
            handshake.cancel();
        }
        self.open.close();
        let _ = tokio::time::timeout(limit, self.open.wait()).await;
    }

    /// Answers the requests on a connection, in a task of its own. An error of the connection needs no handling: it
    /// drops the request's future, which is enough for the request to notice.
    fn serve(self: &Rc<Self>, stream: Connection) {
        let this = self.clone();
        self.open.spawn_local(async move {
            let (stream, caller) = match (stream, &this.proof) {
                (Either::Left(stream), Some(proof)) => {
                    let (stream, caller) = handshake(proof, stream, &this.handshakes).await?;
                    (over(stream), caller)
                }
                (stream, _) => (Either::Left(stream), Caller::Unproven),
            };
            // Only a proven gateway sees the token: whoever else had it could pretend to be this pod.
            let shown = this.proof.as_ref();
            let shown = shown.filter(|_| caller == Caller::Proven(Role::Gateway));
            let brought_claim = Cell::new(false);
            let service = service_fn(|request: Request<Incoming>| {
                let (phase, brought_claim) = (&this.phase, &brought_claim);
                async move {
                    let asks =
                        request.method() == Method::GET && request.uri().path() == IDENTITY_PATH;
                    let response = match shown.filter(|_| asks) {
                        Some(proof) => proof.show(),
                        None => answer(phase, request).await,
                    };
                    if response.extensions().get::<WinsClaim>().is_some() {
                        brought_claim.set(true);
                    }
                    Ok::<_, Infallible>(response)
                }
            });
            let connection = http1::Builder::new()
                .header_read_timeout(None)
                .serve_connection(TokioIo::new(Framed::new(stream, ())), service);
            let mut connection = pin!(connection);
            // The wait may be over before this connection was accepted.
            let is_unclaimed = matches!(*this.phase.borrow(), Phase::Unclaimed(_));
            if is_unclaimed {
                tokio::select! {
                    ended = connection.as_mut() => return ended.ok(),
                    () = this.unclaimed_end.cancelled() => {}
                }
                if !brought_claim.get() {
                    connection.as_mut().graceful_shutdown();
                    let _ = tokio::time::timeout(CLOSE_TIMEOUT, connection).await;
                    return None;
                }
            }
            connection.await.ok()
        });
    }
}

async fn answer(phase: &watch::Sender<Phase>, request: Request<Incoming>) -> ControlResponse {
    loop {
        let now = phase.borrow().clone();
        match now {
            Phase::Unclaimed(pending) => return claim::answer(&pending, request).await,
            Phase::Serving(api) => return control_api::answer(&api, request).await,
            Phase::Starting => {
                let mut changes = phase.subscribe();
                let started = changes.wait_for(|now| !matches!(now, Phase::Starting));
                started.await.expect("`phase` is a sender");
            }
        }
    }
}

type Proven = Either<Connection, Box<TlsStream<TcpStream>>>;

fn over(stream: Accepted) -> Proven {
    match stream {
        Either::Left(stream) => Either::Left(Either::Left(stream)),
        Either::Right(stream) => Either::Right(stream),
    }
}

/// Finds out who has connected; `None` if that is no gateway, or if too many others came meanwhile.
async fn handshake(
    proof: &Proof,
    stream: TcpStream,
    handshakes: &RefCell<VecDeque<CancellationToken>>,
) -> Option<(Accepted, Caller)> {
    let end = CancellationToken::new();
    {
        let mut handshakes = handshakes.borrow_mut();
        handshakes.retain(|other| !other.is_cancelled());
        if handshakes.len() == HANDSHAKES
            && let Some(oldest) = handshakes.pop_front()
        {
            oldest.cancel();
        }
        handshakes.push_back(end.clone());
    }
    let accepted = tokio::select! {
        accepted = proof.identity.accept(stream) => accepted.ok(),
        () = end.cancelled() => None,
    };
    // Its place is free.
    end.cancel();
    accepted
}
