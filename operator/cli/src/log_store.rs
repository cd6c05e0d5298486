//! The options of a gateway about the store of logs.
//!
//! Owns the arguments. What the store does is the gateway's (`cluster::log_store`).

use std::time::Duration;

use pilotlight_gateway::cluster::{BaseUrl, LogStoreConfig, SecretPlace, Tenant};

#[derive(Debug, clap::Args)]
pub(crate) struct LogStore {
    /// The address of the VictoriaLogs that keeps the logs of functions [default: there is none, and the newest lines are
    /// kept in memory].
    #[arg(long = "log-store", env = "PILOTLIGHT_LOG_STORE", value_name = "URL")]
    url: Option<BaseUrl>,
    /// The Secret, in the namespace of --service-namespace, with what it wants to be shown: `username` and `password`, or
    /// `token`; and `ca.crt` with the authorities of its certificate.
    #[arg(
        long = "log-store-secret",
        env = "PILOTLIGHT_LOG_STORE_SECRET",
        value_name = "NAME"
    )]
    secret: Option<String>,
    /// Its pod, in the same namespace, which is looked at when it does not answer.
    #[arg(
        long = "log-store-pod",
        env = "PILOTLIGHT_LOG_STORE_POD",
        value_name = "NAME"
    )]
    pod: Option<String>,
    /// Its tenant: ACCOUNT:PROJECT.
    #[arg(
        long = "log-store-tenant",
        env = "PILOTLIGHT_LOG_STORE_TENANT",
        default_value_t,
        value_name = "TENANT"
    )]
    tenant: Tenant,
    /// Its -inmemoryDataFlushInterval, in seconds: a record counts as stored a second and twice this time after it has been
    /// sent, and has been found again.
    #[arg(
        long = "log-store-flush-interval",
        env = "PILOTLIGHT_LOG_STORE_FLUSH_INTERVAL",
        default_value_t = 5,
        value_parser = clap::value_parser!(u64).range(1..=60),
        value_name = "SECONDS"
    )]
    flush_interval: u64,
}

impl LogStore {
    /// `release`: the namespace of the Secret and of the pod.
    pub(crate) fn config(self, release: &str) -> Option<LogStoreConfig> {
        Some(LogStoreConfig {
            url: self.url?,
            secret: self.secret.map(|name| SecretPlace {
                namespace: release.to_owned(),
                name,
            }),
            pod: self.pod.map(|name| (release.to_owned(), name)),
            tenant: self.tenant,
            flush_interval: Duration::from_secs(self.flush_interval),
        })
    }
}
