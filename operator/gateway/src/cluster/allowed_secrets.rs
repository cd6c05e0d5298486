//! The Secrets that Functions name and gateways read: credentials for servers of archives and for destinations.
//!
//! A Function names a Secret, and the operator names the Secrets that gateways may read. Each is read when it is needed, and
//! not kept: a changed Secret applies to the next fetch or delivery. No call waits for this once the code is in the cache.
//! Never lists or watches Secrets, since the gateway has no right to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use crate::destinations::{DestinationSecrets, SecretData};

/// Reading one Secret.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllowedSecrets {
    readable: Arc<BTreeSet<String>>,
    /// The value of the chart with these names.
    value: &'static str,
    /// `None` if nothing is readable.
    api: Option<Api<Secret>>,
}

impl AllowedSecrets {
    /// `readable`: the names that the operator has allowed, in this value of the chart.
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        readable: BTreeSet<String>,
        value: &'static str,
    ) -> Self {
        AllowedSecrets {
            readable: Arc::new(readable),
            value,
            api: Some(Api::namespaced(client, namespace)),
        }
    }

    /// The keys of the Secret with their values.
    ///
    /// # Errors
    /// Say what to do, and by whom.
    pub(crate) async fn read(&self, name: &str) -> Result<SecretData> {
        let value = self.value;
        let Some(api) = self.api.as_ref().filter(|_| self.readable.contains(name)) else {
            bail!(
                "gateways may not read the Secret {name}: whoever installs Pilotlight adds it to {value}"
            );
        };
        let read = tokio::time::timeout(READ_LIMIT, api.get_opt(name)).await;
        let read = read.with_context(|| format!("the Secret {name} was not read in time"))?;
        let secret = read.with_context(|| format!("the Secret {name} cannot be read"))?;
        let secret = secret.with_context(|| format!("there is no Secret {name}"))?;
        let data = secret.data.unwrap_or_default().into_iter();
        Ok(data.map(|(key, value)| (key, value.0)).collect())
    }
}

impl DestinationSecrets for AllowedSecrets {
    fn read<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<SecretData, String>> {
        async move { self.read(name).await.map_err(|error| format!("{error:#}")) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use http::{Method, Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    const VALUE: &str = "gateway.fetch.secrets";

    /// An API server with one Secret, and the requests that it got.
    fn secrets(readable: &[&str]) -> (AllowedSecrets, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            assert_eq!(request.method(), Method::GET);
            let uri = request.uri().to_string();
            let (status, body) = match uri.ends_with("/secrets/there") {
                true => (
                    200,
                    json!({"data": {"hosts": "aG9zdA==", "token": "aHVudGVyMg=="}}),
                ),
                false => (
                    404,
                    json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": ""}),
                ),
            };
            seen.lock().unwrap().push(uri);
            let response = Response::builder().status(status);
            let response = response.body(Body::from(body.to_string().into_bytes()));
            async move { Ok::<_, Infallible>(response.unwrap()) }
        });
        let readable = readable.iter().map(|name| (*name).to_owned());
        let client = Client::new(service, "functions");
        let secrets = AllowedSecrets::new(client, "functions", readable.collect(), VALUE);
        (secrets, asked)
    }

    #[tokio::test]
    async fn a_secret_is_read_by_its_name_only_if_the_operator_allows_it() {
        let (secrets, asked) = secrets(&["there", "gone"]);
        let data = secrets.read("there").await.unwrap();
        assert_eq!(data["token"], b"hunter2");
        let path = "/api/v1/namespaces/functions/secrets/there";
        assert_eq!(*asked.lock().unwrap(), [path]);
        let error = secrets.read("other").await.unwrap_err();
        assert!(error.to_string().contains(VALUE), "{error:#}");
        assert_eq!(asked.lock().unwrap().len(), 1, "it was not asked for");
        let error = secrets.read("gone").await.unwrap_err();
        assert_eq!(error.to_string(), "there is no Secret gone");
    }
}
