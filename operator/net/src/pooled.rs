//! HTTP/1.1 exchanges over connections that stay open for the next request.
//!
//! A gateway calls other gateways this way, since a forwarded invocation must not wait for a new connection.
//! An idle connection has no task: that the other part has closed it is noticed when a request takes it, and
//! the request then takes another one. Nothing is sent twice: only a request that was never sent goes on to
//! the next connection.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header, response};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use tokio::time::Instant;

use crate::address::Stream;
use crate::body::{self, Whole};
use crate::client::{ExchangeError, HttpClient, SendError};
use crate::identity::Identity;

/// The most idle connections to one part; further ones are closed after their response.
const IDLE_LIMIT: usize = 1024;

type Client = HttpClient<Stream, Full<Bytes>>;

/// Sends requests to several parts, and keeps a connection open after each whole response.
#[derive(Debug)]
pub struct PooledClient {
    identity: Identity,
    connect_timeout: Duration,
    idle_timeout: Duration,
    idle: Idle,
}

/// Idle connections by the address of the other part; the one that was used last is at the end. All clones are one.
#[derive(Clone, Debug, Default)]
struct Idle(Arc<Mutex<HashMap<SocketAddr, Vec<IdleConnection>>>>);

/// A response whose body has not been read. Its connection is kept for the next request after that.
#[derive(Debug)]
pub struct Opened {
    head: response::Parts,
    body: Incoming,
    client: Client,
    address: SocketAddr,
    idle: Idle,
}

#[derive(Debug)]
struct IdleConnection {
    client: Client,
    since: Instant,
}

/// Why there is no whole response.
#[derive(Debug, thiserror::Error)]
pub enum PooledError {
    /// The other part accepts no connection. The request was never sent.
    #[error("no connection can be opened: {0}")]
    Unreachable(#[source] io::Error),
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    #[error("the connection broke within the response: {0}")]
    Broken(#[source] hyper::Error),
    #[error("the response is longer than {0} bytes")]
    TooLarge(usize),
}

impl PooledClient {
    /// Connections that are idle for `idle_timeout` are not used again, and are closed by
    /// [`close_idle`](Self::close_idle).
    pub fn new(identity: Identity, connect_timeout: Duration, idle_timeout: Duration) -> Self {
        PooledClient {
            identity,
            connect_timeout,
            idle_timeout,
            idle: Idle::default(),
        }
    }

    /// Sends a request, whose URI is a path, and waits for the head of the response.
    ///
    /// # Errors
    /// What is known of the request, if there is no response.
    pub async fn send(
        &self,
        address: SocketAddr,
        request: Request<Bytes>,
    ) -> Result<Opened, PooledError> {
        let mut request = request.map(Full::new);
        let host = HeaderValue::try_from(address.to_string()).expect("an address is ASCII");
        request.headers_mut().insert(header::HOST, host);
        loop {
            let idle = self.idle.take(address, self.idle_timeout);
            let was_idle = idle.is_some();
            let mut client = match idle {
                Some(client) => client,
                None => self.open(address).await?,
            };
            match client.send_or_return(request).await {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    return Ok(Opened {
                        head,
                        body,
                        client,
                        address,
                        idle: self.idle.clone(),
                    });
                }
                Err(SendError::NeverSent(returned)) if was_idle => request = returned,
                Err(SendError::NeverSent(_)) => return Err(ExchangeError::NeverSent.into()),
                Err(SendError::Unknown) => return Err(ExchangeError::Unknown.into()),
            }
        }
    }

    /// Sends a request, and reads the response with a body of at most `limit` bytes.
    ///
    /// # Errors
    /// What is known of the request, if there is no whole response.
    pub async fn exchange(
        &self,
        address: SocketAddr,
        request: Request<Bytes>,
        limit: usize,
    ) -> Result<Response<Bytes>, PooledError> {
        self.send(address, request).await?.whole(limit).await
    }

    /// Closes the connections that have been idle for too long. Call it at intervals of the idle timeout: then
    /// none stays open for more than twice as long.
    pub fn close_idle(&self) {
        self.idle.lock().retain(|_, connections| {
            connections.retain(|connection| connection.since.elapsed() < self.idle_timeout);
            !connections.is_empty()
        });
    }

    async fn open(&self, address: SocketAddr) -> Result<Client, PooledError> {
        let stream = self.identity.connect_gateway(address, self.connect_timeout);
        let stream = stream.await.map_err(PooledError::Unreachable)?;
        let client = HttpClient::over(stream).await;
        Ok(client.map_err(|_| ExchangeError::NeverSent)?)
    }
}

impl Opened {
    pub fn head(&self) -> &response::Parts {
        &self.head
    }

    /// The body that has not been read.
    pub fn body(&self) -> &impl Body {
        &self.body
    }

    /// Reads a body of at most `limit` bytes.
    ///
    /// # Errors
    /// If the body is longer, or breaks off.
    pub async fn whole(self, limit: usize) -> Result<Response<Bytes>, PooledError> {
        let Opened {
            head,
            body,
            mut client,
            address,
            idle,
        } = self;
        match client.during(body::read(body, limit, 0)).await {
            Whole::Complete(body) => {
                idle.keep(address, client);
                Ok(Response::from_parts(head, body))
            }
            Whole::TooLarge => Err(PooledError::TooLarge(limit)),
            Whole::Broken(error) => Err(PooledError::Broken(error)),
        }
    }

