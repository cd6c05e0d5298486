//! The accept loop: HTTP/1.1 and cleartext HTTP/2 on one port, and its graceful end.
//!
//! Serves whatever service it is given, and knows no API. `axum::serve` is not used, because it closes
//! connections at the end even though a call has arrived on them or is in the kernel's buffers.

use std::convert::Infallible;
use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::keepalive::Keepalive;

/// How long we keep accepting after shutdown starts, so that requests already in kernel buffers are served,
/// not reset.
const ACCEPT_GRACE: Duration = Duration::from_millis(50);
/// Before the next attempt to accept: a file descriptor is free when another connection has ended.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// The next connection. Errors concern connections that broke at once, or a lack of file descriptors.
pub async fn accept(listener: &TcpListener, keepalive: Keepalive) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Both fail only on a connection that is gone. Without `nodelay`, small answers would wait for
                // the client's acknowledgement.
                let _ = stream.set_nodelay(true);
                let _ = keepalive.apply(&stream);
                return stream;
            }
            Err(_) => tokio::time::sleep(ACCEPT_BACKOFF).await,
        }
    }
}

/// Serves until `stop`, then finishes the calls that have arrived and returns.
pub async fn serve<S, B>(
    listener: TcpListener,
    keepalive: Keepalive,
    service: S,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let connections = TaskTracker::new();
    let mut closes = pin!(accept_grace_ends(stop.clone()));
    loop {
        let stream = tokio::select! {
            biased;
            stream = accept(&listener, keepalive) => stream,
            () = closes.as_mut() => break,
        };
        connections.spawn(connection(stream, service.clone(), stop.clone()));
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn accept_grace_ends(stop: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(ACCEPT_GRACE).await;
}

/// Serves one connection until the client ends it, or until `stop` and the calls that have arrived by then
/// are answered.
async fn connection<S, B>(stream: TcpStream, service: S, stop: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // A connection that breaks is the client's matter.
    let _ = tokio::select! {
        biased;
        served = serving.as_mut() => served,
        () = accept_grace_ends(stop) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
}
