//! Ports and connections, for all of this process's servers.

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
use pilotlight_wire::config::UNIX;
use rustix::net::sockopt;
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::either::Either;
use tokio_util::task::TaskTracker;

/// Out of file descriptors: some are free again when something here has ended.
const PAUSE: Duration = Duration::from_millis(50);

const ASKED_EVERY: Duration = Duration::from_secs(15);
const ASKED_TIMES: u32 = 3;

pub(crate) type Connection = Either<TcpStream, Either<UnixStream, DuplexStream>>;

#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, String),
    /// Takes the ends of streams that `in_process` makes.
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

    /// Where it listens, in the words of [`Listener::bind`].
    pub(crate) fn address(&self) -> io::Result<String> {
        Ok(match self {
            Listener::Tcp(listener) => listener.local_addr()?.to_string(),
            Listener::Unix(_, address) => address.clone(),
            Listener::Memory(_) => "memory".to_owned(),
        })
    }

    /// The next connection, whatever becomes of those that break at once.
    pub(crate) async fn next(&self) -> Connection {
        loop {
            let accepted = match self {
                Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                    // Both fail only on a connection that is gone.
                    let _ = stream.set_nodelay(true);
                    let _ = keep_alive(&stream);
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
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// The kernel asks, so that a gateway on a node that is lost is one that has gone.
pub(crate) fn keep_alive(stream: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, ASKED_EVERY)?;
    sockopt::set_tcp_keepintvl(stream, ASKED_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, ASKED_TIMES)
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Listener::Tcp(listener)
    }
}

/// For answers that are still on their way to a gateway when its connection is to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// For gateways to leave once they are told of the end; one that is lost never does.
const LEAVE_LIMIT: Duration = Duration::from_secs(3);

/// The connections of gateways.
#[derive(Default)]
pub(crate) struct Gateways {
    shutdown: GracefulShutdown,
    open: TaskTracker,
}

impl Gateways {
    /// Answers the calls on a connection, in a task of its own. Who breaks off needs no answer:
    /// that is seen by the call itself.
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

    /// Lets what is under way be written, within bounds.
    pub(crate) async fn close(self) {
        let _ = tokio::time::timeout(CLOSE_LIMIT, self.shutdown.shutdown()).await;
    }

    /// Answers on until the gateways have closed their connections, within bounds: of a call that comes
    /// upon a closed one nobody knows whether it was read.
    pub(crate) async fn wait_until_closed(self) {
        self.open.close();
        let _ = tokio::time::timeout(LEAVE_LIMIT, self.open.wait()).await;
    }
}

/// A port for processes of this instance.
pub(crate) async fn loopback() -> io::Result<(Listener, SocketAddr)> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    Ok((listener.into(), address))
}