    /// Has `reader` read the body while it comes. `Some` says that it read the body to its end.
    pub async fn read<F, T>(self, reader: impl FnOnce(Incoming) -> F) -> Option<T>
    where
        F: Future<Output = Option<T>>,
    {
        let Opened {
            body,
            mut client,
            address,
            idle,
            ..
        } = self;
        let read = client.during(reader(body)).await?;
        idle.keep(address, client);
        Some(read)
    }
}

impl Idle {
    /// The connection that was used last, so that those which a burst has left over become old.
    fn take(&self, address: SocketAddr, timeout: Duration) -> Option<Client> {
        let newest = self.lock().get_mut(&address)?.pop()?;
        (newest.since.elapsed() < timeout).then_some(newest.client)
    }

    fn keep(&self, address: SocketAddr, client: Client) {
        let mut idle = self.lock();
        let connections = idle.entry(address).or_default();
        if connections.len() < IDLE_LIMIT {
            let since = Instant::now();
            connections.push(IdleConnection { client, since });
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Vec<IdleConnection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn client(idle_timeout: Duration) -> PooledClient {
        PooledClient::new(Identity::off(), Duration::from_secs(300), idle_timeout)
    }

    async fn exchange(client: &PooledClient, address: SocketAddr) -> Result<Bytes, PooledError> {
        let request = Request::post("/a").body(Bytes::from_static(b"{}"));
        let response = client.exchange(address, request.unwrap(), 4).await;
        response.map(Response::into_body)
    }

    /// Reads a request and answers it with `body`.
    async fn answer(stream: &mut TcpStream, body: &str) -> String {
        let mut request = Vec::new();
        while !request.ends_with(b"{}") {
            assert!(stream.read_buf(&mut request).await.unwrap() > 0);
        }
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        let response = format!("{head}{body}");
        stream.write_all(response.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    }

    #[tokio::test]
    async fn a_connection_serves_one_request_after_the_other() {
        let ((listener, address), client) = (listener().await, client(IDLE_TIMEOUT));
        let serves = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = answer(&mut stream, "1").await;
            answer(&mut stream, "2").await;
            request
        };
        let calls = async {
            assert_eq!(exchange(&client, address).await.unwrap(), "1");
            assert_eq!(exchange(&client, address).await.unwrap(), "2");
        };
        let (request, ()) = tokio::join!(serves, calls);
        assert!(request.starts_with("POST /a HTTP/1.1\r\n"), "{request}");
        assert!(
            request.contains(&format!("host: {address}\r\n")),
            "{request}"
        );
    }

    #[tokio::test]
    async fn a_connection_is_kept_after_a_response_that_was_read_to_its_end_and_after_no_other() {
        let ((listener, address), client) = (listener().await, client(IDLE_TIMEOUT));
        for is_read in [true, false] {
            let serves = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                answer(&mut stream, "1").await;
                stream
            };
            let reads = async {
                let request = Request::new(Bytes::from_static(b"{}"));
                let opened = client.send(address, request).await.unwrap();
                let reading = opened.read(async |body| match is_read {
                    true => Some(body.collect().await.unwrap().to_bytes()),
                    false => None,
                });
                reading.await
            };
            let (_stream, read) = tokio::join!(serves, reads);
            assert_eq!(read.as_deref(), is_read.then_some(&b"1"[..]));
            let kept = client.idle.take(address, IDLE_TIMEOUT);
            assert_eq!(kept.is_some(), is_read);
        }
    }

    #[tokio::test]
    async fn a_request_goes_on_to_a_new_connection_if_the_idle_one_was_closed() {
        let ((listener, address), client) = (listener().await, client(IDLE_TIMEOUT));
        let serves = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, "1").await;
        };
        let (answered, ()) = tokio::join!(exchange(&client, address), serves);
        assert_eq!(answered.unwrap(), "1");
        // After other traffic the runtime has seen the end, and the connection has not.
        let (connected, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        connected.unwrap();
        accepted.unwrap();
        let serves = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, "2").await
        };
        let (answered, _) = tokio::join!(exchange(&client, address), serves);
        assert_eq!(answered.unwrap(), "2");
    }

    #[tokio::test]
    async fn a_connection_that_was_idle_for_too_long_is_closed_and_not_used_again() {
        let ((listener, address), client) = (listener().await, client(Duration::ZERO));
        for closes in [true, false] {
            let serves = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                answer(&mut stream, "1").await;
                stream
            };
            let (answered, mut stream) = tokio::join!(exchange(&client, address), serves);
            assert_eq!(answered.unwrap(), "1");
            if closes {
                client.close_idle();
                assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
                assert!(client.idle.lock().is_empty());
            } else {
                assert!(client.idle.take(address, Duration::ZERO).is_none());
            }
        }
    }

    #[tokio::test]
    async fn a_failure_says_whether_the_request_was_sent() {
        let ((listener, address), client) = (listener().await, client(IDLE_TIMEOUT));
        let breaks = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
        };
        let (broken, ()) = tokio::join!(exchange(&client, address), breaks);
        let unknown = matches!(broken, Err(PooledError::Exchange(ExchangeError::Unknown)));
        assert!(unknown);

        let serves = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, "12345").await;
            stream
        };
        let (too_large, _) = tokio::join!(exchange(&client, address), serves);
        assert!(matches!(too_large, Err(PooledError::TooLarge(4))));
        assert!(client.idle.lock().is_empty());

        drop(listener);
        let refused = exchange(&client, address).await;
        assert!(matches!(refused, Err(PooledError::Unreachable(_))));
    }
}
