//! The store of logs of a cluster: VictoriaLogs, at an address that the operator gives.
//!
//! Follows the Secret with what the store wants to be shown: a new password or certificate counts from the next request on.
//! If the chart has installed the store and it does not answer, its pod is looked at, so that the error says why.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client};
use pilotlight_api::identity::{
    AUTHORITIES, LOG_STORE_PASSWORD, LOG_STORE_TOKEN, LOG_STORE_USERNAME, field,
};
use pilotlight_core::ids::FunctionKey;
use pilotlight_logs::entry::Entry;
use pilotlight_logs::query::Query;
use pilotlight_logs::store::{FunctionLog, InstanceLog, Page, Retentions, Store, StoreError};
use pilotlight_logs::victoria::{Tenant, VictoriaConfig, VictoriaStore, durable_after};
use pilotlight_net::outbound::{BaseUrl, Outbound, OutboundError, ServerCredentials};
use tokio::sync::watch;

use super::secrets::{self, SecretPlace};

/// How long looking at the store's pod may take.
const LOOK_LIMIT: Duration = Duration::from_secs(2);
/// When a gateway deletes what is older than its function's retention for the first time, and the pause before the next.
const FIRST_SWEEP: Duration = Duration::from_secs(3_600);
const SWEEP_PAUSE: Duration = Duration::from_secs(86_400);

/// Where the store of logs is.
#[derive(Clone, Debug)]
pub struct LogStoreConfig {
    pub url: BaseUrl,
    /// With what it wants to be shown, and the authorities of its certificate. `None`: nothing.
    pub secret: Option<SecretPlace>,
    /// Its pod, by namespace and name, if the chart has installed it.
    pub pod: Option<(String, String)>,
    pub tenant: Tenant,
    /// Its `-inmemoryDataFlushInterval`.
    pub flush_interval: Duration,
}

/// See the module.
pub(crate) struct ClusterStore {
    store: VictoriaStore,
    reach: watch::Sender<Result<Outbound, Arc<str>>>,
    client: Client,
    config: LogStoreConfig,
}

impl ClusterStore {
    pub(crate) fn new(client: Client, config: LogStoreConfig) -> Self {
        let reach = match &config.secret {
            None => opened(&config.url, None),
            Some(secret) => Err(format!("the Secret {} has not been read yet", secret.name).into()),
        };
        let (reach, reached) = watch::channel(reach);
        let settings = VictoriaConfig {
            tenant: config.tenant,
            durable_after: durable_after(config.flush_interval),
            clock: Timestamp::now,
        };
        ClusterStore {
            store: VictoriaStore::new(reached, settings),
            reach,
            client,
            config,
        }
    }

    /// Follows the Secret, and deletes what is too old, until the gateway ends.
    pub(crate) async fn run(&self) {
        let following = async {
            if let Some(place) = &self.config.secret {
                let take = |secret: Option<&Secret>| self.take(place, secret);
                secrets::follow(self.client.clone(), place, take).await;
            }
            std::future::pending::<()>().await;
        };
        let sweeping = async {
            // Not at the start: all gateways start together. Not much later: one may live for less than a day.
            let mut pause = FIRST_SWEEP;
            loop {
                tokio::time::sleep(pause).await;
                pause = SWEEP_PAUSE;
                if let Err(error) = self.store.sweep().await {
                    tracing::warn!(%error, "logs that are older than their retention stay in the store; no read shows them");
                }
            }
        };
        tokio::select! {
            () = following => {}
            () = sweeping => {}
        }
    }

    fn take(&self, place: &SecretPlace, secret: Option<&Secret>) {
        let name = &place.name;
        let reach = match secret {
            None => Err(format!("the Secret {name} does not exist").into()),
            Some(secret) => opened(&self.config.url, Some((name, secret))),
        };
        match &reach {
            Ok(_) => {
                tracing::info!(secret = %name, "the log store is reached with what this Secret has")
            }
            Err(error) => tracing::warn!(%error, secret = %name, "the log store cannot be reached"),
        }
        // The one before it is of no use.
        drop(self.reach.send_replace(reach));
    }

    /// The error, with what is wrong with the store's pod.
    async fn explained(&self, error: StoreError) -> StoreError {
        let (StoreError::Unavailable(told), Some((namespace, name))) = (&error, &self.config.pod)
        else {
            return error;
        };
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let looked = tokio::time::timeout(LOOK_LIMIT, pods.get_opt(name)).await;
        let why = match looked {
            Ok(Ok(Some(pod))) => why_not_running(&pod),
            Ok(Ok(None)) => Some("it does not exist".to_owned()),
            // What the store's own error says is all that is known.
            Ok(Err(_)) | Err(_) => None,
        };
        match why {
            Some(why) => StoreError::Unavailable(format!("its pod {name}: {why} ({told})")),
            None => error,
        }
    }

    async fn explaining<T>(
        &self,
        asked: BoxFuture<'_, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match asked.await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.explained(error).await),
        }
    }
}

impl fmt::Debug for ClusterStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterStore")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Store for ClusterStore {
    fn write<'a>(&'a self, records: &'a [Arc<Entry>]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.explaining(self.store.write(records)))
    }

    fn writes_at_once(&self) -> usize {
        self.store.writes_at_once()
    }

    fn keeps_retention(&self) -> bool {
        self.store.keeps_retention()
    }

    fn read<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Page, StoreError>> {
        Box::pin(self.explaining(self.store.read(query)))
    }

    fn functions(&self) -> BoxFuture<'_, Result<Vec<FunctionLog>, StoreError>> {
        Box::pin(self.explaining(self.store.functions()))
    }

    fn instances<'a>(
        &'a self,
        function: &'a FunctionKey,
    ) -> BoxFuture<'a, Result<Vec<InstanceLog>, StoreError>> {
        Box::pin(self.explaining(self.store.instances(function)))
    }

    fn retentions(&self) -> BoxFuture<'_, Result<Retentions, StoreError>> {
        self.store.retentions()
    }

    fn set_retention<'a>(
        &'a self,
        function: &'a FunctionKey,
        retention: Option<SignedDuration>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.set_retention(function, retention)
    }

    fn delete<'a>(&'a self, function: &'a FunctionKey) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.explaining(self.store.delete(function)))
    }
}

