//! Destinations with their credentials, as values. No `Debug` shows what is secret.

use std::fmt;

use ::http::{HeaderName, HeaderValue};
use bytes::Bytes;
use pilotlight_core::shown_url::ShownUrl;

use super::login::NatsLogin;
use super::secret::ReceiverSecret;

/// Where a record is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receiver {
    Http(HttpReceiver),
    Nats(NatsReceiver),
    Sqs(SqsReceiver),
    S3(S3Receiver),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpReceiver {
    /// It may hold a token.
    pub url: ReceiverSecret,
    /// The values are marked as sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The authorities of its certificate in PEM. `None`: those of the platform.
    pub authorities: Option<Bytes>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsReceiver {
    pub url: String,
    pub subject: String,
    pub login: NatsLogin,
    /// With these, the connection has to be encrypted.
    pub authorities: Option<Bytes>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqsReceiver {
    pub queue_url: String,
    pub region: String,
    /// `None`: requests have no signature.
    pub keys: Option<AwsKeys>,
    pub authorities: Option<Bytes>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Receiver {
    /// `https://HOST[:PORT]`.
    pub endpoint: String,
    pub bucket: String,
    pub prefix: String,
    pub region: String,
    /// `None`: requests have no signature.
    pub keys: Option<AwsKeys>,
    pub authorities: Option<Bytes>,
}

/// What signs requests in the manner of the original platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsKeys {
    pub id: ReceiverSecret,
    pub secret: ReceiverSecret,
    pub session_token: Option<ReceiverSecret>,
}

impl AwsKeys {
    pub(super) fn credentials(&self) -> aws_credential_types::Credentials {
        let token = self.session_token.as_ref().map(|token| token.0.clone());
        let secret = self.secret.0.as_str();
        aws_credential_types::Credentials::new(&self.id.0, secret, token, None, "pilotlight")
    }
}

/// The address, without what may be secret in it.
impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Receiver::Http(to) => write!(f, "{}", ShownUrl(&to.url.0)),
            Receiver::Nats(to) => write!(f, "{} of {}", to.subject, ShownUrl(&to.url)),
            Receiver::Sqs(to) => write!(f, "{}", ShownUrl(&to.queue_url)),
            Receiver::S3(to) => write!(f, "the bucket {} of {}", to.bucket, ShownUrl(&to.endpoint)),
        }
    }
}
