//! Destinations of functions: from what a manifest says to a receiver with its credentials.
//!
//! Fed by whoever has an event that has ended. A Secret is read for each delivery and not kept, so a changed one applies to the
//! next one. The reading of Secrets is a cluster's or local mode's (`DestinationSecrets`); what their keys mean is here. A
//! gateway never signs with an identity of its own: without a Secret, requests to SQS and S3 have no signature, except in local
//! mode, which has the keys of the developer.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue};
use pilotlight_api::{
    Destination, DestinationRegion, HttpDestination, NatsDestination, S3Destination, SqsDestination,
};
use pilotlight_core::function::FunctionName;
use pilotlight_events::destination::{
    AwsKeys, HttpReceiver, NatsLogin, NatsReceiver, Outgoing, Receiver, ReceiverSecret, Receivers,
    S3Receiver, SqsReceiver, Undelivered,
};

/// The key with the authorities of a server's certificate.
const AUTHORITIES: &str = "ca.crt";
/// Headers that are the gateway's own.
const OWN_HEADERS: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The keys of a Secret with their values.
pub type SecretData = BTreeMap<String, Vec<u8>>;

/// Where the Secrets are that destinations name.
pub trait DestinationSecrets: Debug + Send + Sync {
    /// # Errors
    /// Say what to do, and by whom.
    fn read<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<SecretData, String>>;
}

/// Secrets of local mode: a folder for each, with a file for each key. Without such a folder there is none.
#[derive(Clone, Debug, Default)]
pub struct SecretFolders(pub Option<PathBuf>);

impl DestinationSecrets for SecretFolders {
    fn read<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<SecretData, String>> {
        let read = || {
            let Some(root) = &self.0 else {
                return Err(format!(
                    "local mode has no Secret {name}: put its keys as files into a folder {name}, and name the folder around it \
                     with --secrets"
                ));
            };
            let folder = root.join(name);
            let cannot = |error| format!("{}: {error}", folder.display());
            let mut data = SecretData::new();
            for entry in std::fs::read_dir(&folder).map_err(cannot)? {
                let entry = entry.map_err(cannot)?;
                if let (Ok(key), true) = (entry.file_name().into_string(), entry.path().is_file()) {
                    data.insert(key, std::fs::read(entry.path()).map_err(cannot)?);
                }
            }
            Ok(data)
        };
        std::future::ready(read()).boxed()
    }
}

/// What a destination is for the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DestinationTarget<'a> {
    /// The gateway accepts an event for this function.
    Function(&'a FunctionName),
    Receiver(Receiver),
}

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Destinations {
    secrets: Arc<dyn DestinationSecrets>,
    receivers: Receivers,
    /// Where neither the manifest nor the name of a server has one.
    region: String,
    /// Of the developer, for destinations without a Secret.
    own_keys: Option<AwsKeys>,
}

impl Destinations {
    pub fn new(
        secrets: Arc<dyn DestinationSecrets>,
        receivers: Receivers,
        region: String,
        own_keys: Option<AwsKeys>,
    ) -> Self {
        Destinations {
            secrets,
            receivers,
            region,
            own_keys,
        }
    }

