//! Listeners of this process's servers.
//!
//! Owns accepting and keepalive. Used by `gateways`, `runtime_api` and `door`, which serve the connections.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use pilotlight_net::address::UNIX;
use pilotlight_net::keepalive;
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::either::Either;

/// The pause before accepting again when file descriptors have run out. The end of a connection or a process
/// frees some.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

pub(crate) type Connection = Either<TcpStream, Either<UnixStream, DuplexStream>>;

#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, String),
    /// Accepts the streams in memory that `in_process` creates.
    Memory(RefCell<mpsc::UnboundedReceiver<DuplexStream>>),
}

impl Listener {
    /// `host:port`, or `unix:` and a path (`pilotlight_wire`).
    pub(crate) async fn bind(address: &str) -> io::Result<Self> {
        Ok(match address.strip_prefix(UNIX) {
            Some(path) => Listener::Unix(UnixListener::bind(path)?, address.to_owned()),
            None => Listener::Tcp(TcpListener::bind(address).await?),
        })
    }

    /// The address, in the form that [`Listener::bind`] takes.
    pub(crate) fn address(&self) -> io::Result<String> {
        Ok(match self {
            Listener::Tcp(listener) => listener.local_addr()?.to_string(),
            Listener::Unix(_, address) => address.clone(),
            Listener::Memory(_) => "memory".to_owned(),
        })
    }

    /// Waits for the next connection. Connections that break while they are accepted are skipped.
    pub(crate) async fn next(&self) -> Connection {
        loop {
            let accepted = match self {
                Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                    // Both fail only if the connection is closed already.
                    let _ = stream.set_nodelay(true);
                    let _ = keepalive::INSTANCE.apply(&stream);
                    Either::Left(stream)
                }),
                Listener::Unix(listener, _) => {
                    let accepted = listener.accept().await;
                    accepted.map(|(stream, _)| Either::Right(Either::Left(stream)))
                }
                Listener::Memory(streams) => {
                    let next = poll_fn(|context| streams.borrow_mut().poll_recv(context));
                    match next.await {
                        Some(stream) => Ok(Either::Right(Either::Right(stream))),
                        None => std::future::pending().await,
                    }
                }
            };
            match accepted {
                Ok(stream) => return stream,
                Err(_) => tokio::time::sleep(ACCEPT_BACKOFF).await,
            }
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Listener::Tcp(listener)
    }
}

/// Opens a port for processes of this instance.
pub(crate) async fn loopback() -> io::Result<(Listener, SocketAddr)> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    Ok((listener.into(), address))
}
