//! One receiver of OTLP over HTTP: its address, the headers that it wants, and one request to it.
//!
//! `worker` sends batches by it. It knows no span and no log record, keeps nothing, and decides of an answer alone whether the
//! same request may be sent again.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ureq::Agent;
use ureq::http::header::RETRY_AFTER;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use ureq::tls::{RootCerts, TlsConfig};

use crate::protobuf;

/// One request to the receiver.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// What is read of an answer, in bytes.
const ANSWER_LIMIT: u64 = 64 * 1024;
/// The most headers that a receiver can want.
const HEADERS_MAX: usize = 16;

/// Where OTLP over HTTP is served: `http://collector:4318`, with or without the path of the signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Uri);

/// A text that is no [`Endpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a URL of OTLP over HTTP without user and query, as http://collector:4318 is")]
pub struct InvalidEndpoint;

impl Endpoint {
    /// Where spans are taken. `/v1/traces` is added to an address without it.
    ///
    /// # Errors
    /// If the text is no such address.
    pub fn traces(text: &str) -> Result<Self, InvalidEndpoint> {
        Self::with_path(text, "/v1/traces")
    }

    /// Where log records are taken. `/v1/logs` is added to an address without it.
    ///
    /// # Errors
    /// If the text is no such address.
    pub fn logs(text: &str) -> Result<Self, InvalidEndpoint> {
        Self::with_path(text, "/v1/logs")
    }

    fn with_path(text: &str, path: &str) -> Result<Self, InvalidEndpoint> {
        let base = text.trim_end_matches('/');
        let whole = match base.ends_with(path) {
            true => base.to_owned(),
            false => format!("{base}{path}"),
        };
        let uri: Uri = whole.parse().map_err(|_| InvalidEndpoint)?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let has_host = uri.host().is_some_and(|host| !host.is_empty());
        let has_user = uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'));
        match is_http && has_host && !has_user && uri.query().is_none() && !text.contains('#') {
            true => Ok(Endpoint(uri)),
            false => Err(InvalidEndpoint),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The headers of each request, such as a key of the receiver's. They are secret, and so never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ReceiverHeaders(HeaderMap);

/// A text that is no [`ReceiverHeaders`]. It does not show the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeaders {
    #[error(
        "must be NAME=VALUE, with a comma between two, and special characters of a value as %20"
    )]
    Form,
    #[error("has a name that is no name of a header, or one that the request has itself")]
    Name,
    #[error("has a value with characters that no header can have")]
    Value,
    #[error("has more than {HEADERS_MAX} headers")]
    Number,
}

/// What each request has by itself.
const OWN_HEADERS: [&str; 5] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
];

impl FromStr for ReceiverHeaders {
    type Err = InvalidHeaders;

    /// The form of OpenTelemetry's variable `OTEL_EXPORTER_OTLP_HEADERS`.
    fn from_str(text: &str) -> Result<Self, InvalidHeaders> {
        let mut headers = HeaderMap::new();
        let pairs = text.split(',').map(str::trim);
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(InvalidHeaders::Form)?;
            let name: HeaderName = name.trim().parse().map_err(|_| InvalidHeaders::Name)?;
            if OWN_HEADERS.contains(&name.as_str()) {
                return Err(InvalidHeaders::Name);
            }
            let value = unescaped(value.trim()).ok_or(InvalidHeaders::Form)?;
            let mut value = HeaderValue::from_bytes(&value).map_err(|_| InvalidHeaders::Value)?;
            value.set_sensitive(true);
            headers.append(name, value);
            if headers.len() > HEADERS_MAX {
                return Err(InvalidHeaders::Number);
            }
        }
        Ok(ReceiverHeaders(headers))
    }
}

/// `%20` is a space. `None`: a `%` without two hexadecimal digits.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut unescaped = Vec::with_capacity(text.len());
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    while let Some(byte) = bytes.next() {
        unescaped.push(match byte {
            b'%' => (digit(bytes.next())? << 4 | digit(bytes.next())?) as u8,
            byte => byte,
        });
    }
    Some(unescaped)
}

