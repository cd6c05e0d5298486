//! Connections to supervisors, with a pod at the other end that this gateway knows from its own watch.
//!
//! A supervisor shows a key in the handshake, and once the token of its pod. Whoever shows the same key later is the same
//! process. Pods of warm pools are asked for their token when the watch shows them, and the connection stays open: the
//! claim and the first lease use it, so a cold start waits for no handshake.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use pilotlight_api::labels;
use pilotlight_core::ids::Uid;
use pilotlight_net::address::{CONNECT_TIMEOUT, Opening, Stream};
use pilotlight_net::body::{self, Whole};
use pilotlight_net::client::HttpClient;
use pilotlight_net::identity::token::TOKEN_LIMIT;
use pilotlight_net::identity::{Identity, ServerKey};
use pilotlight_wire::proof::IDENTITY_PATH;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

use super::tokens::Tokens;

/// How long a supervisor may take to show the token of its pod.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Pods that are asked for their tokens at a time.
const ASKED_AT_A_TIME: usize = 4;
/// Pods that wait to be asked. A further one is asked when it is claimed.
const WAITING_TO_BE_ASKED: usize = 1024;

/// Where the supervisor in a pod listens for gateways.
pub(crate) fn address(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, labels::CONTROL_PORT)
}

/// A pod of a warm pool that the watch shows: where its supervisor is, and its UID.
pub(crate) type Announced = (SocketAddr, Uid);

/// The most connections that wait for a claim. A pod beyond them gets its connection with the claim.
const KEPT_LIMIT: usize = 1024;

/// A pod that the watch shows.
#[derive(Debug, Default)]
struct Pod {
    /// Whether a connection may wait for its claim: it belongs to a warm pool, and this gateway has not begun to claim it.
    is_waiting: bool,
    /// The key that its supervisor had when it showed its token.
    key: Option<ServerKey>,
    /// A connection that waits for the next exchange.
    kept: Option<Stream>,
}

/// The pods of which this gateway knows supervisors. Only the watch adds and removes them, so nothing stays of a pod that
/// is gone. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProvenPods(Arc<Mutex<HashMap<Uid, Pod>>>);

impl ProvenPods {
    fn all(&self) -> MutexGuard<'_, HashMap<Uid, Pod>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The watch shows a pod of a warm pool that waits for a claim.
    pub(crate) fn waits(&self, uid: &Uid) {
        self.all().entry(uid.clone()).or_insert_with(|| Pod {
            is_waiting: true,
            ..Pod::default()
        });
    }

    /// The watch shows a pod that belongs to a function. If another gateway has claimed it, the connection that waited for
    /// a claim is closed.
    pub(crate) fn belongs(&self, uid: &Uid) {
        let mut all = self.all();
        let pod = all.entry(uid.clone()).or_default();
        if pod.is_waiting {
            (pod.is_waiting, pod.kept) = (false, None);
        }
    }

    /// The pod is gone.
    pub(crate) fn forget(&self, uid: &str) {
        self.all().remove(uid);
    }
}

/// See the module. Clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Supervisors {
    identity: Identity,
    /// `None` without a cluster, where nobody proves anything.
    tokens: Option<Tokens>,
    proven: ProvenPods,
}

/// The supervisor of one pod.
#[derive(Clone, Debug)]
pub(crate) struct Supervisor {
    pub(crate) address: SocketAddr,
    uid: Uid,
    supervisors: Supervisors,
}

impl Supervisors {
    pub(crate) fn new(identity: Identity, tokens: Option<Tokens>, proven: ProvenPods) -> Self {
        Supervisors {
            identity,
            tokens,
            proven,
        }
    }

    /// The supervisor of the pod with this address and UID.
    pub(crate) fn of_pod(&self, ip: IpAddr, uid: &Uid) -> Supervisor {
        self.at(address(ip), uid)
    }

    fn at(&self, address: SocketAddr, uid: &Uid) -> Supervisor {
        Supervisor {
            address,
            uid: uid.clone(),
            supervisors: self.clone(),
        }
    }

    /// Asks pods for their tokens, in the background, until the sender is gone.
    pub(crate) async fn meet(&self, pods: mpsc::Receiver<Announced>) {
        let meet = async |(address, uid): Announced| {
            let is_new = |pod: &Pod| pod.is_waiting && pod.key.is_none();
            // It may have been claimed, or be gone, since it was announced.
            if !self.proven.all().get(&uid).is_some_and(is_new) {
                return;
            }
            let supervisor = self.at(address, &uid);
            match supervisor.open().await {
                Ok(stream) => supervisor.keep_for_claim(stream),
                // Whoever claims the pod gets an error too, and says so.
                Err(error) => {
                    tracing::debug!(%address, %error, "a pod has not proven who it is");
                }
            }
        };
        let pods = stream::unfold(pods, async |mut pods| Some((pods.recv().await?, pods)));
        let asked = pods.map(meet).buffer_unordered(ASKED_AT_A_TIME);
        asked.collect::<()>().await;
    }

    /// Where pods are announced that [`Supervisors::meet`] asks.
    pub(crate) fn queue() -> (mpsc::Sender<Announced>, mpsc::Receiver<Announced>) {
        mpsc::channel(WAITING_TO_BE_ASKED)
    }
}

