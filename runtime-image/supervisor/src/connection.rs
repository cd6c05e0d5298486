//! Listeners and connections of this process's servers.
//!
//! Owns accepting, keepalive, and the end of gateways' connections. Used by `control_api`, `claim`,
//! `runtime_api` and `door`, which answer the requests.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use pilotlight_net::address::UNIX;
use pilotlight_net::keepalive;
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::either::Either;
use tokio_util::task::TaskTracker;

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

/// How long closing waits for answers that are being written.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the end waits for gateways to close their connections; a lost gateway never does.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The connections of gateways.
#[derive(Default)]
pub(crate) struct Gateways {
    shutdown: GracefulShutdown,
    open: TaskTracker,
}

impl Gateways {
    /// Answers the requests on a connection, in a task of its own. An error of the connection needs no handling:
    /// it drops the request's future, which is enough for the request to notice.
    pub(crate) fn serve<F, B>(
        &self,
        stream: Connection,
        answer: impl Fn(Request<Incoming>) -> F + 'static,
    ) where
        F: Future<Output = Response<B>> + 'static,
        B: hyper::body::Body<Error = Infallible> + 'static,
    {
        let service = service_fn(move |request| {
            let answered = answer(request);
            async move { Ok::<_, Infallible>(answered.await) }
        });
        let connection = http1::Builder::new()
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(stream), service);
        let connection = self.shutdown.watch(connection);
        self.open.spawn_local(async move { connection.await.ok() });
    }

    /// Closes the connections once the present answers are written, or [`CLOSE_TIMEOUT`] is over.
    pub(crate) async fn close(self) {
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.shutdown.shutdown()).await;
    }

    /// Keeps answering until the gateways have closed their connections, at most [`DISCONNECT_TIMEOUT`]. If this
    /// process closed first, a gateway could not tell whether its last request was read.
    pub(crate) async fn wait_until_closed(self) {
        self.open.close();
        let _ = tokio::time::timeout(DISCONNECT_TIMEOUT, self.open.wait()).await;
    }
}

/// Opens a port for processes of this instance.
pub(crate) async fn loopback() -> io::Result<(Listener, SocketAddr)> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    Ok((listener.into(), address))
}
