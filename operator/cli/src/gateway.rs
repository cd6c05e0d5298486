//! `pilotlight gateway`: the gateway of a cluster, in a pod of its own.
//!
//! Owns the arguments and the end. Functions, instances and calls are the gateway's
//! (`pilotlight_gateway::cluster`).

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result};
use pilotlight_api::ObjectName;
use pilotlight_archive::{FetchProxy, Fetcher};
use pilotlight_core::access;
use pilotlight_core::address_rule::{AddressRange, AddressRule};
use pilotlight_core::code_cache::{CacheLimits, FETCHES, VOLUME_MIN};
use pilotlight_core::identity::Mode;
use pilotlight_core::ids::Namespace;
use pilotlight_core::tls;
use pilotlight_gateway::cluster::{self, Among, ClusterConfig, KeySecrets, Listeners, SecretPlace};
use pilotlight_gateway::{AUDIENCE, AccessConfig, Config, OWN_SERIES_DEFAULT};
use pilotlight_runtimes::Runtimes;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::event_queue::EventQueueOptions;
use crate::exit::Exit;
use crate::log_export::{self, LogExport};
use crate::log_store::LogStore;
use crate::memory::{self, Memory};
use crate::parts_identity::PartsIdentity;
use crate::traces::{self, TraceOptions};

