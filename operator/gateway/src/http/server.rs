//! The gateway's listeners: routes behind the accept loop of `pilotlight-net`.
//!
//! Serves whatever routes it is given (`routes`); knows no API.

use std::io;

use axum::Router;
use hyper_util::service::TowerToHyperService;
use pilotlight_net::{keepalive, listen};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves `routes` until `stop`, then finishes the calls that have arrived and returns.
pub(crate) async fn serve(
    routes: Router,
    listener: TcpListener,
    stop: CancellationToken,
) -> io::Result<()> {
    let service = TowerToHyperService::new(routes);
    listen::serve(listener, keepalive::CALLERS, service, stop).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

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
