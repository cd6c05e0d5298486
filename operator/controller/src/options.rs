//! The configuration of a controller, from its command line.
//!
//! Fed by `pilotlight controller`. Decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use pilotlight_api::ObjectName;
use pilotlight_core::function::PoolSize;
use pilotlight_core::identity::{Lifetimes, Mode};
use pilotlight_core::instance::node_share::CpuLimit;
use pilotlight_core::tls;
use pilotlight_otlp::SpanExporter;
use pilotlight_runtimes::Runtimes;
use pilotlight_wire::config::IdentityConfig;

/// The room for a container's log that a kubelet with its default settings needs: five files of 10 MiB, and the lines
/// that are written until it looks at their sizes.
pub const LOG_STORAGE_MIB: u32 = 64;

/// The bytes a second that an instance may log. With these [`LOG_STORAGE_MIB`] is enough.
pub const LOG_RATE: u32 = 1024 * 1024;

/// The configuration of a controller.
#[derive(Clone, Debug)]
pub struct Options {
    pub namespace: String,
    /// The name of this controller among those that contend for the leadership. No other living process has
    /// it.
    pub identity: String,
    /// The Service with the gateways' port for parts; its endpoints are the gateways.
    pub parts_service: String,
    /// The Service at which instances call other functions.
    pub gateway_service: String,
    /// The namespace of both Services.
    pub gateway_namespace: String,
    /// The port of the Service at which instances call other functions.
    pub gateway_port: u16,
    /// How gateways speak TLS with their callers, at this port.
    pub tls: PublicTls,
    /// The audience of the tokens by which callers prove who they are.
    pub caller_audience: String,
    pub region: String,
    /// The image of each runtime, by the runtime's canonical name.
    pub images: BTreeMap<String, String>,
    pub runtimes: Runtimes,
    /// The Secrets that gateways may read for archives.
    pub archive_secrets: BTreeSet<String>,
    /// Whether the parts of the release prove to each other who they are.
    pub parts_identity: Mode,
    /// The Secrets for that, in the namespace of the Services.
    pub identity_secrets: IdentitySecrets,
    pub certificate_lifetimes: Lifetimes,
    /// How instances recognise gateways. `None`: they do not, or the authorities are not known yet.
    pub instance_identity: Option<IdentityConfig>,
    pub pods: PodOptions,
    /// Where spans go; `None`: nowhere, and instances take no segments either.
    pub exporter: Option<SpanExporter>,
    /// The size of the pool that each runtime with an image has by default; 0: there is none.
    pub default_pool_size: PoolSize,
}

/// How gateways speak TLS with their callers.
#[derive(Clone, Debug, Default)]
pub struct PublicTls {
    pub mode: tls::Mode,
    /// The Secret with the certificate that callers get, in the namespace of the Services. No Function may use it.
    pub secret: Option<String>,
    /// The names that the controller signs this certificate for. Empty: somebody else brings it.
    pub names: Vec<String>,
    /// The ConfigMap, in the same namespace, by which callers get the authorities that have signed it.
    pub authorities: Option<String>,
}

/// The names of the release's own Secrets. No Function may use them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySecrets {
    /// The authorities with their private keys. Only controllers read it.
    pub authorities: String,
    /// The gateways' certificate.
    pub gateway: String,
    /// The keys of temporary credentials; `None`: callers are not asked who they are.
    pub session_keys: Option<String>,
    /// The password of the store of logs; `None`: the release has no store of its own.
    pub log_store: Option<String>,
    /// The password of the event queue; `None`: the release has no queue of its own.
    pub event_queue: Option<String>,
}

/// Settings of the installation for the pods of all functions and warm pools.
#[derive(Clone, Debug)]
pub struct PodOptions {
    pub cpu_limit: CpuLimit,
    /// MiB of a node's disk for the log files of one pod, beside the volumes.
    pub log_storage_mib: u32,
    /// Bytes a second that are logged of what an instance prints; `None`: all.
    pub log_rate: Option<u32>,
    /// Whether the users in a pod are users that nothing else on its node has.
    pub user_namespaces: bool,
    /// Whether the kubelet probes the supervisors in images of runtimes. Those in functions' own images may be of a
    /// release that does not answer, and are never probed.
    pub liveness_probe: bool,
    /// The runtime class of functions and pools that name none.
    pub runtime_class: Option<ObjectName>,
}

impl Default for PodOptions {
    fn default() -> Self {
        PodOptions {
            cpu_limit: CpuLimit::default(),
            log_storage_mib: LOG_STORAGE_MIB,
            log_rate: Some(LOG_RATE),
            user_namespaces: false,
            liveness_probe: true,
            runtime_class: None,
        }
    }
}

impl Options {
    /// Whether a Secret of this name in the Functions' namespace is the release's own.
    pub(crate) fn owns_secret(&self, name: &str) -> bool {
        let IdentitySecrets {
            authorities,
            gateway,
            session_keys,
            log_store,
            event_queue,
        } = &self.identity_secrets;
        let own = [authorities, gateway]
            .into_iter()
            .chain(session_keys)
            .chain(log_store)
            .chain(event_queue)
            .chain(&self.tls.secret);
        self.gateway_namespace == self.namespace && own.into_iter().any(|own| own == name)
    }

    /// The `host:port` at which instances call other functions.
    pub(crate) fn gateways(&self) -> String {
        let Options {
            gateway_service: service,
            gateway_namespace: namespace,
            gateway_port: port,
            ..
        } = self;
        format!("{service}.{namespace}.svc:{port}")
    }
}

#[cfg(test)]
impl Options {
    /// Those of a controller without identity and without images. Tests change what they are about.
    pub(crate) fn of_test() -> Self {
        Options {
            namespace: "functions".to_owned(),
            identity: "controller-1".to_owned(),
            parts_service: "parts".to_owned(),
            gateway_service: "gateway".to_owned(),
            gateway_namespace: "system".to_owned(),
            gateway_port: 80,
            tls: PublicTls::default(),
            caller_audience: "pilotlight".to_owned(),
            region: "eu-central-1".to_owned(),
            images: BTreeMap::new(),
            runtimes: Runtimes::built_in(),
            archive_secrets: Default::default(),
            parts_identity: Mode::Off,
            identity_secrets: IdentitySecrets {
                authorities: "authorities".to_owned(),
                gateway: "certificate".to_owned(),
                session_keys: Some("session-keys".to_owned()),
                log_store: Some("log-store".to_owned()),
                event_queue: Some("event-queue".to_owned()),
            },
            certificate_lifetimes: Lifetimes::DEFAULT,
            instance_identity: None,
            pods: PodOptions::default(),
            exporter: None,
            default_pool_size: no_pools(),
        }
    }
}

#[cfg(test)]
pub(crate) fn no_pools() -> PoolSize {
    PoolSize::try_from(0_i128).expect("within bounds")
}