    /// Reads the Secret of the destination. `field` is that of the manifest, for errors: `spec.async.onFailure`.
    ///
    /// # Errors
    /// The Secret is missing, or lacks something: somebody may mend it.
    pub async fn target<'a>(
        &self,
        field: &str,
        destination: &'a Destination,
    ) -> Result<DestinationTarget<'a>, Undelivered> {
        if let Destination::Function(function) = destination {
            return Ok(DestinationTarget::Function(function));
        }
        let at = |why: String| {
            Undelivered::Later(format!("{field}.{}.secretRef: {why}", destination.form()))
        };
        let data = match destination.secret() {
            Some(name) => Some(self.secrets.read(name).await.map_err(at)?),
            None => None,
        };
        let receiver = self.receiver(destination, data.as_ref());
        let receiver = receiver.map_err(|why| {
            let name = destination.secret().unwrap_or_default();
            at(format!("the Secret {name} {why}"))
        })?;
        Ok(DestinationTarget::Receiver(receiver))
    }

    /// # Errors
    /// See [`Receivers::send`].
    pub async fn send(&self, receiver: &Receiver, outgoing: &Outgoing) -> Result<(), Undelivered> {
        self.receivers.send(receiver, outgoing).await
    }

    pub(crate) fn receiver(
        &self,
        destination: &Destination,
        data: Option<&SecretData>,
    ) -> Result<Receiver, String> {
        let secret = KeysOf::read(data)?;
        Ok(match destination {
            Destination::Http(http) => Receiver::Http(self::http(http, &secret)?),
            Destination::Nats(nats) => Receiver::Nats(self::nats(nats, &secret)?),
            Destination::Sqs(sqs) => Receiver::Sqs(self.sqs(sqs, &secret)?),
            Destination::S3(s3) => Receiver::S3(self.s3(s3, &secret)?),
            Destination::Function(_) => unreachable!("it has no receiver"),
        })
    }

    fn sqs(&self, sqs: &SqsDestination, secret: &KeysOf<'_>) -> Result<SqsReceiver, String> {
        let queue_url = sqs.queue_url.as_str();
        let region = sqs.region.as_ref().map(DestinationRegion::as_str);
        let region = region.or_else(|| region_in(queue_url));
        Ok(SqsReceiver {
            queue_url: queue_url.to_owned(),
            region: region.unwrap_or(&self.region).to_owned(),
            keys: self.keys(secret)?,
            authorities: secret.authorities.clone(),
        })
    }

    fn s3(&self, s3: &S3Destination, secret: &KeysOf<'_>) -> Result<S3Receiver, String> {
        let region = s3.region.as_ref().map(DestinationRegion::as_str);
        let region = region.unwrap_or(&self.region).to_owned();
        let endpoint = match &s3.endpoint {
            Some(endpoint) => endpoint.as_str().to_owned(),
            None => format!("https://s3.{region}.amazonaws.com"),
        };
        let prefix = s3.prefix.as_ref().map(|prefix| prefix.as_str().to_owned());
        Ok(S3Receiver {
            endpoint,
            bucket: s3.bucket.as_str().to_owned(),
            prefix: prefix.unwrap_or_default(),
            region,
            keys: self.keys(secret)?,
            authorities: secret.authorities.clone(),
        })
    }

    fn keys(&self, secret: &KeysOf<'_>) -> Result<Option<AwsKeys>, String> {
        if !secret.is_there {
            return Ok(self.own_keys.clone());
        }
        let get = |key: &str| secret.texts.get(key).map(|text| text.trim().to_owned());
        match (get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY")) {
            (Some(id), Some(secret)) => Ok(Some(AwsKeys {
                id: ReceiverSecret(id),
                secret: ReceiverSecret(secret),
                session_token: get("AWS_SESSION_TOKEN").map(ReceiverSecret),
            })),
            _ => Err("has to have AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned()),
        }
    }
}

impl Default for Destinations {
    /// Without Secrets, and to any address.
    fn default() -> Self {
        let secrets = Arc::new(SecretFolders::default());
        Self::new(secrets, Receivers::default(), "us-east-1".to_owned(), None)
    }
}

/// The keys of a Secret, read.
struct KeysOf<'a> {
    is_there: bool,
    /// All but the authorities.
    texts: BTreeMap<&'a str, &'a str>,
    authorities: Option<Bytes>,
}

impl<'a> KeysOf<'a> {
    fn read(data: Option<&'a SecretData>) -> Result<Self, String> {
        let mut texts = BTreeMap::new();
        let mut authorities = None;
        for (key, value) in data.into_iter().flatten() {
            if key == AUTHORITIES {
                authorities = Some(Bytes::copy_from_slice(value));
                continue;
            }
            let text = std::str::from_utf8(value);
            texts.insert(
                key.as_str(),
                text.map_err(|_| format!("has no text in {key}"))?,
            );
        }
        Ok(KeysOf {
            is_there: data.is_some(),
            texts,
            authorities,
        })
    }
}

fn http(http: &HttpDestination, secret: &KeysOf<'_>) -> Result<HttpReceiver, String> {
    let mut headers = Vec::new();
    for (key, value) in &secret.texts {
        let name = HeaderName::try_from(*key);
        let name = name.map_err(|_| format!("has the key {key}, which is no name of a header"))?;
        if OWN_HEADERS.contains(&name.as_str()) {
            return Err(format!(
                "has the key {key}: gateways set this header themselves"
            ));
        }
        let value = HeaderValue::try_from(value.trim());
        let mut value =
            value.map_err(|_| format!("has a value in {key} that no header can carry"))?;
        value.set_sensitive(true);
        headers.push((name, value));
    }
    Ok(HttpReceiver {
        url: ReceiverSecret(http.url.as_str().to_owned()),
        headers,
        authorities: secret.authorities.clone(),
    })
}

fn nats(nats: &NatsDestination, secret: &KeysOf<'_>) -> Result<NatsReceiver, String> {
    Ok(NatsReceiver {
        url: nats.url.as_str().to_owned(),
        subject: nats.subject.as_str().to_owned(),
        login: NatsLogin::read(&secret.texts).map_err(|error| error.to_string())?,
        authorities: secret.authorities.clone(),
    })
}

