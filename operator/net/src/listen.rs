//! The accept loop: HTTP/1.1 and HTTP/2 on one port, and its graceful end.
//!
//! Serves whatever service it is given, and knows no API. [`Admission`] says who may enter, with TLS or without. The
//! caller of [`serve`] decides when a connection may enter and when it has to end ([`Entered`]); this module bounds what
//! the protocols buffer for each. `axum::serve` is not used, because it closes connections at the end even though a call
//! has arrived on them or is in the kernel's buffers.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Buf;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use pilotlight_core::identity::Caller;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::framing::{Framed, Observer};
use crate::identity::public::PublicDoor;
use crate::identity::{Accepted, Identity};
use crate::keepalive::{self, Keepalive};

/// How long we keep accepting after shutdown starts, so that requests already in kernel buffers are served,
/// not reset.
const ACCEPT_GRACE: Duration = Duration::from_millis(50);
/// Before the next attempt to accept: a file descriptor is free when another connection has ended.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// How long a connection that has to end may take to finish what it is writing.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// HTTP/2: the interval of pings to a caller.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// HTTP/2: a caller that does not answer a ping within this is disconnected.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// The longest head of HTTP/1.1, and the most that is read before somebody takes it, in bytes.
const HTTP1_BUFFER: usize = 64 * 1024;
/// HTTP/2: the most requests at a time on one connection.
const STREAMS: u32 = 64;
/// HTTP/2: the most bytes of one body that come before somebody takes them.
const STREAM_WINDOW: u32 = 64 * 1024;
/// HTTP/2: the same for all bodies of a connection.
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// HTTP/2: bytes of an answer that are buffered for a reader.
const SEND_BUFFER: usize = 16 * 1024;
/// The most bytes of answers that the kernel buffers for a reader.
const KERNEL_SEND_BUFFER: usize = 256 * 1024;

/// Who may enter a listener, and how.
#[derive(Clone, Debug)]
pub enum Admission {
    /// Everybody, without TLS.
    Everybody,
    /// Parts of the release. Requests have a [`Caller`] among their extensions.
    Parts(Identity),
    /// Everybody, with TLS as the door says.
    Callers(PublicDoor),
}

impl Admission {
    /// Does what comes before the first request.
    async fn admit(&self, stream: TcpStream) -> io::Result<(Accepted, Option<Caller>)> {
        match self {
            Admission::Everybody => Ok((Accepted::Left(stream), None)),
            Admission::Parts(identity) => {
                let (stream, caller) = identity.accept(stream).await?;
                Ok((stream, Some(caller)))
            }
            Admission::Callers(door) => Ok((door.accept(stream).await?, None)),
        }
    }
}

/// A connection that may be served.
#[derive(Debug)]
pub struct Entered<S, O> {
    pub service: S,
    /// Is told of all bytes of the connection.
    pub observer: O,
    /// Cancelled when the connection has to end.
    pub end: CancellationToken,
}

/// The next connection. Errors concern connections that broke at once, or a lack of file descriptors.
async fn accept(listener: &TcpListener, keepalive: Keepalive) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // All fail only on a connection that is gone. Without `nodelay`, small answers would wait for
                // the client's acknowledgement.
                let _ = stream.set_nodelay(true);
                let _ = keepalive.apply(&stream);
                let _ = keepalive::bound_send_buffer(&stream, KERNEL_SEND_BUFFER);
                return stream;
            }
            Err(_) => tokio::time::sleep(ACCEPT_BACKOFF).await,
        }
    }
}

/// Serves until `stop`, then finishes the calls that have arrived and returns.
///
/// `enter` waits until the next connection may be served. Further ones wait in the kernel's queue meanwhile.
pub async fn serve<E, F, S, O, B>(
    listener: TcpListener,
    keepalive: Keepalive,
    admission: Admission,
    enter: E,
    stop: CancellationToken,
) where
    E: Fn() -> F,
    F: Future<Output = Entered<S, O>>,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    O: Observer + Unpin + Send + 'static,
    B: Body<Data: Buf + Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let connections = TaskTracker::new();
    let mut closes = pin!(accept_grace_ends(stop.clone()));
    loop {
        let next = async {
            let stream = accept(&listener, keepalive).await;
            (stream, enter().await)
        };
        let (stream, entered) = tokio::select! {
            biased;
            next = next => next,
            () = closes.as_mut() => break,
        };
        let admission = admission.clone();
        connections.spawn(connection(stream, admission, entered, stop.clone()));
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn accept_grace_ends(stop: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(ACCEPT_GRACE).await;
}

/// HTTP/1.1 and HTTP/2 with bounded buffers. The deadline of heads is not hyper's: that would also end idle
/// connections.
fn protocols() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .header_read_timeout(None)
        .max_buf_size(HTTP1_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    builder
}

/// Serves one connection until the client ends it, or until it has to end, or until `stop` and the calls that
/// have arrived by then are answered.
async fn connection<S, O, B>(
    stream: TcpStream,
    admission: Admission,
    entered: Entered<S, O>,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    O: Observer + Unpin + Send + 'static,
    B: Body<Data: Buf + Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let Entered {
        service,
        observer,
        end,
    } = entered;
    // A stranger among parts gets no answer: parts log why they are refused. A handshake has the deadline of a head.
    let (stream, caller) = tokio::select! {
        biased;
        admitted = admission.admit(stream) => match admitted {
            Ok(admitted) => admitted,
            Err(_) => return,
        },
        () = end.cancelled() => return,
    };
    let service = service_fn(move |mut request: Request<Incoming>| {
        // Requests on public listeners have no caller, and need no room for one.
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        service.call(request)
    });
    let builder = protocols();
    let stream = TokioIo::new(Framed::new(stream, observer));
    let mut serving = pin!(builder.serve_connection(stream, service));
    let mut must_end = pin!(async {
        end.cancelled().await;
        tokio::time::sleep(CLOSE_LIMIT).await;
    });
    let mut stops = pin!(accept_grace_ends(stop));
    let (mut is_ending, mut is_stopping) = (false, false);
    // A connection that breaks is the client's matter.
    loop {
        tokio::select! {
            biased;
            _ = serving.as_mut() => return,
            () = end.cancelled(), if !is_ending => is_ending = true,
            () = must_end.as_mut() => return,
            () = stops.as_mut(), if !is_stopping => is_stopping = true,
        }
        serving.as_mut().graceful_shutdown();
    }
}