impl Supervisor {
    pub(crate) fn connect(&self) -> Opening {
        let this = self.clone();
        Box::pin(async move { this.open().await })
    }

    /// Opens a connection, or takes the one that was kept. It knows then that the pod is at the other end if parts prove
    /// who they are.
    pub(crate) async fn open(&self) -> io::Result<Stream> {
        if let Some(kept) = self.take_kept() {
            return Ok(kept);
        }
        let (stream, key) = self.connect_unproven().await?;
        let (Some(key), Some(tokens)) = (key, &self.supervisors.tokens) else {
            // An instance of an earlier release, while identity is permissive.
            return Ok(stream);
        };
        if self.has_proven(&key) {
            return Ok(stream);
        }
        let (token, stream) = tokio::time::timeout(TOKEN_TIMEOUT, self.token(stream)).await??;
        let checked = tokens.check(&token, self.uid.as_str()).await;
        checked.map_err(|why| {
            refused(format!(
                "it has not proven that it is the pod {}: {why}",
                self.uid
            ))
        })?;
        if let Some(pod) = self.supervisors.proven.all().get_mut(&self.uid) {
            pod.key = Some(key.clone());
        }
        if let Some(stream) = stream {
            return Ok(stream);
        }
        let (stream, again) = self.connect_unproven().await?;
        match again == Some(key) {
            true => Ok(stream),
            false => Err(refused("another process answers at its address".to_owned())),
        }
    }

    /// Keeps a connection for the next exchange with the pod. Without a proof of who is at the other end it is closed.
    pub(crate) fn keep(&self, stream: Stream) {
        let mut all = self.supervisors.proven.all();
        if let Some(pod) = all.get_mut(&self.uid).filter(|pod| pod.key.is_some()) {
            pod.kept = Some(stream);
        }
    }

    /// Keeps a connection until the pod is claimed, unless that has begun meanwhile: then the supervisor may be about to
    /// close it.
    fn keep_for_claim(&self, stream: Stream) {
        let mut all = self.supervisors.proven.all();
        let kept = all.values().filter(|pod| pod.kept.is_some()).count();
        if let Some(pod) = all.get_mut(&self.uid)
            && pod.is_waiting
            && pod.kept.is_none()
            && kept < KEPT_LIMIT
        {
            pod.kept = Some(stream);
        }
    }

    /// This gateway claims the pod from now on.
    pub(crate) fn begin_claim(&self) {
        if let Some(pod) = self.supervisors.proven.all().get_mut(&self.uid) {
            pod.is_waiting = false;
        }
    }

    /// The connection that was kept, unless the supervisor has closed it.
    pub(crate) fn take_kept(&self) -> Option<Stream> {
        let kept = {
            let mut all = self.supervisors.proven.all();
            all.get_mut(&self.uid)?.kept.take()
        };
        kept.and_then(still_open)
    }

    fn has_proven(&self, key: &ServerKey) -> bool {
        let all = self.supervisors.proven.all();
        let pod = all.get(&self.uid);
        pod.is_some_and(|pod| pod.key.as_ref() == Some(key))
    }

    async fn connect_unproven(&self) -> io::Result<(Stream, Option<ServerKey>)> {
        let identity = &self.supervisors.identity;
        identity
            .connect_instance(self.address, CONNECT_TIMEOUT, self.uid.as_str())
            .await
    }

    /// The token that the supervisor shows, and the connection if it can be used further.
    async fn token(&self, stream: Stream) -> io::Result<(String, Option<Stream>)> {
        let mut client = HttpClient::over(stream).await.map_err(io::Error::other)?;
        let request = Request::get(IDENTITY_PATH)
            .header(header::HOST, self.address.to_string())
            .body(Empty::<Bytes>::new())
            .expect("a path and an address make a request");
        let response = client.send(request).await.map_err(io::Error::other)?;
        let status = response.status();
        let body = client
            .during(body::read(response.into_body(), TOKEN_LIMIT, 0))
            .await;
        match body {
            Whole::Complete(body) if status == StatusCode::OK => {
                let token = String::from_utf8(body.into());
                let token = token.map_err(|_| refused("its token is no text".to_owned()))?;
                Ok((token, client.into_idle_stream()))
            }
            Whole::Complete(reason) => {
                let reason = String::from_utf8_lossy(&reason).trim_end().to_owned();
                Err(refused(format!("it shows no token: {reason}")))
            }
            Whole::TooLarge => Err(refused("its token is too long".to_owned())),
            Whole::Broken(error) => Err(io::Error::other(error)),
        }
    }
}

/// The stream, unless its other end has closed it. Between two exchanges a supervisor sends nothing.
fn still_open(mut stream: Stream) -> Option<Stream> {
    let mut byte = [0];
    let mut context = Context::from_waker(Waker::noop());
    let read = Pin::new(&mut stream).poll_read(&mut context, &mut ReadBuf::new(&mut byte));
    read.is_pending().then_some(stream)
}

fn refused(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, reason)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
impl Supervisor {
    /// A supervisor that proves nothing, to a gateway that asks for nothing.
    pub(crate) fn unproven(address: SocketAddr) -> Self {
        let supervisors = Supervisors::new(Identity::off(), None, ProvenPods::default());
        supervisors.at(address, &Uid::from("uid-1"))
    }
}
