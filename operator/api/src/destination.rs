//! Where a function's events go when they have ended: exactly one of five forms.
//!
//! Owns the forms and refuses what is wrong from the text alone. Each text has the form that the schema gives it, so that the
//! API server and a file refuse the same. Gateways send to destinations (`pilotlight-events`), and check the addresses that
//! the names resolve to. Never accesses a network or a Secret.

use std::fmt;
use std::sync::Arc;

use pilotlight_core::function::FunctionName;
use pilotlight_core::shown_url::ShownUrl;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::pod::ObjectRef;
use crate::text::checked_text;

/// What gets the record of an event that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "DestinationFields", into = "DestinationFields")]
pub enum Destination {
    /// Another function of the namespace, which gets the record as its event.
    Function(FunctionName),
    Http(HttpDestination),
    Nats(NatsDestination),
    Sqs(SqsDestination),
    S3(S3Destination),
}

impl Destination {
    /// The Secret with its credentials, if it names one.
    pub fn secret(&self) -> Option<&str> {
        let secret = match self {
            Destination::Function(_) => None,
            Destination::Http(http) => http.secret_ref.as_ref(),
            Destination::Nats(nats) => nats.secret_ref.as_ref(),
            Destination::Sqs(sqs) => sqs.secret_ref.as_ref(),
            Destination::S3(s3) => s3.secret_ref.as_ref(),
        };
        secret.map(|secret| secret.name.as_str())
    }

    /// The name of its field.
    pub fn form(&self) -> &'static str {
        match self {
            Destination::Function(_) => "function",
            Destination::Http(_) => "http",
            Destination::Nats(_) => "nats",
            Destination::Sqs(_) => "sqs",
            Destination::S3(_) => "s3",
        }
    }
}

/// The five forms as they are written. It is a struct for the reason given at `CodeFields`.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct DestinationFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<FunctionName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<HttpDestination>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nats: Option<NatsDestination>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sqs: Option<SqsDestination>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s3: Option<S3Destination>,
}

impl TryFrom<DestinationFields> for Destination {
    type Error = InvalidDestination;

    fn try_from(fields: DestinationFields) -> Result<Self, InvalidDestination> {
        let forms = [
            fields.function.map(Self::Function),
            fields.http.map(Self::Http),
            fields.nats.map(Self::Nats),
            fields.sqs.map(Self::Sqs),
            fields.s3.map(Self::S3),
        ];
        let mut forms = forms.into_iter().flatten();
        match (forms.next(), forms.next()) {
            (Some(form), None) => Ok(form),
            _ => Err(InvalidDestination::Forms),
        }
    }
}

impl From<Destination> for DestinationFields {
    fn from(destination: Destination) -> Self {
        let mut fields = Self::default();
        match destination {
            Destination::Function(function) => fields.function = Some(function),
            Destination::Http(http) => fields.http = Some(http),
            Destination::Nats(nats) => fields.nats = Some(nats),
            Destination::Sqs(sqs) => fields.sqs = Some(sqs),
            Destination::S3(s3) => fields.s3 = Some(s3),
        }
        fields
    }
}

/// A server that gets each record in a CloudEvent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpDestination {
    pub url: HttpUrl,
    /// Each key is the name of a header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<ObjectRef>,
}

/// A subject of a NATS server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NatsDestination {
    pub url: NatsUrl,
    pub subject: NatsSubject,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<ObjectRef>,
}

/// A queue of SQS, or of a server that speaks its protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SqsDestination {
    pub queue_url: QueueUrl,
    /// Absent: that in the name of the server, or the installation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<DestinationRegion>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<ObjectRef>,
}

/// A bucket of S3, or of a server that speaks its protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3Destination {
    pub bucket: BucketName,
    /// What the name of each object begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<KeyPrefix>,
    /// Absent: the installation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<DestinationRegion>,
    /// Absent: S3 in that region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<S3Endpoint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<ObjectRef>,
}

