//! The loopback door: a function calls another function with the defaults of its SDK.
//!
//! Owns a port on 127.0.0.1, which `AWS_ENDPOINT_URL_LAMBDA` names (`environment`), and forwards each request to
//! a gateway on behalf of this function: it shows the token of the function's account, and nothing that the function's SDK
//! has made with other keys. Bodies are streamed in both directions. Never retries: the SDK decides that from the error,
//! which has the Invoke API's form. Until the first call the door is one listening socket.

use std::borrow::Cow;
use std::cell::RefCell;
use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use pilotlight_core::access::other_keys;
use pilotlight_core::function::FunctionName;
use pilotlight_core::traces::context;
use pilotlight_net::address::Stream;
use pilotlight_net::client::{ExchangeError, HttpClient};
use pilotlight_net::framing::Framed;
use pilotlight_net::identity::gateways::GatewayDialer;
use pilotlight_net::{address, keepalive};
use pilotlight_wire::caller::{CALLER, HEADER_PREFIX};
use pilotlight_wire::config::{DoorConfig, DoorTls};
use pilotlight_wire::lease::LeaseRequest;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::connection::Listener;
use crate::response;
use crate::worker::WeakShared;

/// The most open connections from the function's processes; further ones wait to be accepted.
const CONNECTION_LIMIT: usize = 256;
/// How long connecting to a gateway may take. The answer may take as long as the called function.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long a token is used before its file is read again. The kubelet replaces it long before it ends.
const TOKEN_FRESH: Duration = Duration::from_secs(10);

/// By which a call continues a trace, in the forms of X-Ray and of W3C.
const XRAY: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Hop-by-hop headers (RFC 9110, 7.6.1), which are not forwarded. hyper adds the ones that it needs.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::EXPECT,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The gateways' address, and the identity of this function in its calls.
#[derive(Debug)]
pub(crate) struct Door {
    address: Arc<str>,
    host: HeaderValue,
    caller: HeaderValue,
    /// `None`: without TLS.
    gateways: Option<GatewayDialer>,
    token: Option<Token>,
    /// Has the invocation that calls, whose trace goes on.
    worker: WeakShared,
}

/// The token of the function's account.
#[derive(Debug)]
struct Token {
    file: PathBuf,
    /// As it was read last, and when.
    read: RefCell<Option<(HeaderValue, Instant)>>,
}

impl Token {
    /// The header that shows it. If the file cannot be read, the last one: it may still be good, and the gateway decides.
    fn header(&self) -> Option<HeaderValue> {
        let mut read = self.read.borrow_mut();
        if let Some((header, at)) = &*read
            && at.elapsed() < TOKEN_FRESH
        {
            return Some(header.clone());
        }
        if let Some(header) = bearer(&self.file) {
            *read = Some((header, Instant::now()));
        }
        read.as_ref().map(|(header, _)| header.clone())
    }
}

fn bearer(file: &Path) -> Option<HeaderValue> {
    let token = fs::read_to_string(file).ok()?;
    let mut header = HeaderValue::try_from(format!("Bearer {}", token.trim_end())).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// Why a call has no answer of a gateway.
#[derive(Debug, thiserror::Error)]
enum ForwardError {
    #[error("No gateway can be reached at {0}, and nothing was executed: {1}")]
    NotReached(Arc<str>, io::Error),
    #[error("The gateway at {0} closed the connection, and nothing was executed.")]
    NeverSent(Arc<str>),
    #[error(
        "The connection to the gateway at {0} broke before the answer. The event may have taken effect."
    )]
    Lost(Arc<str>),
}

type Answer = Response<Either<Incoming, Full<Bytes>>>;

impl Door {
    /// `authorities`: those of the release, in PEM.
    ///
    /// # Errors
    /// If the address is not valid in a `Host` header, or TLS is wanted and the authorities cannot be used.
    pub(crate) fn new(
        config: &DoorConfig,
        authorities: Option<&str>,
        function: &FunctionName,
    ) -> anyhow::Result<Self> {
        let caller = format!("{}/{function}", config.namespace);
        let gateways = config.tls.map(|tls| {
            let authorities = authorities.context("none is known")?;
            let needs_tls = tls == DoorTls::Required;
            Ok::<_, anyhow::Error>(GatewayDialer::new(authorities, needs_tls)?)
        });
        let token = config.token.as_ref().map(|file| Token {
            file: file.clone(),
            read: RefCell::default(),
        });
        Ok(Door {
            address: config.address.as_str().into(),
            host: HeaderValue::from_str(&config.address).context("the gateways' address")?,
            caller: HeaderValue::from_str(&caller).context("the function's name")?,
            gateways: gateways
                .transpose()
                .context("the authorities of the release")?,
            token,
            worker: WeakShared::new(),
        })
    }

    /// The same door, whose calls belong to the trace of the invocation at hand.
    pub(crate) fn traced_by(self, worker: WeakShared) -> Self {
        Door { worker, ..self }
    }

    async fn connect(&self) -> io::Result<Stream> {
        // The answer may take minutes, and the gateway's node may be lost meanwhile.
        let keepalive = keepalive::INSTANCE;
        Ok(match &self.gateways {
            Some(gateways) => {
                gateways
                    .connect(&self.address, CONNECT_LIMIT, keepalive)
                    .await?
            }
            None => Box::new(address::connect(&*self.address, CONNECT_LIMIT, keepalive).await?),
        })
    }

    async fn answer<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
    {
        match self.forward(request).await {
            Ok(response) => response.map(Either::Left),
            Err(error) => error.response().map(Either::Right),
        }
    }

