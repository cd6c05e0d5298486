//! One HTTP/1.1 connection to another part, and what became of a request on it.
//!
//! Used for leases, status and demand streams, claims, marks and the calls of a function; `pooled` keeps such
//! connections open between requests. The task that waits for a response drives the connection meanwhile, so a
//! call needs no task and no channel of its own. `body` and `lines` read what follows the head.

use std::pin::{Pin, pin};
use std::task::{Context, Waker};

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// The longest head, and the longest trailers, of a response. The largest error of a function, 6 MiB, fits into
/// trailers in base64.
const HEAD_LIMIT: usize = 9 * 1024 * 1024;

/// Boxed, as it must not move while it makes progress.
type Driven<S, B> = Pin<Box<http1::Connection<TokioIo<S>, B>>>;
/// `None` once it has ended.
type Connection<S, B> = Option<Driven<S, B>>;

/// A connection. It makes progress only while one of its methods is awaited.
#[derive(Debug)]
pub struct HttpClient<S, B>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body + 'static,
{
    sender: SendRequest<B>,
    connection: Connection<S, B>,
}

/// What is known of a request that has got no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// No byte of the request has left this process, so it may be sent again.
    #[error("the connection was closed before the request was sent")]
    NeverSent,
    /// The other part may have read the request and acted on it.
    #[error("the connection broke before the response came")]
    Unknown,
}

/// The same, with the request if it was never sent.
#[derive(Debug)]
pub(crate) enum SendError<B> {
    NeverSent(Request<B>),
    Unknown,
}

impl<S, B> HttpClient<S, B>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// # Errors
    /// If the connection has ended already.
    pub async fn over(stream: S) -> hyper::Result<Self> {
        let mut builder = http1::Builder::new();
        builder.max_header_size(HEAD_LIMIT);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        Ok(HttpClient {
            sender,
            connection: Some(Box::pin(connection)),
        })
    }

    /// Sends a request and waits for the head of its response.
    ///
    /// # Errors
    /// What is known of the request, if there is no response.
    pub async fn send(&mut self, request: Request<B>) -> Result<Response<Incoming>, ExchangeError> {
        let response = self.send_or_return(request).await;
        response.map_err(|error| match error {
            SendError::NeverSent(_) => ExchangeError::NeverSent,
            SendError::Unknown => ExchangeError::Unknown,
        })
    }

    /// The same, but returns a request that was never sent, so that another connection can carry it.
    pub(crate) async fn send_or_return(
        &mut self,
        request: Request<B>,
    ) -> Result<Response<Incoming>, SendError<B>> {
        let ready = tokio::select! {
            biased;
            ready = self.sender.ready() => ready.is_ok(),
            () = drive(&mut self.connection) => false,
        };
        if !ready {
            return Err(SendError::NeverSent(request));
        }
        let response = self.sender.try_send_request(request);
        let response = driven(&mut self.connection, response).await;
        response.map_err(|mut error| match error.take_message() {
            Some(request) => SendError::NeverSent(request),
            None => SendError::Unknown,
        })
    }

    /// Drives the connection until the body of its last response has been read or dropped, and closes it then.
    /// The caller's task runs this while another one reads that body.
    pub async fn finish(self) {
        let HttpClient { sender, connection } = self;
        // Without a sender the connection ends instead of waiting for another request.
        drop(sender);
        if let Some(connection) = connection {
            // Its error also reaches the reader of the body.
            let _ = connection.await;
        }
    }

    /// The stream, for exchanges with another kind of body. `None` if the last exchange is not over on both sides, or
    /// the other part closes the connection.
    pub fn into_idle_stream(mut self) -> Option<S> {
        // The connection notices in this poll that an exchange is over, and whether it may carry another one.
        let mut context = Context::from_waker(Waker::noop());
        let mut connection = self.connection.take()?;
        if connection.as_mut().poll(&mut context).is_ready() || !self.sender.is_ready() {
            return None;
        }
        let parts = (*Pin::into_inner(connection)).into_parts();
        parts.read_buf.is_empty().then(|| parts.io.into_inner())
    }

    /// Waits for `reading`, which reads the body of a response.
    pub async fn during<F: Future>(&mut self, reading: F) -> F::Output {
        driven(&mut self.connection, reading).await
    }
}

