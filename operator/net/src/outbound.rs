//! HTTP/1.1 requests to servers that are no part of Pilotlight: a store of logs, a collector of OpenTelemetry.
//!
//! The operator names such a server by a URL. Connections stay open for the next request. A request has a deadline for its
//! whole response, and the response a bound. Nothing is sent twice, no redirect is followed, and no proxy is used. The
//! caller decides what a status means.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

use crate::body::{self, Whole};

/// How long opening a connection may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection stays open without a request. VictoriaLogs closes idle ones after a minute.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The most idle connections to one server.
const IDLE_LIMIT: usize = 8;

/// The address of a server, with the path below which its own paths are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(Uri);

/// It is no address of a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no address of a server: it has to have the form http://HOST[:PORT][/PATH] or https://…, without user, password, query and fragment"
)]
pub struct InvalidUrl(String);

/// Sends requests to one server.
#[derive(Clone, Debug)]
pub struct Outbound {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: BaseUrl,
    authorization: Option<HeaderValue>,
}

/// What a server has to be shown.
#[derive(Clone, PartialEq, Eq)]
pub enum ServerCredentials {
    Basic { username: String, password: String },
    Bearer(String),
}

/// A request cannot be made, or has got no whole response.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    #[error("the authorities of {0} cannot be used: {1}")]
    Authorities(String, String),
    #[error("the credentials for {0} have characters that no header can carry")]
    Credentials(String),
    #[error("{0} gave no answer within {1:?}")]
    Timeout(String, Duration),
    #[error("{0}: {1}")]
    Exchange(String, String),
    #[error("the answer of {0} is longer than {1} bytes")]
    TooLarge(String, usize),
}

impl Outbound {
    /// `authorities`: certificates in PEM that the server's certificate is verified by. Without them it is verified by the
    /// authorities of the platform.
    ///
    /// # Errors
    /// If the authorities or the credentials cannot be used.
    pub fn new(
        base: BaseUrl,
        authorities: Option<&[u8]>,
        credentials: Option<&ServerCredentials>,
    ) -> Result<Self, OutboundError> {
        let config = tls(authorities, base.is_https())
            .map_err(|error| OutboundError::Authorities(base.to_string(), error))?;
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.enforce_http(false);
        connector.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_LIMIT)
            .build(connector);
        let authorization = credentials.map(ServerCredentials::header).transpose();
        let authorization =
            authorization.map_err(|_| OutboundError::Credentials(base.to_string()))?;
        Ok(Outbound {
            client,
            base,
            authorization,
        })
    }

    pub fn base(&self) -> &BaseUrl {
        &self.base
    }

    /// Sends a request, whose URI is a path below the server's, and reads the response with a body of at most `limit`
    /// bytes.
    ///
    /// # Errors
    /// If there is no whole response within `deadline`.
    pub async fn exchange(
        &self,
        mut request: Request<Bytes>,
        deadline: Duration,
        limit: usize,
    ) -> Result<Response<Bytes>, OutboundError> {
        let broken = |why: String| OutboundError::Exchange(self.base.to_string(), why);
        *request.uri_mut() = self.base.join(request.uri());
        if let Some(authorization) = &self.authorization {
            let headers = request.headers_mut();
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        let exchange = async {
            let response = self.client.request(request.map(Full::new)).await;
            let (head, body) = response
                .map_err(|error| broken(causes(&error)))?
                .into_parts();
            match body::read(body, limit, 0).await {
                Whole::Complete(body) => Ok(Response::from_parts(head, body)),
                Whole::TooLarge => Err(OutboundError::TooLarge(self.base.to_string(), limit)),
                Whole::Broken(error) => Err(broken(causes(&error))),
            }
        };
        match tokio::time::timeout(deadline, exchange).await {
            Ok(exchanged) => exchanged,
            Err(_) => Err(OutboundError::Timeout(self.base.to_string(), deadline)),
        }
    }
}

impl BaseUrl {
    /// # Errors
    /// If it is no address of a server.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let invalid = || InvalidUrl(shown(text).to_owned());
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        let host = uri.host().is_some_and(|host| !host.is_empty());
        let plain = uri
            .authority()
            .is_some_and(|authority| !authority.as_str().contains('@'));
        match scheme && host && plain && uri.query().is_none() && !text.contains('#') {
            true => Ok(BaseUrl(uri)),
            false => Err(invalid()),
        }
    }

    fn is_https(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// The address of a path, with its query, below this one.
    fn join(&self, path: &Uri) -> Uri {
        let below = path.path_and_query().map_or("/", |path| path.as_str());
        let joined = format!("{}{below}", self.0.path().trim_end_matches('/'));
        let mut parts = self.0.clone().into_parts();
        parts.path_and_query = joined.parse().ok();
        Uri::from_parts(parts)
            .expect("a base with a scheme and a host, and a path that begins with /")
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::str::FromStr for BaseUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        BaseUrl::parse(text)
    }
}