    async fn forward<B>(&self, mut request: Request<B>) -> Result<Response<Incoming>, ForwardError>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
    {
        self.sign(&mut request);
        let address = &self.address;
        let stream = self.connect().await;
        let stream = stream.map_err(|error| ForwardError::NotReached(address.clone(), error))?;
        let client = HttpClient::over(stream).await;
        let mut client = client.map_err(|_| ForwardError::NeverSent(address.clone()))?;
        let sent = client.send(request).await;
        let mut response = sent.map_err(|error| match error {
            ExchangeError::NeverSent => ForwardError::NeverSent(address.clone()),
            ExchangeError::Unknown => ForwardError::Lost(address.clone()),
        })?;
        // The task ends with the answer's body, or when the function closes its connection.
        tokio::task::spawn_local(client.finish());
        strip(response.headers_mut());
        Ok(response)
    }

    /// Addresses the request to the gateway, and sets this function as its caller.
    fn sign<B>(&self, request: &mut Request<B>) {
        let mut path = request.uri().path_and_query().cloned();
        if self.token.is_some() {
            path = path.map(without_signature);
        }
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        *request.version_mut() = hyper::Version::HTTP_11;
        let headers = request.headers_mut();
        strip(headers);
        let forged = headers
            .keys()
            .filter(|name| name.as_str().starts_with(HEADER_PREFIX));
        for name in forged.cloned().collect::<Vec<_>>() {
            headers.remove(name);
        }
        if let Some(token) = &self.token {
            for name in other_keys::HEADERS {
                headers.remove(name);
            }
            // Without a token the gateway answers that the call proves nothing.
            if let Some(bearer) = token.header() {
                headers.insert(header::AUTHORIZATION, bearer);
            }
        }
        if let Some(worker) = self.worker.upgrade()
            && let Some(lease) = worker.borrow().current()
        {
            continue_trace(headers, lease);
        }
        headers.insert(header::HOST, self.host.clone());
        headers.insert(HeaderName::from_static(CALLER), self.caller.clone());
    }
}

impl ForwardError {
    /// The error in the Invoke API's form, in which an SDK finds the reason (contract §4).
    fn response(&self) -> Response<Full<Bytes>> {
        let status = match self {
            ForwardError::NotReached(..) | ForwardError::NeverSent(..) => StatusCode::BAD_GATEWAY,
            ForwardError::Lost(..) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let text = json!({ "Message": self.to_string(), "Type": "Service" }).to_string();
        let mut response = response::json(status, text);
        let kind = HeaderName::from_static("x-amzn-errortype");
        let headers = response.headers_mut();
        headers.insert(kind, HeaderValue::from_static("ServiceException"));
        response
    }
}

/// Has a call of the function belong to the trace of its invocation, unless its client has said so, or has named another
/// trace. `tracestate` has no place in X-Ray's header, by which clients of AWS do so.
fn continue_trace(headers: &mut HeaderMap, lease: &LeaseRequest) {
    if headers.contains_key(TRACEPARENT) {
        return;
    }
    let Some(own) = &lease.trace_id else { return };
    let read = |value: &HeaderValue| context::of_xray(value.to_str().ok()?);
    let present = headers.entry(XRAY).or_insert(own.clone());
    let (Some(mut call), Some(own)) = (read(present), read(own)) else {
        return;
    };
    let Some(parent) = call.parent.filter(|_| call.trace == own.trace) else {
        return;
    };
    let is_sampled = call.decision == Some(true);
    let value = |text| HeaderValue::try_from(text).expect("a header of a trace is ASCII");
    if call.descends_from(&own) {
        *present = value(call.to_xray(parent, is_sampled));
    }
    if let Some(state) = &lease.trace_state {
        headers.insert(TRACEPARENT, value(call.to_traceparent(parent, is_sampled)));
        headers.insert(TRACESTATE, state.clone());
    }
}

/// The same path, without a signature in its query.
fn without_signature(path: PathAndQuery) -> PathAndQuery {
    let query = path.query().map(other_keys::without_signature);
    match query {
        Some(Cow::Owned(query)) => {
            let left = match query.is_empty() {
                true => path.path().to_owned(),
                false => format!("{}?{query}", path.path()),
            };
            left.parse().unwrap_or(path)
        }
        _ => path,
    }
}

/// Removes hop-by-hop headers, also those that `Connection` lists.
fn strip(headers: &mut HeaderMap) {
    let listed = headers.get_all(header::CONNECTION).iter();
    let listed = listed.filter_map(|value| value.to_str().ok());
    let listed = listed.flat_map(|value| value.split(','));
    let listed: Vec<HeaderName> = listed.filter_map(|name| name.trim().parse().ok()).collect();
    for name in HOP_BY_HOP.into_iter().chain(listed) {
        headers.remove(name);
    }
}

/// Serves until the instance ends.
pub(crate) async fn serve(listener: Listener, door: Door) {
    let (room, door) = (Arc::new(Semaphore::new(CONNECTION_LIMIT)), Rc::new(door));
    loop {
        let permit = room.clone().acquire_owned().await;
        let stream = listener.next().await;
        let door = door.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let door = door.clone();
            async move { Ok::<_, Infallible>(door.answer(request).await) }
        });
        let connection = server::Builder::new()
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(Framed::new(stream, ())), service);
        tokio::task::spawn_local(async move {
            // An error means that the caller has closed the connection, and expects nothing.
            let _ = connection.await;
            drop(permit);
        });
    }
}

#[cfg(test)]
mod tests;