async fn driven<S, B, F>(connection: &mut Connection<S, B>, waiting: F) -> F::Output
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    F: Future,
{
    let mut waiting = pin!(waiting);
    tokio::select! {
        biased;
        output = &mut waiting => output,
        // What has arrived before the end can still be read.
        () = drive(connection) => waiting.await,
    }
}

/// Returns when the connection has ended, and drops it: only then does hyper hand back a request that the
/// connection has not taken.
async fn drive<S, B>(connection: &mut Connection<S, B>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Some(driven) = connection else {
        return std::future::pending().await;
    };
    // Its error also reaches the request that it carries.
    let _ = driven.as_mut().await;
    *connection = None;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn a_request_on_a_connection_that_has_just_been_closed_was_never_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let mut client = HttpClient::over(stream).await.unwrap();
        let (mut supervisor, _) = listener.accept().await.unwrap();
        let request = || Request::new(Full::new(Bytes::from_static(b"{}")));

        let answering = async {
            assert!(supervisor.read(&mut [0; 1024]).await.unwrap() > 0);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            supervisor.write_all(answer).await.unwrap();
        };
        let (answered, ()) = tokio::join!(client.send(request()), answering);
        assert!(answered.is_ok());

        drop(supervisor);
        // After other traffic the runtime has seen the end, and the connection has not.
        let (connected, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        connected.unwrap();
        accepted.unwrap();
        let limit = Duration::from_secs(300);
        let again = tokio::time::timeout(limit, client.send(request()));
        let again = again.await.expect("the request ends");
        assert_eq!(again.map(|_| ()), Err(ExchangeError::NeverSent));
    }

    #[tokio::test]
    async fn a_stream_is_free_for_other_exchanges_once_one_is_over_and_may_be_followed() {
        let cases = [
            ("content-length: 2\r\n\r\nok", true),
            // The rest of the answer would be read as that of the next exchange.
            ("content-length: 3\r\n\r\nok", false),
            ("content-length: 2\r\n\r\nok!", false),
            ("connection: close\r\ncontent-length: 2\r\n\r\nok", false),
        ];
        for (answer, is_free) in cases {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await;
            let mut client = HttpClient::over(stream.unwrap()).await.unwrap();
            let (mut other, _) = listener.accept().await.unwrap();
            let answers = async {
                assert!(other.read(&mut [0; 1024]).await.unwrap() > 0);
                let answer = format!("HTTP/1.1 200 OK\r\n{answer}");
                other.write_all(answer.as_bytes()).await.unwrap();
            };
            let request = Request::new(Full::new(Bytes::from_static(b"{}")));
            let (response, ()) = tokio::join!(client.send(request), answers);
            let mut body = response.unwrap().into_body();
            let piece = client.during(body.frame()).await;
            assert_eq!(piece.unwrap().unwrap().into_data().unwrap(), "ok");
            assert_eq!(client.into_idle_stream().is_some(), is_free, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn nobody_knows_what_became_of_a_request_whose_connection_broke_after_it_was_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await;
        let mut client = HttpClient::over(stream.unwrap()).await.unwrap();
        let (mut supervisor, _) = listener.accept().await.unwrap();
        let reads = async {
            assert!(supervisor.read(&mut [0; 1024]).await.unwrap() > 0);
            drop(supervisor);
        };
        let request = Request::new(Full::new(Bytes::from_static(b"{}")));
        let (sent, ()) = tokio::join!(client.send(request), reads);
        assert_eq!(sent.map(|_| ()), Err(ExchangeError::Unknown));
    }
}
