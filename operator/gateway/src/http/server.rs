//! The gateway's listeners: routes behind the accept loop of `pilotlight-net`, within the limits of `intake`.
//!
//! Gives each connection a place (`connections`), each request of HTTP/2 its share of the budget, and each answer
//! to the connection's bookkeeping. Serves whatever routes it is given (`routes`); knows no API.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use bytes::{Buf, Bytes};
use http::{Request, Version};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::service::{Service as _, service_fn};
use hyper_util::service::TowerToHyperService;
use pilotlight_core::intake::bytes::Share;
use pilotlight_core::intake::connection::AnswerId;
use pilotlight_net::listen::{Admission, Entered};
use pilotlight_net::{keepalive, listen};
use pilotlight_wire::invoke::ThrottleReason;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::connections::{Connection, Connections};
use super::errors::ApiError;
use super::hosts;
use crate::intake::{Intake, Listener};

/// HTTP/2: the largest piece of an answer that is handed over at once. So it is seen how much the reader takes.
const PIECE: usize = 16 * 1024;

/// Routes, whose listener they are, and its limits.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) routes: Router,
    pub(crate) listener: Listener,
    pub(crate) intake: Intake,
    pub(crate) admission: Admission,
    /// See [`Config::hosts`](crate::config::Config::hosts).
    pub(crate) hosts: Option<Arc<[String]>>,
}

/// Serves until `stop`, then finishes the calls that have arrived and returns.
pub(crate) async fn serve(
    served: Served,
    listener: TcpListener,
    stop: CancellationToken,
) -> io::Result<()> {
    let Served {
        routes,
        listener: whose,
        intake,
        admission,
        hosts,
    } = served;
    let connections = Connections::of(whose, intake.clone());
    let service = TowerToHyperService::new(routes);
    let enter = async || {
        let (place, end) = connections.place().await;
        let (service, intake, connection) = (service.clone(), intake.clone(), place.connection());
        let hosts = hosts.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let request_on = OnConnection::begin(&connection);
            let is_stream = request.version() == Version::HTTP_2;
            let accepted = accept(&request, &intake, hosts.as_deref());
            let (answering, share) = match accepted {
                Ok(share) => (Ok(service.call(request)), share),
                Err(refusal) => (Err(refusal), None),
            };
            async move {
                let response = match answering {
                    Ok(answering) => answering.await?,
                    // The caller need not send the body.
                    Err(refusal) => refusal.into_response(),
                };
                let stream = is_stream.then(|| Stream::new(request_on.0.clone(), share));
                Ok::<_, Infallible>(response.map(|body| Answer {
                    body,
                    rest: Bytes::new(),
                    stream,
                    _request: request_on,
                }))
            }
        });
        Entered {
            service,
            observer: place,
            end,
        }
    };
    listen::serve(listener, keepalive::CALLERS, admission, enter, stop).await;
    Ok(())
}

/// The share of a request. HTTP/1.1 needs none, since its connection has one request at a time.
///
/// # Errors
/// The answer to a request that is refused before its routes see it.
fn accept(
    request: &Request<Incoming>,
    intake: &Intake,
    hosts: Option<&[String]>,
) -> Result<Option<Share>, ApiError> {
    if let Some(allowed) = hosts {
        hosts::check(request, allowed)?;
    }
    match request.version() {
        Version::HTTP_2 => {
            let share = intake.request();
            let refusal = || ApiError::throttled(ThrottleReason::QueueBytes);
            share.map(Some).ok_or_else(refusal)
        }
        _ => Ok(None),
    }
}

/// A request that counts on its connection until its answer has been written.
struct OnConnection(Connection);

impl OnConnection {
    fn begin(connection: &Connection) -> Self {
        connection.request_began();
        OnConnection(connection.clone())
    }
}

impl Drop for OnConnection {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

/// An answer of HTTP/2 that the reader has not taken whole.
struct Stream {
    connection: Connection,
    id: AnswerId,
    _share: Option<Share>,
}

impl Stream {
    fn new(connection: Connection, share: Option<Share>) -> Arc<Self> {
        Arc::new(Stream {
            id: connection.answer_waits(),
            connection,
            _share: share,
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.answer_taken(self.id);
    }
}

/// The body of an answer, which says how much its reader takes.
struct Answer {
    body: Body,
    /// Of the last frame, what has not been handed over.
    rest: Bytes,
    /// `None` for HTTP/1.1, where the connection says it.
    stream: Option<Arc<Stream>>,
    _request: OnConnection,
}

/// A part of an answer. Its stream lives until the last part has been sent.
struct Piece {
    bytes: Bytes,
    _stream: Option<Arc<Stream>>,
}

impl Answer {
    fn piece(&mut self) -> Frame<Piece> {
        let size = match self.stream {
            Some(_) => self.rest.len().min(PIECE),
            None => self.rest.len(),
        };
        let bytes = self.rest.split_to(size);
        if let Some(stream) = &self.stream {
            stream.connection.answer_moved(stream.id, bytes.len());
        }
        Frame::data(Piece {
            bytes,
            _stream: self.stream.clone(),
        })
    }
}

impl HttpBody for Answer {
    type Data = Piece;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, axum::Error>>> {
        let this = self.get_mut();
        if !this.rest.is_empty() {
            return Poll::Ready(Some(Ok(this.piece())));
        }
        let polled = Pin::new(&mut this.body).poll_frame(context);
        if let (Poll::Pending, Some(stream)) = (&polled, &this.stream) {
            // The reader waits for the function.
            stream.connection.answer_taken(stream.id);
        }
        polled.map(|frame| {
            Some(frame?.map(|frame| match frame.into_data() {
                Ok(bytes) => {
                    this.rest = bytes;
                    this.piece()
                }
                Err(other) => {
                    let trailers = other.into_trailers().unwrap_or_default();
                    Frame::trailers(trailers)
                }
            }))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let inner = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.bytes.copy_to_bytes(length)
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::config::Config;
    use crate::metrics::Metrics;

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
        let served = Served {
            routes,
            listener: Listener::status,
            intake: Intake::new(
                Config::default().limits,
                Metrics::new(1, None, (None, None)).intake,
            ),
            admission: Admission::Everybody,
            hosts: None,
        };
        let serving = tokio::spawn(serve(served, listener, stop.clone()));

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