fn opened(url: &BaseUrl, secret: Option<(&str, &Secret)>) -> Result<Outbound, Arc<str>> {
    let credentials = secret.map(|(name, secret)| credentials(name, secret));
    let credentials = credentials.transpose()?.flatten();
    let authorities = secret.and_then(|(_, secret)| field(secret, AUTHORITIES));
    let opened = Outbound::new(url.clone(), authorities, credentials.as_ref());
    opened.map_err(|error: OutboundError| error.to_string().into())
}

/// # Errors
/// If the Secret has neither what is needed, nor authorities alone.
fn credentials(name: &str, secret: &Secret) -> Result<Option<ServerCredentials>, Arc<str>> {
    let text = |key| {
        let value = field(secret, key).map(|value| String::from_utf8_lossy(value).into_owned());
        value.filter(|value| !value.is_empty())
    };
    match (text(LOG_STORE_TOKEN), text(LOG_STORE_USERNAME), text(LOG_STORE_PASSWORD)) {
        (Some(token), None, None) => Ok(Some(ServerCredentials::Bearer(token))),
        (None, Some(username), Some(password)) => {
            Ok(Some(ServerCredentials::Basic { username, password }))
        }
        (None, None, None) if field(secret, AUTHORITIES).is_some() => Ok(None),
        (None, None, None) => Err(format!("the Secret {name} is empty: the controller fills that of an installed store").into()),
        _ => Err(format!(
            "the Secret {name} has to have {LOG_STORE_USERNAME} and {LOG_STORE_PASSWORD}, or {LOG_STORE_TOKEN} alone"
        )
        .into()),
    }
}

/// `None`: it runs and is ready, or says nothing.
fn why_not_running(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let is = |kind: &str, value: &str| {
        let conditions = status.conditions.iter().flatten();
        conditions
            .clone()
            .find(|one| one.type_ == kind && one.status == value)
            .cloned()
    };
    if let Some(condition) = is("PodScheduled", "False") {
        let message = condition.message.unwrap_or_default();
        return Some(format!("no node takes it: {message}"));
    }
    let waiting = status
        .container_statuses
        .iter()
        .flatten()
        .find_map(|container| {
            let waiting = container.state.as_ref()?.waiting.as_ref()?;
            let (reason, message) = (waiting.reason.as_deref()?, waiting.message.as_deref());
            Some(match message {
                Some(message) => format!("it waits: {reason}: {message}"),
                None => format!("it waits: {reason}"),
            })
        });
    waiting.or_else(|| is("Ready", "False").map(|_| "it is not ready".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;

    fn secret(fields: &[(&str, &str)]) -> Secret {
        let data = fields
            .iter()
            .map(|(name, text)| ((*name).to_owned(), ByteString(text.as_bytes().to_vec())));
        Secret {
            data: Some(data.collect::<BTreeMap<_, _>>()),
            ..Secret::default()
        }
    }

    #[test]
    fn a_secret_has_a_password_or_a_token_and_says_what_it_lacks() {
        let read = |fields: &[(&str, &str)]| credentials("logs", &secret(fields));
        let basic = [(LOG_STORE_USERNAME, "me"), (LOG_STORE_PASSWORD, "x")];
        assert!(matches!(
            read(&basic),
            Ok(Some(ServerCredentials::Basic { .. }))
        ));
        assert!(matches!(
            read(&[(LOG_STORE_TOKEN, "x")]),
            Ok(Some(ServerCredentials::Bearer(_)))
        ));
        assert_eq!(read(&[(AUTHORITIES, "x")]), Ok(None));
        for (fields, why) in [
            (&[][..], "is empty"),
            (&basic[..1], "username and password"),
            (
                &[basic[0], basic[1], (LOG_STORE_TOKEN, "x")][..],
                "token alone",
            ),
        ] {
            let error = read(fields).expect_err(why);
            assert!(error.contains(why) && error.contains("logs"), "{error}");
        }
    }

    #[test]
    fn a_pod_that_does_not_run_says_why() {
        let why = |status| {
            let pod = json!({"status": status});
            why_not_running(&serde_json::from_value(pod).expect("a pod"))
        };
        let unscheduled = json!({"conditions": [{
            "type": "PodScheduled",
            "status": "False",
            "message": "pod has unbound immediate PersistentVolumeClaims",
        }]});
        let told = why(unscheduled).expect("a reason");
        assert!(
            told.contains("unbound immediate PersistentVolumeClaims"),
            "{told}"
        );
        let container = json!({
            "name": "victoria-logs", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}},
        });
        let told = why(json!({"containerStatuses": [container]}));
        assert_eq!(
            told.as_deref(),
            Some("it waits: ImagePullBackOff: not found")
        );
        let told = why(json!({"conditions": [{"type": "Ready", "status": "False"}]}));
        assert_eq!(told.as_deref(), Some("it is not ready"));
        assert_eq!(
            why(json!({"conditions": [{"type": "Ready", "status": "True"}]})),
            None
        );
    }
}