/// What cannot be a destination.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidDestination {
    #[error("must have exactly one of function, http, nats, sqs, s3")]
    Forms,
    #[error(
        "must be another function: this one would be called with its own records again and again"
    )]
    Itself,
    #[error(
        "must be an https:// or http:// address such as https://host/path, without user, password, fragment and spaces, got `{0}`"
    )]
    Http(String),
    #[error(
        "must be an address such as nats://host:4222 or tls://host, without user and path, got `{0}`"
    )]
    Nats(String),
    #[error(
        "must be a subject such as `orders.done`: words with `.` between, without spaces and wildcards, got `{0}`"
    )]
    Subject(String),
    #[error(
        "must be a queue's address such as https://sqs.eu-central-1.amazonaws.com/000000000000/orders, got `{0}`"
    )]
    Queue(String),
    #[error(
        "must be a standard queue: the name of a FIFO queue ends in .fifo, and none can be a destination"
    )]
    Fifo,
    #[error("must be a region such as eu-central-1, got `{0}`")]
    Region(String),
    #[error(
        "must be a bucket's name: 3 to 63 characters a-z, 0-9, `.` and `-`, with a letter or digit at both ends, got `{0}`"
    )]
    Bucket(String),
    #[error(
        "must be 1 to 256 letters, digits and `-`, `_`, `.`, `!`, with `/` between: no `/` at the start, no empty, `.` or `..` part, got `{0}`"
    )]
    Prefix(String),
    #[error("must be a server such as https://storage.example:9000, without path, got `{0}`")]
    Endpoint(String),
}

/// The address of a web server. It may hold a token, so it prints without ([`ShownUrl`]).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HttpUrl(Arc<str>);

impl HttpUrl {
    /// The whole address, to send to and never to print.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&ShownUrl(&self.0), f)
    }
}

impl TryFrom<String> for HttpUrl {
    type Error = InvalidDestination;

    fn try_from(text: String) -> Result<Self, InvalidDestination> {
        match is_web_url(&text) {
            true => Ok(Self(text.into())),
            false => Err(InvalidDestination::Http(ShownUrl(&text).to_string())),
        }
    }
}

impl From<HttpUrl> for String {
    fn from(url: HttpUrl) -> Self {
        url.0.as_ref().to_owned()
    }
}

pilotlight_core::checked_text! {
    /// The address of a queue.
    QueueUrl, InvalidDestination, check_queue
}
checked_text! {
    /// The address of a NATS server.
    NatsUrl, InvalidDestination, is_nats_url, |text: String| InvalidDestination::Nats(ShownUrl(&text).to_string())
}
checked_text! {
    /// A subject that messages can be sent to.
    NatsSubject, InvalidDestination, is_subject, InvalidDestination::Subject
}
checked_text! {
    /// A region of the original platform, or of a server that has any.
    DestinationRegion, InvalidDestination, is_region, InvalidDestination::Region
}
checked_text! {
    /// The name of a bucket.
    BucketName, InvalidDestination, is_bucket, InvalidDestination::Bucket
}
checked_text! {
    /// The beginning of an object's name.
    KeyPrefix, InvalidDestination, is_prefix, InvalidDestination::Prefix
}
checked_text! {
    /// The address of a server with buckets.
    S3Endpoint, InvalidDestination, is_server, |text: String| InvalidDestination::Endpoint(ShownUrl(&text).to_string())
}

/// What an address may have after the server: RFC 3986, without the fragment.
const TAIL: &[u8] = b"-._~:/?@!$&'()*+,;=%[]";

fn is_web_url(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || TAIL.contains(&byte);
    let tail = after_web_server(text);
    tail.is_some_and(|tail| {
        text.len() <= 2048
            && (tail.is_empty() || tail.starts_with(['/', '?']))
            && tail.bytes().all(inner)
    })
}

fn is_server(text: &str) -> bool {
    text.len() <= 512 && after_web_server(text) == Some("")
}

fn check_queue(text: &str) -> Result<(), InvalidDestination> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let path = after_web_server(text).and_then(|path| path.strip_prefix('/'));
    let is_path = path.is_some_and(|path| {
        text.len() <= 1024
            && path
                .split('/')
                .all(|part| !part.is_empty() && part.bytes().all(inner))
    });
    match is_path {
        true if text.ends_with(".fifo") => Err(InvalidDestination::Fifo),
        true => Ok(()),
        false => Err(InvalidDestination::Queue(ShownUrl(text).to_string())),
    }
}

fn is_nats_url(text: &str) -> bool {
    let rest = text
        .strip_prefix("nats://")
        .or_else(|| text.strip_prefix("tls://"));
    text.len() <= 512 && rest.and_then(after_host) == Some("")
}

