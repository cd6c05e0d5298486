//! The accept loop: HTTP/1.1 and cleartext HTTP/2 on one port, and its graceful end.
//!
//! Serves whatever routes it is given (`routes`); knows no API.

use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connect::notice_loss;

/// How long we keep accepting after shutdown starts, so that requests already in kernel buffers are served,
/// not reset.
const ACCEPT_GRACE: Duration = Duration::from_millis(50);
/// Keepalive towards callers: how long a connection may be idle before the kernel probes it, and the interval
/// between probes. A lost caller's connections and queued calls are freed that way.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10));
/// How long a caller may acknowledge nothing of its answer before its connection is closed. The gateway's end
/// waits for open answers.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves `routes` until `stop`, then finishes the calls that have arrived and returns.
///
/// `axum::serve` is not used, because it closes connections at the end even though a call has arrived on them
/// or is in the kernel's buffers.
pub(crate) async fn serve(
    routes: Router,
    mut listener: TcpListener,
    stop: CancellationToken,
) -> io::Result<()> {
    let connections = TaskTracker::new();
    let mut closes = pin!(accept_grace_ends(stop.clone()));
    loop {
        let (stream, _) = tokio::select! {
            biased;
            accepted = Listener::accept(&mut listener) => accepted,
            () = closes.as_mut() => break,
        };
        // Both fail only on a connection that is gone. Without `nodelay`, small answers would wait for
        // the client's acknowledgement.
        let _ = stream.set_nodelay(true);
        let _ = notice_loss(&stream, KEEPALIVE, WRITE_TIMEOUT);
        connections.spawn(connection(stream, routes.clone(), stop.clone()));
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

async fn accept_grace_ends(stop: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(ACCEPT_GRACE).await;
}

/// Serves one connection until the client ends it, or until `stop` and the calls that have arrived by then
/// are answered.
async fn connection(stream: TcpStream, routes: Router, stop: CancellationToken) {
    let builder = auto::Builder::new(TokioExecutor::new());
    let service = TowerToHyperService::new(routes);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        biased;
        served = serving.as_mut() => served,
        () = accept_grace_ends(stop) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::trace!(%error, "a connection broke");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const CALL: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: gateway\r\n\r\n";

    async fn answer(stream: &mut TcpStream) -> String {
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).await.unwrap();
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    }

    #[tokio::test]
    async fn a_request_sent_at_shutdown_is_answered_and_idle_connections_are_closed() {
        let routes = Router::new().route("/healthz", get(|| async { "ok" }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(routes, listener, stop.clone()));

        let (mut used, mut idle) = (
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        );
        for stream in [&mut used, &mut idle] {
            stream.write_all(CALL).await.unwrap();
            assert!(answer(stream).await.ends_with("ok"));
        }
        // The kernel has accepted this connection, the server has not.
        let mut fresh = std::net::TcpStream::connect(address).unwrap();
        stop.cancel();
        used.write_all(CALL).await.unwrap();
        std::io::Write::write_all(&mut fresh, CALL).unwrap();
        fresh.set_nonblocking(true).unwrap();
        let mut fresh = TcpStream::from_std(fresh).unwrap();

        assert!(answer(&mut used).await.ends_with("ok"));
        assert!(answer(&mut fresh).await.ends_with("ok"));
        for mut stream in [used, fresh, idle] {
            assert_eq!(answer(&mut stream).await, "");
        }
        serving.await.unwrap().unwrap();
    }
}
