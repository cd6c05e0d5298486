//! The loopback door: a function calls another function with the defaults of its SDK.
//!
//! Owns a port on 127.0.0.1, which `AWS_ENDPOINT_URL_LAMBDA` names (`environment`), and forwards each request to
//! a gateway on behalf of this function. Bodies are streamed in both directions. Never retries: the SDK decides
//! that from the error, which has the Invoke API's form. Until the first call the door is one listening socket.

use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use pilotlight_core::function::FunctionName;
use pilotlight_net::client::{ExchangeError, HttpClient};
use pilotlight_net::framing::Framed;
use pilotlight_net::{address, keepalive};
use pilotlight_wire::caller::{CALLER, HEADER_PREFIX};
use pilotlight_wire::config::DoorConfig;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::connection::Listener;
use crate::response;

/// The most open connections from the function's processes; further ones wait to be accepted.
const CONNECTION_LIMIT: usize = 256;
/// How long connecting to a gateway may take. The answer may take as long as the called function.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

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
#[derive(Clone, Debug)]
pub(crate) struct Door {
    address: Arc<str>,
    host: HeaderValue,
    caller: HeaderValue,
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
    /// `None` if the address is not valid in a `Host` header. Then the instance has no door.
    pub(crate) fn new(gateways: &DoorConfig, function: &FunctionName) -> Option<Self> {
        let caller = format!("{}/{function}", gateways.namespace);
        Some(Door {
            address: gateways.address.as_str().into(),
            host: HeaderValue::from_str(&gateways.address).ok()?,
            caller: HeaderValue::from_str(&caller).ok()?,
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
        // The answer may take minutes, and the gateway's node may be lost meanwhile.
        let stream = address::connect(&**address, CONNECT_LIMIT, keepalive::INSTANCE).await;
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
        let path = request.uri().path_and_query().cloned();
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
mod tests {
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::LocalSet;

    use super::*;

    fn door(address: &str) -> Door {
        let gateways = DoorConfig {
            address: address.to_owned(),
            namespace: "shop".to_owned(),
        };
        Door::new(&gateways, &"hello".parse().expect("a name")).expect("an address")
    }

    async fn text(answer: Answer) -> String {
        let body = answer.into_body().collect().await.expect("whole");
        String::from_utf8_lossy(&body.to_bytes()).into_owned()
    }

    #[test]
    fn a_call_carries_this_functions_identity_whatever_the_function_claims() {
        let mut request = Request::builder()
            .uri("http://127.0.0.1:9/2015-03-31/functions/b%3A1/invocations?Qualifier=1")
            .header("host", "127.0.0.1:9")
            .header("connection", "keep-alive, x-mine")
            .header("x-mine", "1")
            .header("pilotlight-caller", "shop/admin")
            .header("pilotlight-hops", "3")
            .header("x-amz-log-type", "Tail")
            .body(())
            .expect("a request");
        door("gateway:80").sign(&mut request);
        let uri = request.uri().to_string();
        assert_eq!(uri, "/2015-03-31/functions/b%3A1/invocations?Qualifier=1");
        let headers = request.headers();
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["host", "pilotlight-caller", "x-amz-log-type"]);
        assert_eq!(headers["host"], "gateway:80");
        assert_eq!(headers[CALLER], "shop/hello");
    }

    #[tokio::test]
    async fn an_unreachable_gateway_is_a_service_error_that_says_nothing_ran() {
        let free = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = free.local_addr().expect("bound").to_string();
        drop(free);
        let request = Request::new(Full::new(Bytes::new()));
        let answer = LocalSet::new()
            .run_until(door(&address).answer(request))
            .await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(answer.headers()["x-amzn-errortype"], "ServiceException");
        let text = text(answer).await;
        assert!(text.contains("nothing was executed"), "{text}");
    }

    #[tokio::test]
    async fn a_broken_connection_is_an_error_that_says_the_event_may_have_run() {
        let gateway = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = gateway.local_addr().expect("bound").to_string();
        let here = LocalSet::new();
        let answered = here.run_until(async {
            let breaks = async {
                let (mut stream, _) = gateway.accept().await.expect("a connection");
                let mut read = [0; 16];
                stream.read_exact(&mut read).await.expect("a request");
            };
            let request = Request::new(Full::new(Bytes::from_static(b"{}")));
            let door = door(&address);
            tokio::join!(breaks, door.answer(request)).1
        });
        let answer = answered.await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let text = text(answer).await;
        assert!(text.contains("may have taken effect"), "{text}");
    }

    #[tokio::test]
    async fn the_first_piece_of_an_answer_is_forwarded_before_the_last_arrives() {
        let gateway = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = gateway.local_addr().expect("bound").to_string();
        let here = LocalSet::new();
        let streamed = here.run_until(async {
            let (done, is_done) = tokio::sync::oneshot::channel::<()>();
            let serves = async {
                let (mut stream, _) = gateway.accept().await.expect("a connection");
                assert!(stream.read(&mut [0; 1024]).await.expect("a request") > 0);
                let head =
                    "HTTP/1.1 200 OK\r\nx-amz-executed-version: 1\r\ncontent-length: 4\r\n\r\nab";
                stream.write_all(head.as_bytes()).await.expect("sent");
                is_done.await.expect("the first piece has come");
                stream.write_all(b"cd").await.expect("sent");
            };
            let calls = async {
                let request = Request::new(Full::new(Bytes::from_static(b"{}")));
                let mut answer = door(&address).answer(request).await;
                assert_eq!(answer.headers()["x-amz-executed-version"], "1");
                let first = answer.body_mut().frame().await.expect("a piece");
                assert_eq!(first.expect("read").into_data().expect("data"), "ab");
                done.send(()).expect("the gateway waits");
                text(answer).await
            };
            tokio::join!(serves, calls).1
        });
        assert_eq!(streamed.await, "cd");
    }
}