impl ServerCredentials {
    fn header(&self) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
        let text = match self {
            ServerCredentials::Bearer(token) => format!("Bearer {token}"),
            ServerCredentials::Basic { username, password } => {
                format!(
                    "Basic {}",
                    STANDARD.encode(format!("{username}:{password}"))
                )
            }
        };
        let mut value = HeaderValue::try_from(text)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for ServerCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServerCredentials::Basic { .. } => "Basic",
            ServerCredentials::Bearer(_) => "Bearer",
        })
    }
}

/// The address without what may be a password in it.
fn shown(text: &str) -> &str {
    text.rsplit_once('@').map_or(text, |(_, rest)| rest)
}

/// Plain text needs no authorities, and a platform may have none.
pub(crate) fn tls(authorities: Option<&[u8]>, is_https: bool) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| error.to_string())?;
                roots.add(certificate).map_err(|error| error.to_string())?;
            }
            if roots.is_empty() {
                return Err("there is no certificate in them".to_owned());
            }
        }
        None if is_https => {
            let verifier = Verifier::new(provider).map_err(|error| error.to_string())?;
            let builder = builder.dangerous();
            let builder = builder.with_custom_certificate_verifier(Arc::new(verifier));
            return Ok(builder.with_no_client_auth());
        }
        None => {}
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// An error with its causes: hyper's own text says only in which part of a request it came.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let next = cause.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(300);

    fn get(path: &str) -> Request<Bytes> {
        Request::get(path).body(Bytes::new()).expect("a request")
    }

    /// A server that answers its first connection with these bytes, and what it has read.
    async fn once(answer: &'static str) -> (BaseUrl, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut read = vec![0; 4096];
            let size = stream.read(&mut read).await.expect("a request");
            stream.write_all(answer.as_bytes()).await.expect("sent");
            String::from_utf8_lossy(&read[..size]).into_owned()
        });
        let base = BaseUrl::parse(&format!("http://{address}/logs/")).expect("a URL");
        (base, server)
    }

    #[tokio::test]
    async fn a_request_goes_below_the_path_of_the_server_with_its_credentials() {
        let (base, server) = once("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        let credentials = ServerCredentials::Basic {
            username: "pilotlight".to_owned(),
            password: "secret".to_owned(),
        };
        let outbound = Outbound::new(base, None, Some(&credentials)).expect("a client");
        let answer = outbound.exchange(get("/insert?a=b"), DEADLINE, 2).await;
        assert_eq!(answer.expect("an answer").body(), "ok");
        let request = server.await.expect("it has ended");
        assert!(
            request.starts_with("GET /logs/insert?a=b HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(
            request.contains("authorization: Basic cGlsb3RsaWdodDpzZWNyZXQ=\r\n"),
            "{request}"
        );
        assert!(!format!("{outbound:?}").contains("cGlsb3"));
    }

    #[tokio::test]
    async fn an_answer_that_is_too_long_and_one_that_breaks_off_are_errors() {
        let (base, server) = once("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc").await;
        let outbound = Outbound::new(base, None, None).expect("a client");
        let answer = outbound.exchange(get("/"), DEADLINE, 2).await;
        assert!(
            matches!(answer, Err(OutboundError::TooLarge(_, 2))),
            "{answer:?}"
        );
        server.await.expect("it has ended");

        let (base, server) = once("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\na").await;
        let outbound = Outbound::new(base, None, None).expect("a client");
        let answer = outbound.exchange(get("/"), DEADLINE, 8).await;
        assert!(
            matches!(answer, Err(OutboundError::Exchange(..))),
            "{answer:?}"
        );
        server.await.expect("it has ended");
    }

    #[tokio::test]
    async fn the_error_says_why_nobody_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let base = BaseUrl::parse(&format!("http://{address}")).expect("a URL");
        let outbound = Outbound::new(base, None, None).expect("a client");
        let answer = outbound.exchange(get("/"), DEADLINE, 8).await;
        let error = answer.expect_err("nobody listens").to_string();
        assert!(error.contains("Connection refused"), "{error}");
        assert!(error.contains(&address.to_string()), "{error}");
    }

    #[test]
    fn an_address_with_a_password_or_a_query_is_refused_and_the_password_not_shown() {
        for text in [
            "",
            "logs:9428",
            "ftp://logs",
            "http://",
            "http://logs?x=y",
            "http://logs/#x",
        ] {
            assert!(BaseUrl::parse(text).is_err(), "{text}");
        }
        let refused = BaseUrl::parse("http://user:pass@logs").expect_err("it has a password");
        assert!(!refused.to_string().contains("pass@"), "{refused}");
        assert!(BaseUrl::parse("https://logs.example:9428/select").is_ok());
    }

    #[test]
    fn authorities_that_are_none_are_refused() {
        let base = || BaseUrl::parse("https://logs").expect("a URL");
        for pem in ["", "nonsense"] {
            let made = Outbound::new(base(), Some(pem.as_bytes()), None);
            assert!(matches!(made, Err(OutboundError::Authorities(..))));
        }
        let made = rcgen::generate_simple_self_signed(["logs".to_owned()]).expect("a certificate");
        assert!(Outbound::new(base(), Some(made.cert.pem().as_bytes()), None).is_ok());
    }
}