/// The region in the name of a server of the original platform.
fn region_in(queue_url: &str) -> Option<&str> {
    let (_, rest) = queue_url.split_once("://")?;
    let host = rest.split(['/', ':']).next()?;
    let region = host.strip_prefix("sqs.")?.split(".amazonaws.").next()?;
    (host.contains(".amazonaws.") && !region.contains('.')).then_some(region)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn destination(json: Value) -> Destination {
        serde_json::from_value(json).expect("a destination")
    }

    fn data(pairs: &[(&str, &str)]) -> SecretData {
        let pairs = pairs.iter();
        let pairs = pairs.map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
        pairs.collect()
    }

    fn made(json: Value, pairs: Option<&[(&str, &str)]>) -> Result<Receiver, String> {
        let data = pairs.map(data);
        Destinations::default().receiver(&destination(json), data.as_ref())
    }

    #[test]
    fn the_keys_of_a_secret_become_headers() {
        let http = || json!({"http": {"url": "https://host/a", "secretRef": {"name": "s"}}});
        let made_of = |pairs: &[(&str, &str)]| made(http(), Some(pairs));
        let pairs = [
            ("Authorization", "Bearer hunter2\n"),
            ("x-team", "shop"),
            ("ca.crt", "PEM"),
        ];
        let Ok(Receiver::Http(receiver)) = made_of(&pairs) else {
            panic!("no receiver");
        };
        let shown = format!("{receiver:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("shop"),
            "{shown}"
        );
        let headers: Vec<_> = receiver
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        assert_eq!(
            headers,
            [
                ("authorization", &b"Bearer hunter2"[..]),
                ("x-team", b"shop")
            ]
        );
        assert_eq!(receiver.authorities.as_deref(), Some(&b"PEM"[..]));
        for (key, value, why) in [
            ("a b", "c", "no name of a header"),
            ("Host", "other", "gateways set this header themselves"),
            ("a", "b\nc", "no header can carry"),
        ] {
            let error = made_of(&[(key, value)]).expect_err(key);
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn queues_and_buckets_are_signed_for_with_the_secret_or_not_at_all() {
        let keys = [
            ("AWS_ACCESS_KEY_ID", "AKID"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ];
        let queue = |url: &str| json!({"sqs": {"queueUrl": url, "secretRef": {"name": "s"}}});
        for (url, region) in [
            ("https://sqs.eu-central-1.amazonaws.com/0/q", "eu-central-1"),
            ("https://sqs.cn-north-1.amazonaws.com.cn/0/q", "cn-north-1"),
            ("http://localhost:9324/q", "us-east-1"),
            ("https://sqs.a.b.amazonaws.com/0/q", "us-east-1"),
        ] {
            let Ok(Receiver::Sqs(receiver)) = made(queue(url), Some(&keys)) else {
                panic!("no receiver");
            };
            assert_eq!(
                (receiver.region.as_str(), receiver.queue_url.as_str()),
                (region, url)
            );
            assert_eq!(receiver.keys.expect("keys").id.0, "AKID");
        }
        let error = made(queue("https://h/q"), Some(&keys[..1])).expect_err("no secret");
        assert!(error.contains("AWS_SECRET_ACCESS_KEY"), "{error}");
        let bucket = json!({"s3": {"bucket": "abc", "region": "eu-west-1"}});
        let Ok(Receiver::S3(receiver)) = made(bucket, None) else {
            panic!("no receiver");
        };
        assert_eq!(
            (receiver.keys, receiver.endpoint.as_str()),
            (None, "https://s3.eu-west-1.amazonaws.com")
        );
    }

    #[tokio::test]
    async fn an_absent_secret_is_named_with_its_field_and_may_come() {
        let nats = destination(
            json!({"nats": {"url": "nats://h", "subject": "a", "secretRef": {"name": "gone"}}}),
        );
        let folder = tempfile::tempdir().expect("a folder");
        let secrets = SecretFolders(Some(folder.path().to_owned()));
        let destinations = Destinations {
            secrets: Arc::new(secrets),
            ..Destinations::default()
        };
        for (destinations, word) in [
            (Destinations::default(), "--secrets"),
            (destinations.clone(), "gone: "),
        ] {
            let error = destinations
                .target("spec.async.onFailure", &nats)
                .await
                .expect_err("no Secret");
            let Undelivered::Later(text) = &error else {
                panic!("{error}");
            };
            assert!(
                text.starts_with("spec.async.onFailure.nats.secretRef: "),
                "{text}"
            );
            assert!(text.contains(word), "{text}");
        }
        std::fs::create_dir(folder.path().join("gone")).expect("a folder");
        std::fs::write(folder.path().join("gone/token"), "t\n").expect("a file");
        let target = destinations
            .target("spec.async.onFailure", &nats)
            .await
            .expect("a receiver");
        let DestinationTarget::Receiver(Receiver::Nats(receiver)) = target else {
            panic!("{target:?}");
        };
        assert_eq!(
            receiver.login,
            NatsLogin::Token(ReceiverSecret("t".to_owned()))
        );
        let other = destination(json!({"function": "other"}));
        let target = destinations
            .target("spec.async.onFailure", &other)
            .await
            .expect("a function");
        assert!(matches!(target, DestinationTarget::Function(name) if name.as_str() == "other"));
    }
}