/// What follows the server of a web address.
fn after_web_server(text: &str) -> Option<&str> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    after_host(rest?)
}

/// What follows a host and a port, or none.
fn after_host(text: &str) -> Option<&str> {
    let rest = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            let inner = |byte: u8| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.';
            (!address.is_empty() && address.bytes().all(inner)).then_some(rest)?
        }
        None => {
            let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            let rest = text.trim_start_matches(inner);
            (rest.len() < text.len()).then_some(rest)?
        }
    };
    let Some(port) = rest.strip_prefix(':') else {
        return Some(rest);
    };
    let after = port.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = port.len() - after.len();
    (1..=5).contains(&digits).then_some(after)
}

fn is_subject(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_graphic() && !b"*>.".contains(&byte);
    text.len() <= 256
        && text
            .split('.')
            .all(|word| !word.is_empty() && word.bytes().all(inner))
}

fn is_region(text: &str) -> bool {
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=63).contains(&text.len()) && text.bytes().all(inner)
}

fn is_bucket(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    let bytes = text.as_bytes();
    (3..=63).contains(&bytes.len())
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(inner)
}

fn is_prefix(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!/".contains(&byte);
    let (folders, _) = text.rsplit_once('/').unwrap_or_default();
    let is_folder = |part: &str| !matches!(part, "" | "." | "..");
    (1..=256).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('/')
        && (folders.is_empty() || folders.split('/').all(is_folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_that_of_a_server_that_every_reader_reads_alike() {
        for good in [
            "https://host",
            "http://host:8080/a/b?token=c%20d&e=[f]",
            "https://[fd00::1]:443/",
            "https://a_b.svc:65535?x",
        ] {
            assert!(is_web_url(good), "{good}");
        }
        for bad in [
            "",
            "host",
            "ftp://host",
            "HTTPS://host",
            "https://",
            "https:///a",
            "https://me@host/",
            "https://host:/",
            "https://host:123456/",
            "https://host:a",
            "https://[]/",
            "https://[::1",
            "https://[::1]a",
            "https://host/a b",
            "https://host/a#b",
            "https://host\\a",
            "https://host/\u{fc}",
            "https://h\u{fc}/",
            "https://host/\n",
        ] {
            assert!(!is_web_url(bad), "{bad}");
        }
        for (text, server, nats) in [
            ("https://host:9000", true, false),
            ("https://host/", false, false),
            ("nats://host", false, true),
            ("tls://[::1]:4222", false, true),
            ("nats://host/", false, false),
            ("nats://me:pw@host", false, false),
        ] {
            assert_eq!(
                (is_server(text), is_nats_url(text)),
                (server, nats),
                "{text}"
            );
        }
    }

    #[test]
    fn names_of_queues_buckets_and_subjects_have_their_forms() {
        assert_eq!(
            check_queue("https://sqs.eu-central-1.amazonaws.com/000000000000/orders"),
            Ok(())
        );
        assert_eq!(check_queue("http://host:9324/queue"), Ok(()));
        assert_eq!(
            check_queue("https://host/a/b.fifo"),
            Err(InvalidDestination::Fifo)
        );
        for bad in [
            "https://host",
            "https://host/",
            "https://host/a/",
            "https://host/a?b",
            "https://host//a",
        ] {
            assert!(
                matches!(check_queue(bad), Err(InvalidDestination::Queue(_))),
                "{bad}"
            );
        }
        for (check, good, bad) in [
            (
                is_subject as fn(&str) -> bool,
                "orders.$done/1",
                ["a b", "a.*", ">", "a..b", ".a", ""],
            ),
            (
                is_bucket,
                "my-bucket.1",
                ["ab", "-ab", "ab-", "aBc", "a_b", ""],
            ),
            (
                is_prefix,
                "a/..b/c.",
                ["/a", "a//b", "../a", "a/./b", "a b", ""],
            ),
            (
                is_region,
                "eu-central-1",
                ["EU", "a b", "a/b", "a.b", "\u{fc}", ""],
            ),
        ] {
            assert!(check(good), "{good}");
            for bad in bad {
                assert!(!check(bad), "{bad}");
            }
        }
    }
}
