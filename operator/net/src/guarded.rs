//! Connections to servers that the authors of Functions name, at addresses that a rule allows.
//!
//! A name is resolved once for each connection, which goes to an address that passed. Requests are HTTP/1.1. Connections stay
//! open for the next request. The answer has a bound, and the caller bounds the time. Nothing is sent twice, no redirect is
//! followed, and no proxy is used. Errors say neither what answered nor what it answered: the author may not know that server.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use pilotlight_core::address_rule::AddressRule;
use rustls::ClientConfig;
use tokio::net::{TcpStream, lookup_host};
use tower_service::Service;

use crate::body::{self, Whole};
use crate::outbound::{CONNECT_TIMEOUT, IDLE_TIMEOUT, tls};

/// How long the body of an answer may take after its head.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// The most idle connections to one server.
const IDLE_LIMIT: usize = 4;
/// For how many sets of authorities connections are kept.
const AUTHORITIES_LIMIT: usize = 16;

/// Which addresses may be connected to. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct AddressGuard(Option<Arc<AddressRule>>);

/// Why a server cannot be reached, or gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum GuardedError {
    #[error(
        "no address of {0} may be reached: check the name, and that its address is none of those that are refused (--fetch-allow)"
    )]
    Address(String),
    #[error("{0} cannot be reached")]
    Connect(String),
    #[error("the authorities of {0} cannot be used: {1}")]
    Authorities(String, String),
    #[error("{0} gave no answer")]
    Exchange(String),
}

impl AddressGuard {
    /// Any address: for developers, who own the machine.
    pub fn open() -> Self {
        AddressGuard(None)
    }

    pub fn within(rule: AddressRule) -> Self {
        AddressGuard(Some(Arc::new(rule)))
    }

    fn allows(&self, address: IpAddr) -> bool {
        self.0.as_ref().is_none_or(|rule| rule.allows(address))
    }

    /// Connects to the first address that the rule allows and that answers. `host` is a name, or an address as in URLs.
    ///
    /// # Errors
    /// If there is none.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, GuardedError> {
        let bare = bare(host);
        let found = lookup_host((bare, port)).await;
        let found = found.map_err(|_| GuardedError::Address(host.to_owned()))?;
        let allowed: Vec<_> = found.filter(|address| self.allows(address.ip())).collect();
        if allowed.is_empty() {
            return Err(GuardedError::Address(host.to_owned()));
        }
        for address in allowed {
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
            if let Ok(Ok(stream)) = connected.await {
                // Without it a delivery only takes longer.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
        }
        Err(GuardedError::Connect(host.to_owned()))
    }
}

/// An address of a URL without its brackets.
fn bare(host: &str) -> &str {
    let inner = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    inner.unwrap_or(host)
}

/// The configuration of TLS for connections to servers that the authors of Functions name. `authorities`: in PEM; without them
/// those of the platform.
///
/// # Errors
/// If they cannot be used.
pub fn client_tls(authorities: Option<&[u8]>) -> Result<ClientConfig, String> {
    tls(authorities, true)
}

/// The resolver of the HTTP client: leaves out addresses that the rule refuses.
#[derive(Clone, Debug)]
struct GuardedNames(AddressGuard);

impl Service<Name> for GuardedNames {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let guard = self.0.clone();
        Box::pin(async move {
            let found = lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<_> = found.filter(|address| guard.allows(address.ip())).collect();
            match allowed.is_empty() {
                true => Err(io::Error::new(io::ErrorKind::PermissionDenied, Refused)),
                false => Ok(allowed.into_iter()),
            }
        })
    }
}

/// No address of a name passed the rule.
#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the rule refuses its addresses")
    }
}

impl std::error::Error for Refused {}

type Connections = Client<HttpsConnector<HttpConnector<GuardedNames>>, Full<Bytes>>;

/// Whether TLS is needed, for which a platform may have no authorities, and the authorities in PEM if it is not the platform's
/// that count.
type Trust = (bool, Option<Bytes>);

/// Sends requests. Cheap to clone; all clones share the connections.
#[derive(Clone, Debug)]
pub struct GuardedClient {
    guard: AddressGuard,
    /// The most recently used last.
    connections: Arc<Mutex<Vec<(Trust, Connections)>>>,
}

impl GuardedClient {
    pub fn new(guard: AddressGuard) -> Self {
        GuardedClient {
            guard,
            connections: Arc::default(),
        }
    }

    /// Sends a request with a whole URI, and reads the answer. Its body is empty if it has more than `limit` bytes, or
    /// does not end in time.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn exchange(
        &self,
        request: Request<Bytes>,
        authorities: Option<&Bytes>,
        limit: usize,
    ) -> Result<Response<Bytes>, GuardedError> {
        let uri = request.uri();
        let server = server(uri);
        let literal = bare(uri.host().unwrap_or_default()).parse::<IpAddr>();
        // The client does not ask the resolver about these.
        if literal.is_ok_and(|address| !self.guard.allows(address)) {
            return Err(GuardedError::Address(server));
        }
        let connections = self
            .connections(authorities, uri.scheme_str() == Some("https"))
            .map_err(|error| GuardedError::Authorities(server.clone(), error))?;
        let response = connections.request(request.map(Full::new)).await;
        let (head, body) = response
            .map_err(|error| cause(&error, server))?
            .into_parts();
        let body = tokio::time::timeout(BODY_TIMEOUT, body::read(body, limit, 0)).await;
        let body = match body {
            Ok(Whole::Complete(body)) => body,
            _ => Bytes::new(),
        };
        Ok(Response::from_parts(head, body))
    }

    fn connections(
        &self,
        authorities: Option<&Bytes>,
        is_https: bool,
    ) -> Result<Connections, String> {
        let mut kept = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let trust = (is_https, authorities.cloned());
        let entry = match kept.iter().position(|(of, _)| *of == trust) {
            Some(place) => kept.remove(place),
            None => {
                let config = tls(authorities.map(Bytes::as_ref), is_https)?;
                (trust, self.open(config))
            }
        };
        let connections = entry.1.clone();
        kept.push(entry);
        if kept.len() > AUTHORITIES_LIMIT {
            kept.remove(0);
        }
        Ok(connections)
    }

    fn open(&self, config: ClientConfig) -> Connections {
        let mut connector = HttpConnector::new_with_resolver(GuardedNames(self.guard.clone()));
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.enforce_http(false);
        connector.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_LIMIT)
            .build(connector)
    }
}