/// Serve the Functions of a namespace; instances are pods.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the Functions are.
    #[arg(long, env = "PILOTLIGHT_NAMESPACE")]
    namespace: Namespace,
    /// Where to listen for callers of the public API.
    #[arg(
        long,
        env = "PILOTLIGHT_API",
        default_value = "0.0.0.0:8080",
        value_name = "HOST:PORT"
    )]
    api: String,
    /// Where to listen for the controller and the other gateways.
    #[arg(
        long,
        env = "PILOTLIGHT_PARTS",
        default_value = "0.0.0.0:8082",
        value_name = "HOST:PORT"
    )]
    parts: String,
    /// Where to listen for probes and metrics.
    #[arg(
        long,
        env = "PILOTLIGHT_STATUS",
        default_value = "0.0.0.0:8081",
        value_name = "HOST:PORT"
    )]
    status: String,
    /// The Service with the gateways' port `parts`, if there is more than one gateway: they find each other by
    /// it, and share out the functions.
    #[arg(
        long,
        env = "PILOTLIGHT_GATEWAY_SERVICE",
        value_name = "NAME",
        requires = "address"
    )]
    service: Option<String>,
    /// The namespace of that Service [default: --namespace].
    #[arg(long, env = "PILOTLIGHT_GATEWAY_NAMESPACE", value_name = "NAMESPACE")]
    service_namespace: Option<String>,
    /// This gateway's address in that Service: its pod's.
    #[arg(
        long,
        env = "PILOTLIGHT_ADDRESS",
        value_name = "IP",
        requires = "service"
    )]
    address: Option<IpAddr>,
    #[command(flatten)]
    identity_of_parts: PartsIdentity,
    /// The Secret, in the namespace of --service-namespace, into which the controller writes this gateway's certificate.
    #[arg(long, env = "PILOTLIGHT_CERTIFICATE_SECRET", value_name = "NAME")]
    certificate_secret: Option<String>,
    /// Whether callers have to speak TLS: off (plain text alone), optional (both on the same port) or required.
    #[arg(
        long,
        env = "PILOTLIGHT_TLS",
        default_value = "off",
        value_name = "off|optional|required"
    )]
    tls: tls::Mode,
    /// The Secret, in the namespace of --service-namespace, with the certificate that callers get: `tls.crt` and
    /// `tls.key`, as cert-manager makes it. A new version of it applies to new connections without a restart.
    #[arg(long, env = "PILOTLIGHT_TLS_SECRET", value_name = "NAME")]
    tls_secret: Option<String>,
    /// A directory for code from archives [default: below the system's temporary directory].
    #[arg(long, env = "PILOTLIGHT_CACHE", value_name = "DIRECTORY")]
    cache: Option<PathBuf>,
    /// The size of the volume with that directory, in bytes or with the suffix Ki, Mi, Gi or Ti. Nine tenths of it are
    /// used; the code that was not used for the longest time makes room.
    #[arg(
        long,
        env = "PILOTLIGHT_CACHE_SIZE",
        default_value = "10Gi",
        value_parser = volume,
        value_name = "BYTES"
    )]
    cache_size: u64,
    /// Archives that are fetched at a time, if the cache has room.
    #[arg(
        long,
        env = "PILOTLIGHT_FETCHES",
        default_value_t = FETCHES,
        value_parser = clap::value_parser!(u16).range(1..=64),
        value_name = "NUMBER"
    )]
    fetches: u16,
    /// The Secrets with credentials that Functions may name for their archives. Repeat the option for each.
    #[arg(
        long = "fetch-secret",
        env = "PILOTLIGHT_FETCH_SECRETS",
        value_name = "NAME",
        value_delimiter = ','
    )]
    fetch_secrets: Vec<String>,
    /// A proxy through which archives are fetched. It resolves the names, and decides which of their addresses may be
    /// reached. Proxies of the environment are ignored.
    #[arg(long, env = "PILOTLIGHT_FETCH_PROXY", value_name = "URL")]
    fetch_proxy: Option<FetchProxy>,
    /// Ranges of addresses that archives may come from although they are refused otherwise: loopback, link-local,
    /// unique-local, multicast, and those of --fetch-deny.
    #[arg(
        long,
        env = "PILOTLIGHT_FETCH_ALLOW",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    fetch_allow: Vec<AddressRange>,
    /// Ranges of addresses that no archive comes from: those of the cluster's pods and Services.
    #[arg(
        long,
        env = "PILOTLIGHT_FETCH_DENY",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    fetch_deny: Vec<AddressRange>,
    /// The Secrets with credentials that Functions may name for their destinations. Repeat the option for each. Destinations may
    /// have the addresses that archives may have.
    #[arg(
        long = "destination-secret",
        env = "PILOTLIGHT_DESTINATION_SECRETS",
        value_name = "NAME",
        value_delimiter = ','
    )]
    destination_secrets: Vec<String>,
    /// A folder of further runtimes, as the controller has it; see runtimes/README.md.
    #[arg(long, env = "PILOTLIGHT_RUNTIMES", value_name = "DIR")]
    runtimes: Option<PathBuf>,
    /// The runtime class of functions that name none, as the controller has it.
    #[arg(long, env = "PILOTLIGHT_FUNCTION_RUNTIME_CLASS", value_name = "NAME")]
    function_runtime_class: Option<ObjectName>,
    /// Region of the functions' ARNs, and AWS_REGION of their instances.
    #[arg(long, env = "PILOTLIGHT_REGION", default_value = "us-east-1")]
    region: String,
    /// Account number of the functions' ARNs.
    #[arg(long, env = "PILOTLIGHT_ACCOUNT", default_value = "000000000000")]
    account: String,
    /// How many functions have series of their own in the metrics; the others share one set (docs/metrics.md).
    #[arg(
        long,
        env = "PILOTLIGHT_OWN_SERIES",
        default_value_t = OWN_SERIES_DEFAULT,
        value_parser = clap::value_parser!(u32).range(..=10_000),
        value_name = "FUNCTIONS"
    )]
    own_series: u32,
    /// Write a line about each call to standard error.
    #[arg(long, env = "PILOTLIGHT_ACCESS_LOG")]
    pub(crate) access_log: bool,
    /// Whether callers have to prove who they are: `required`, `optional` (callers that show nothing may do everything) or
    /// `off`. Kubernetes' roles say what a caller may do.
    #[arg(
        long,
        env = "PILOTLIGHT_AUTH",
        default_value = "required",
        value_name = "MODE"
    )]
    auth: access::Mode,
    /// The audience that callers' tokens of Kubernetes have to have.
    #[arg(
        long,
        env = "PILOTLIGHT_AUDIENCE",
        default_value = AUDIENCE,
        value_name = "NAME"
    )]
    audience: String,
    /// The Secret, in the namespace of --service-namespace, into which the controller writes the keys of temporary
    /// credentials.
    #[arg(
        long,
        env = "PILOTLIGHT_SESSION_KEYS_SECRET",
        default_value = "pilotlight-sessions",
        value_name = "NAME"
    )]
    session_keys_secret: String,
    /// The namespace with the Secrets of access keys [default: there are none].
    #[arg(
        long,
        env = "PILOTLIGHT_ACCESS_KEYS_NAMESPACE",
        value_name = "NAMESPACE"
    )]
    access_keys_namespace: Option<String>,
    /// Write a line of the audit for each call, and not only for refused ones.
    #[arg(long, env = "PILOTLIGHT_AUDIT_ALL")]
    pub(crate) audit_all: bool,
    /// Answer GetFunctionConfiguration, GetFunction and ListFunctions with the values of `environment` where callers
    /// are not known. Everybody who can call functions reads them then.
    #[arg(long, env = "PILOTLIGHT_SHOW_ENVIRONMENT")]
    show_environment: bool,
    /// The most instances of a function without a reserved concurrency.
    #[arg(
        long,
        env = "PILOTLIGHT_CONCURRENCY",
        default_value_t = 1000,
        value_parser = clap::value_parser!(u16).range(1..),
        value_name = "INSTANCES"
    )]
    concurrency: u16,
    #[command(flatten)]
    event_queue: EventQueueOptions,
    #[command(flatten)]
    log_store: LogStore,
    #[command(flatten)]
    log_export: LogExport,
    #[command(flatten)]
    memory: Memory,
    #[command(flatten)]
    traces: TraceOptions,
}

