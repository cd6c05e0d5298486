//! Ports and connections, for all of this process's servers.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use pilotlight_core::wire::UNIX;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

/// Out of file descriptors: some are free again when something here has ended.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) type Connection = Either<TcpStream, UnixStream>;

#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, String),
}

impl Listener {
    /// `host:port`, or `unix:` and a path (`pilotlight_core::wire`).
    pub(crate) async fn bind(address: &str) -> io::Result<Self> {
        Ok(match address.strip_prefix(UNIX) {
            Some(path) => Listener::Unix(UnixListener::bind(path)?, address.to_owned()),
            None => Listener::Tcp(TcpListener::bind(address).await?),
        })
    }

    /// Where it listens, in the words of [`Listener::bind`].
    pub(crate) fn address(&self) -> io::Result<String> {
        Ok(match self {
            Listener::Tcp(listener) => listener.local_addr()?.to_string(),
            Listener::Unix(_, address) => address.clone(),
        })
    }

    /// The next connection, whatever becomes of those that break at once.
    pub(crate) async fn next(&self) -> Connection {
        loop {
            let accepted = match self {
                Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                    // Fails only on a connection that is gone.
                    let _ = stream.set_nodelay(true);
                    Either::Left(stream)
                }),
                Listener::Unix(listener, _) => {
                    let accepted = listener.accept().await;
                    accepted.map(|(stream, _)| Either::Right(stream))
                }
            };
            match accepted {
                Ok(stream) => return stream,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Listener::Tcp(listener)
    }
}

/// A port for processes of this instance.
pub(crate) async fn loopback() -> io::Result<(Listener, SocketAddr)> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    Ok((listener.into(), address))
}
