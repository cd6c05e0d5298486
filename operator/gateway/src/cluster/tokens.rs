//! The keys with which the cluster signs tokens, fetched from the API server before they are needed.
//!
//! A token of a pod is checked with the keys at hand (`net::identity::token`), so no invocation waits for the API
//! server. A token that is signed with an unknown key causes one fetch, since the cluster may have got a new key; the
//! fetches have a pause between them, so that a stranger's tokens cannot flood the API server.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::Request;
use kube::Client;
use pilotlight_net::identity::token::{Expected, Keys, Unproven};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::clock;

/// Between two fetches of the cluster's keys.
const KEYS_INTERVAL: Duration = Duration::from_secs(600);
/// Before another fetch because of a token with an unknown key, or after a failed fetch.
const KEYS_PAUSE: Duration = Duration::from_secs(5);
/// One fetch. A claim waits for it if its pod's token has an unknown key.
const KEYS_LIMIT: Duration = Duration::from_secs(5);

const CONFIGURATION: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/openid/v1/jwks";

/// See the module. Clones share the keys.
#[derive(Clone)]
pub(crate) struct Tokens(Arc<Inner>);

struct Inner {
    client: Client,
    namespace: String,
    keys: RwLock<Arc<Keys>>,
    /// When the last fetch ended, or began if it was broken off. Held during a fetch, and from the look at it to the
    /// fetch. So there is one fetch at a time, and a check that waited for it needs no other.
    fetched: Mutex<Option<Instant>>,
}

type FetchError = Box<dyn std::error::Error + Send + Sync>;

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

#[derive(Deserialize)]
struct Configuration {
    issuer: String,
}

impl Tokens {
    /// `namespace`: that of the pods.
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        Tokens(Arc::new(Inner {
            client,
            namespace: namespace.to_owned(),
            keys: RwLock::default(),
            fetched: Mutex::new(None),
        }))
    }

    /// Keeps the keys fresh until it is dropped.
    pub(crate) async fn follow(&self) {
        loop {
            let pause = match self.fetch().await {
                Ok(()) => KEYS_INTERVAL,
                Err(error) => {
                    tracing::warn!(%error, "the cluster's keys for tokens cannot be fetched");
                    KEYS_PAUSE
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Checks that the token is the pod's with this UID.
    pub(crate) async fn check(&self, token: &str, uid: &str) -> Result<(), Unproven> {
        let expected = Expected {
            namespace: &self.0.namespace,
            uid,
        };
        let check = || self.keys().check(token, clock::seconds(), expected);
        match check() {
            Err(Unproven::UnknownKey) => {
                if let Err(error) = self.fetch_after_pause().await {
                    tracing::warn!(%error, "the cluster's keys for tokens cannot be fetched");
                }
                check()
            }
            checked => checked,
        }
    }

    fn keys(&self) -> Arc<Keys> {
        let keys = self.0.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.clone()
    }

    async fn fetch(&self) -> Result<(), FetchError> {
        self.fetch_once(&mut *self.0.fetched.lock().await).await
    }

    /// Fetches unless a fetch has ended shortly before.
    async fn fetch_after_pause(&self) -> Result<(), FetchError> {
        let mut fetched = self.0.fetched.lock().await;
        match fetched.is_some_and(|at| at.elapsed() < KEYS_PAUSE) {
            true => Ok(()),
            false => self.fetch_once(&mut fetched).await,
        }
    }

    async fn fetch_once(&self, fetched: &mut Option<Instant>) -> Result<(), FetchError> {
        *fetched = Some(Instant::now());
        let read = tokio::time::timeout(KEYS_LIMIT, self.read()).await;
        *fetched = Some(Instant::now());
        let keys = read.map_err(|_| format!("no answer within {KEYS_LIMIT:?}"))??;
        let mut held = self.0.keys.write().unwrap_or_else(PoisonError::into_inner);
        *held = Arc::new(keys);
        Ok(())
    }

    async fn read(&self) -> Result<Keys, FetchError> {
        let get = |path: &str| Request::get(path).body(Vec::new());
        let configuration = self.0.client.request_text(get(CONFIGURATION)?).await?;
        let configuration: Configuration = serde_json::from_str(&configuration)?;
        let set = self.0.client.request_text(get(KEYS)?).await?;
        Ok(Keys::of(configuration.issuer, set.as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use futures_util::future::join_all;
    use http::Response;
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// An API server that takes so long for each answer, and the number of fetches that have begun.
    fn tokens(delay: Duration) -> (Tokens, Arc<AtomicUsize>) {
        let fetches = Arc::new(AtomicUsize::new(0));
        let count = fetches.clone();
        let answer = tower::service_fn(move |request: Request<Body>| {
            let answer = match request.uri().path() {
                KEYS => json!({ "keys": [{ "kid": "a", "kty": "RSA", "n": "AQAB", "e": "AQAB" }] }),
                _ => {
                    count.fetch_add(1, Ordering::Relaxed);
                    json!({ "issuer": "issuer" })
                }
            };
            let answer = Response::new(Body::from(answer.to_string().into_bytes()));
            async move {
                tokio::time::sleep(delay).await;
                Ok::<_, Infallible>(answer)
            }
        });
        (Tokens::new(Client::new(answer, "shop"), "shop"), fetches)
    }

    /// So many checks at the same time, of a token whose signature is not the key's.
    async fn checked(tokens: &Tokens, count: usize) -> Vec<Result<(), Unproven>> {
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        let header = part(r#"{"alg":"RS256","kid":"a"}"#);
        let token = format!("{header}.{}.{}", part("{}"), part("x"));
        join_all((0..count).map(|_| tokens.check(&token, "uid-1"))).await
    }

    #[tokio::test(start_paused = true)]
    async fn all_checks_that_wait_for_a_fetch_use_its_keys() {
        let (tokens, fetches) = tokens(KEYS_LIMIT / 3);
        // They all look whether a fetch is due before one of them begins it.
        let nobody_looks = tokens.0.fetched.lock().await;
        let all_wait = async { drop(nobody_looks) };
        let (checked, ()) = tokio::join!(checked(&tokens, 4), all_wait);
        assert_eq!(checked, vec![Err(Unproven::Signature); 4]);
        assert_eq!(fetches.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_without_an_answer_ends_and_checks_that_waited_for_it_begin_no_other() {
        let (tokens, fetches) = tokens(4 * KEYS_LIMIT);
        for round in 1..=2 {
            let begun = Instant::now();
            // The first one fetches at once, the others wait for it.
            let checked = checked(&tokens, 4).await;
            assert_eq!(checked, vec![Err(Unproven::UnknownKey); 4]);
            let took = begun.elapsed();
            let limit = KEYS_LIMIT + Duration::from_millis(100);
            assert!((KEYS_LIMIT..limit).contains(&took), "{took:?}");
            assert_eq!(fetches.load(Ordering::Relaxed), round);
            tokio::time::sleep(KEYS_PAUSE).await;
        }
    }
}