fn server(uri: &Uri) -> String {
    uri.authority()
        .map_or_else(String::new, |authority| authority.to_string())
}

/// Whether the rule, or the way, is at fault.
fn cause(error: &hyper_util::client::legacy::Error, server: String) -> GuardedError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        let inner = io.and_then(io::Error::get_ref);
        if inner.is_some_and(|inner| inner.is::<Refused>()) {
            return GuardedError::Address(server);
        }
        cause = error.source();
    }
    match error.is_connect() {
        true => GuardedError::Connect(server),
        false => GuardedError::Exchange(server),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers each connection's first request with this, and counts the connections. With `keeps` it reads on.
    async fn serve(host: &str, answer: &'static [u8], keeps: bool) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind((host, 0)).await.expect("a port");
        let at = listener.local_addr().expect("bound").to_string();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let mut head = [0; 4096];
                    while stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                        if stream.write_all(answer).await.is_err() || !keeps {
                            return;
                        }
                    }
                });
            }
        });
        (at, count)
    }

    fn rule(allow: &[&str]) -> AddressGuard {
        let allow = allow.iter().map(|range| range.parse().expect("a range"));
        AddressGuard::within(AddressRule {
            allow: allow.collect(),
            deny: Vec::new(),
        })
    }

    fn post(url: &str) -> Request<Bytes> {
        Request::post(url)
            .body(Bytes::from_static(b"{}"))
            .expect("a request")
    }

    const FINE: &[u8] = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nok";

    #[tokio::test]
    async fn a_refused_address_is_never_connected_to_whether_it_is_named_or_written() {
        let (hidden, asked) = serve("127.0.0.1", FINE, true).await;
        let port = hidden.rsplit(':').next().expect("a port");
        let port: u16 = port.parse().expect("a number");
        let guard = rule(&["10.0.0.0/8"]);
        let client = GuardedClient::new(guard.clone());
        for host in [
            "127.0.0.1",
            "localhost",
            "127.1",
            "0x7f000001",
            "[::ffff:127.0.0.1]",
        ] {
            let refused = client
                .exchange(post(&format!("http://{host}:{port}/")), None, 8)
                .await;
            assert!(
                matches!(refused, Err(GuardedError::Address(_))),
                "{host} {refused:?}"
            );
            let refused = guard.connect(host, port).await;
            assert!(
                matches!(refused, Err(GuardedError::Address(_))),
                "{host} {refused:?}"
            );
        }
        assert_eq!(asked.load(Ordering::Relaxed), 0);
        let client = GuardedClient::new(rule(&["127.0.0.1"]));
        for host in ["127.0.0.1", "localhost", "127.1"] {
            let answer = client
                .exchange(post(&format!("http://{host}:{port}/")), None, 8)
                .await;
            assert_eq!(answer.expect("an answer").status(), 202, "{host}");
        }
    }

    #[tokio::test]
    async fn a_connection_is_used_again_and_a_redirect_is_an_answer() {
        const MOVED: &[u8] =
            b"HTTP/1.1 307 No\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        let (at, connections) = serve("127.0.0.1", MOVED, true).await;
        let client = GuardedClient::new(AddressGuard::open());
        for _ in 0..3 {
            let answer = client
                .exchange(post(&format!("http://{at}/")), None, 8)
                .await;
            assert_eq!(answer.expect("an answer").status(), 307);
        }
        assert_eq!(connections.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_and_one_that_is_too_long_are_left_out() {
        const BROKEN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nand then nothing";
        const LONG: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123456789";
        for (answer, keeps) in [(LONG, true), (BROKEN, false)] {
            let (at, _) = serve("127.0.0.1", answer, keeps).await;
            let client = GuardedClient::new(AddressGuard::open());
            let answer = client
                .exchange(post(&format!("http://{at}/")), None, 8)
                .await;
            let answer = answer.expect("an answer");
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.into_body(), Bytes::new());
        }
    }

    #[tokio::test]
    async fn what_gives_no_answer_is_an_error_without_its_words() {
        let (at, _) = serve("127.0.0.1", b"SSH-2.0-secret\r\n", false).await;
        let client = GuardedClient::new(AddressGuard::open());
        let error = client
            .exchange(post(&format!("http://{at}/?token=hunter2")), None, 8)
            .await;
        let text = error.expect_err("no HTTP").to_string();
        assert_eq!(text, format!("{at} gave no answer"));
        let error = client.exchange(post("http://127.0.0.1:1/"), None, 8).await;
        assert!(matches!(error, Err(GuardedError::Connect(_))), "{error:?}");
        let unreadable = Bytes::from_static(b"no certificate");
        let error = client
            .exchange(post(&format!("https://{at}/")), Some(&unreadable), 8)
            .await;
        assert!(
            matches!(error, Err(GuardedError::Authorities(..))),
            "{error:?}"
        );
    }
}
