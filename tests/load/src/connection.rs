//! The HTTP client: kept-alive connections to one address. It distinguishes whether a failed call may have left.
//!
//! It never sends a request twice. It retries only if the request provably never left: the connection could
//! not be made, or was closed before hyper took the request. `accounted` and `timing` send through it.

use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use socket2::{Socket, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A lost gateway does not accept the connection; the next attempt may reach another gateway.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY_PAUSE: Duration = Duration::from_millis(50);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// The kernel breaks the connection if the peer acknowledges nothing for this time.
const USER_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections to one address. The pool uses idle connections again, the most recently used first.
#[derive(Debug)]
pub struct ConnectionPool {
    address: SocketAddr,
    host: HeaderValue,
    /// How long a call tries to get a connection.
    retry_limit: Duration,
    idle: Mutex<Vec<Connection>>,
}

/// Why a call has no answer.
#[derive(Debug)]
pub enum SendError {
    /// The request provably never left.
    NotSent(anyhow::Error),
    /// The connection broke after the request may have left.
    Broken(anyhow::Error),
}

impl From<SendError> for anyhow::Error {
    fn from(error: SendError) -> Self {
        match error {
            SendError::NotSent(cause) => cause.context("the call was not sent"),
            SendError::Broken(cause) => cause.context("the connection broke under the call"),
        }
    }
}

impl ConnectionPool {
    pub fn new(address: SocketAddr, host: &str, retry_limit: Duration) -> Result<Self> {
        Ok(ConnectionPool {
            address,
            host: HeaderValue::from_str(host).with_context(|| host.to_owned())?,
            retry_limit,
            idle: Mutex::default(),
        })
    }

    /// Connects in advance, so that no call's time includes the connect.
    pub async fn open(&self, connections: usize) -> Result<()> {
        for _ in 0..connections {
            let opened = Connection::open(self.address).await;
            let opened = opened.with_context(|| self.address.to_string())?;
            self.idle().push(opened);
        }
        Ok(())
    }

    /// Posts a JSON body and returns the whole answer.
    pub async fn post(
        &self,
        path: &Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Bytes>, SendError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.clone();
        *request.headers_mut() = headers;
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.send(request).await
    }

    async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Bytes>, SendError> {
        let deadline = Instant::now() + self.retry_limit;
        loop {
            let mut connection = self.connection(deadline).await?;
            let sent = match connection.sender.ready().await {
                Ok(()) => connection.sender.try_send_request(request).await,
                Err(closed) if Instant::now() >= deadline => {
                    return Err(SendError::NotSent(closed.into()));
                }
                Err(_) => continue,
            };
            let response = match sent {
                Ok(response) => response,
                Err(mut failed) => {
                    let unsent = failed.take_message();
                    let error = failed.into_error().into();
                    request = match unsent {
                        Some(unsent) if Instant::now() < deadline => unsent,
                        Some(_) => return Err(SendError::NotSent(error)),
                        None => return Err(SendError::Broken(error)),
                    };
                    continue;
                }
            };
            let (head, body) = response.into_parts();
            let body = body.collect().await;
            let body = body.map_err(|error| SendError::Broken(error.into()))?;
            self.idle().push(connection);
            return Ok(Response::from_parts(head, body.to_bytes()));
        }
    }

    async fn connection(&self, deadline: Instant) -> Result<Connection, SendError> {
        loop {
            let idle = self.idle().pop();
            match idle {
                Some(connection) if connection.has_ended() => {}
                Some(connection) => return Ok(connection),
                None => break,
            }
        }
        loop {
            match Connection::open(self.address).await {
                Ok(connection) => return Ok(connection),
                Err(error) if Instant::now() >= deadline => return Err(SendError::NotSent(error)),
                Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    }

    /// The lock is never held across an await.
    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// A second handle of the same socket, for `has_ended`.
    socket: Socket,
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Self> {
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
        let stream = connected.context("no connection in time")??;
        stream.set_nodelay(true)?;
        let socket = Socket::from(stream.as_fd().try_clone_to_owned()?);
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_INTERVAL)
            .with_interval(KEEPALIVE_INTERVAL);
        socket.set_tcp_keepalive(&keepalive)?;
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // The task ends with the connection, which ends when its sender is dropped.
        tokio::spawn(connection);
        Ok(Connection { sender, socket })
    }

    /// Whether the peer has closed the connection, even if hyper has not read that yet. SDKs check the same
    /// before they use a connection again.
    fn has_ended(&self) -> bool {
        let peeked = self.socket.peek(&mut [MaybeUninit::uninit()]);
        self.sender.is_closed() || !peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}