pub(crate) fn run(args: Args) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.context("no runtime for the gateway")?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        cancel_at_the_end(&stop)?;
        let listeners = Listeners {
            api: bind("--api", &args.api).await?,
            parts: bind("--parts", &args.parts).await?,
            status: bind("--status", &args.status).await?,
        };
        let address = args.address.map(|address| address.to_string());
        let traces = args.traces.start(Some(address.unwrap_or_default()))?;
        let exporter = traces.as_ref().map(|traces| traces.exporter.clone());
        let mut config = Config {
            traces,
            namespace: args.namespace.clone(),
            region: args.region,
            account: args.account,
            concurrency: args.concurrency.into(),
            shows_environment: args.show_environment,
            access: AccessConfig {
                mode: args.auth,
                audience: args.audience,
                ..AccessConfig::default()
            },
            limits: args.memory.limits(),
            own_series: args.own_series as usize,
            ..Config::default()
        };
        args.event_queue.open_into(&mut config)?;
        let log_exports = args.log_export.start(&mut config, true)?;
        let port = listeners.parts.local_addr()?.port();
        anyhow::ensure!(
            args.identity_of_parts.parts_identity == Mode::Off || args.certificate_secret.is_some(),
            "--certificate-secret: --parts-identity needs the name of the Secret with this gateway's certificate"
        );
        anyhow::ensure!(
            args.tls == tls::Mode::Off || args.tls_secret.is_some(),
            "--tls-secret: --tls needs the name of the Secret with the certificate for callers"
        );
        let release = args
            .service_namespace
            .unwrap_or_else(|| args.namespace.to_string());
        let among = args.service.zip(args.address);
        let among = among.map(|(service, ip)| Among {
            namespace: release.clone(),
            service,
            address: SocketAddr::new(ip, port),
        });
        let secret = |name| SecretPlace {
            namespace: release.clone(),
            name,
        };
        let cache = args
            .cache
            .unwrap_or_else(|| std::env::temp_dir().join("pilotlight"));
        let runtimes = Runtimes::with(args.runtimes.as_deref()).context("--runtimes")?;
        let rule = AddressRule {
            allow: args.fetch_allow,
            deny: args.fetch_deny,
        };
        let place = ClusterConfig {
            namespace: args.namespace,
            cache,
            cache_limits: CacheLimits::of(args.cache_size, args.fetches),
            fetcher: Fetcher::Within {
                rule: rule.clone(),
                proxy: args.fetch_proxy,
            },
            archive_secrets: args.fetch_secrets.into_iter().collect(),
            destination_secrets: args.destination_secrets.into_iter().collect(),
            destination_addresses: rule,
            log_store: args.log_store.config(&release),
            runtimes,
            identity: args.identity_of_parts.parts_identity,
            keys: KeySecrets {
                sessions: (release.clone(), args.session_keys_secret),
                access_keys: args.access_keys_namespace,
            },
            certificate: args.certificate_secret.map(&secret),
            tls: args.tls,
            // Without TLS nobody reads the Secret.
            tls_secret: args
                .tls_secret
                .filter(|_| args.tls != tls::Mode::Off)
                .map(&secret),
            runtime_class: args.function_runtime_class,
            among,
        };
        let served = cluster::serve(place, config, listeners, stop).await;
        tokio::join!(traces::end(exporter), log_export::end(log_exports));
        served?;
        Ok(Exit::Success)
    })
}

fn volume(text: &str) -> Result<u64, String> {
    match memory::bytes(text)? {
        volume if volume >= VOLUME_MIN => Ok(volume),
        _ => Err(format!(
            "must be at least {}Mi, so that there is room to fetch code beside code in use",
            VOLUME_MIN / 1024 / 1024
        )),
    }
}

async fn bind(option: &str, address: &str) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("{option} {address}: cannot listen there"))
}

/// Cancels at SIGTERM, as a pod is told to end, and at Ctrl-C.
pub(crate) fn cancel_at_the_end(stop: &CancellationToken) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}