impl fmt::Debug for ReceiverHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What a receiver says of a request.
#[derive(Debug)]
pub(crate) enum Reply {
    /// It has taken it, without so many items of it.
    Taken { rejected: u64 },
    /// The same request may be sent again, after this time at the earliest.
    Later {
        reason: String,
        after: Option<Duration>,
    },
    /// It will never take it.
    Refused(u16),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Receiver {
    agent: Agent,
    pub(crate) endpoint: Endpoint,
    headers: ReceiverHeaders,
}

impl Receiver {
    pub(crate) fn new(endpoint: Endpoint, headers: ReceiverHeaders) -> Self {
        // The machine's own certificates, since a company may sign its collector itself.
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(SEND_TIMEOUT))
            .max_redirects(0)
            .proxy(None)
            .http_status_as_error(false)
            .build();
        Receiver {
            agent: config.into(),
            endpoint,
            headers,
        }
    }

    pub(crate) fn post(&self, request: &[u8]) -> Reply {
        let later = |reason, after| Reply::Later { reason, after };
        let mut post = self.agent.post(&self.endpoint.0);
        for (name, value) in &self.headers.0 {
            post = post.header(name, value);
        }
        let sent = post.content_type("application/x-protobuf").send(request);
        let mut answer = match sent {
            Ok(answer) => answer,
            Err(error) => return later(error.to_string(), None),
        };
        let status = answer.status().as_u16();
        let after = answer.headers().get(RETRY_AFTER).and_then(seconds);
        // Read in any case, so that the connection can be used again.
        let body = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_LIMIT)
            .read_to_vec()
            .unwrap_or_default();
        match status {
            200..300 => Reply::Taken {
                rejected: protobuf::rejected(&body),
            },
            // Those that OTLP says may be sent again.
            429 | 502 | 503 | 504 => later(format!("it answers {status}"), after),
            _ => Reply::Refused(status),
        }
    }
}

/// A header `Retry-After` in seconds; one with a date is ignored.
fn seconds(value: &HeaderValue) -> Option<Duration> {
    value.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_of_otlp_over_http() {
        for (text, whole) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://collector:4318/", "http://collector:4318/v1/traces"),
            ("https://a.example/otlp", "https://a.example/otlp/v1/traces"),
            ("https://a.example/v1/traces", "https://a.example/v1/traces"),
        ] {
            let traces = Endpoint::traces(text).map(|endpoint| endpoint.to_string());
            assert_eq!(traces, Ok(whole.to_owned()));
        }
        let logs = Endpoint::logs("http://a:9428/insert/opentelemetry/");
        assert_eq!(
            logs.map(|endpoint| endpoint.to_string()),
            Ok("http://a:9428/insert/opentelemetry/v1/logs".to_owned())
        );
        for bad in [
            "",
            "collector:4318",
            "grpc://a:4317",
            "http://",
            "http://u:p@a",
            "http://a?b=c",
            "http://a#b",
        ] {
            assert_eq!(Endpoint::traces(bad), Err(InvalidEndpoint), "{bad}");
            assert_eq!(Endpoint::logs(bad), Err(InvalidEndpoint), "{bad}");
        }
    }

    #[test]
    fn headers_are_read_in_the_form_of_opentelemetry_and_never_printed() {
        let headers: ReceiverHeaders = "authorization=Bearer%20a=b, x-scope=7,"
            .parse()
            .expect("headers");
        assert_eq!(headers.0["authorization"], "Bearer a=b");
        assert_eq!(headers.0["x-scope"], "7");
        assert_eq!(format!("{headers:?}"), r#"{"authorization", "x-scope"}"#);
        assert_eq!("".parse(), Ok(ReceiverHeaders::default()));
        let many = vec!["a=b"; HEADERS_MAX + 1].join(",");
        for (bad, error) in [
            ("a", InvalidHeaders::Form),
            ("a=%2", InvalidHeaders::Form),
            ("a=%zz", InvalidHeaders::Form),
            ("a b=c", InvalidHeaders::Name),
            ("Host=c", InvalidHeaders::Name),
            ("a=%0a", InvalidHeaders::Value),
            (&many, InvalidHeaders::Number),
        ] {
            assert_eq!(bad.parse::<ReceiverHeaders>(), Err(error), "{bad}");
        }
    }
}
