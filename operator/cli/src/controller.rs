//! `pilotlight controller`: the controller of a cluster, in a pod of its own.
//!
//! Owns the arguments and the shutdown; `pilotlight_controller` does the rest.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use pilotlight_controller::{IdentitySecrets, Options, PublicTls};
use pilotlight_core::function::{PoolSize, Runtime};
use pilotlight_core::identity::{AUTHORITY_LIFETIME, CERTIFICATE_LIFETIME, Lifetimes};
use pilotlight_core::tls;
use pilotlight_gateway::AUDIENCE;
use pilotlight_runtimes::Runtimes;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::function_pods::FunctionPods;
use crate::gateway::cancel_at_the_end;
use crate::parts_identity::PartsIdentity;
use crate::traces::{self, Collector};

/// Make and delete the pods of a namespace's Functions.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The namespace of the Functions.
    #[arg(long, env = "PILOTLIGHT_NAMESPACE")]
    namespace: String,
    /// The identity of this controller in the Lease, as NAMESPACE/POD/UID. The other controllers look up whether the
    /// pod still exists.
    #[arg(long, env = "PILOTLIGHT_IDENTITY", value_name = "NAMESPACE/POD/UID")]
    identity: String,
    /// The address that serves probes and metrics.
    #[arg(
        long,
        env = "PILOTLIGHT_HEALTH_LISTEN",
        default_value = "0.0.0.0:8081",
        value_name = "HOST:PORT"
    )]
    health_listen: String,
    /// The Service with the gateways' port `parts`, by which the controller finds each of them.
    #[arg(long, env = "PILOTLIGHT_PARTS_SERVICE", value_name = "NAME")]
    parts_service: String,
    /// The Service of the gateways, where instances call other functions.
    #[arg(long, env = "PILOTLIGHT_GATEWAY_SERVICE", value_name = "NAME")]
    gateway_service: String,
    /// The namespace of both Services [default: --namespace].
    #[arg(long, env = "PILOTLIGHT_GATEWAY_NAMESPACE", value_name = "NAMESPACE")]
    gateway_namespace: Option<String>,
    /// The port of the Service --gateway-service.
    #[arg(
        long,
        env = "PILOTLIGHT_GATEWAY_PORT",
        default_value_t = 80,
        value_name = "PORT"
    )]
    gateway_port: u16,
    /// Whether gateways speak TLS with their callers at that port, as the gateways have it: off, optional or required.
    #[arg(
        long,
        env = "PILOTLIGHT_TLS",
        default_value = "off",
        value_name = "off|optional|required"
    )]
    tls: tls::Mode,
    /// The Secret, in the namespace of --gateway-namespace, with the certificate that callers get. No Function may use it.
    #[arg(long, env = "PILOTLIGHT_TLS_SECRET", value_name = "NAME")]
    tls_secret: Option<String>,
    /// The names and addresses for which the controller signs this certificate. Repeat the option for each. Without it
    /// somebody else writes the Secret.
    #[arg(
        long = "tls-name",
        env = "PILOTLIGHT_TLS_NAMES",
        value_delimiter = ',',
        value_name = "NAME",
        requires = "tls_secret"
    )]
    tls_names: Vec<String>,
    /// The ConfigMap, in the same namespace, into which the controller writes the authorities by which callers verify that
    /// certificate.
    #[arg(
        long,
        env = "PILOTLIGHT_AUTHORITIES_CONFIG_MAP",
        value_name = "NAME",
        requires = "tls_names"
    )]
    authorities_config_map: Option<String>,
    /// The audience of the tokens by which callers prove who they are, as the gateways have it.
    #[arg(
        long,
        env = "PILOTLIGHT_AUDIENCE",
        default_value = AUDIENCE,
        value_name = "NAME"
    )]
    audience: String,
    /// The image of a runtime. Repeat the option for each runtime.
    #[arg(
        long = "image",
        env = "PILOTLIGHT_IMAGES",
        value_delimiter = ',',
        value_parser = image,
        value_name = "RUNTIME=IMAGE"
    )]
    images: Vec<(String, String)>,
    /// The Secrets that gateways may read for archives, as the gateways have them. Repeat the option for each.
    #[arg(
        long = "fetch-secret",
        env = "PILOTLIGHT_FETCH_SECRETS",
        value_name = "NAME",
        value_delimiter = ','
    )]
    fetch_secrets: Vec<String>,
    /// A folder of further runtimes; see runtimes/README.md.
    #[arg(long, env = "PILOTLIGHT_RUNTIMES", value_name = "DIR")]
    runtimes: Option<PathBuf>,
    #[command(flatten)]
    identity_of_parts: PartsIdentity,
    /// The Secret, in the namespace of --gateway-namespace, with the authorities that sign certificates.
    #[arg(
        long,
        env = "PILOTLIGHT_AUTHORITY_SECRET",
        default_value = "pilotlight-authority",
        value_name = "NAME"
    )]
    authority_secret: String,
    /// The Secret, in the same namespace, for the gateways' certificate.
    #[arg(
        long,
        env = "PILOTLIGHT_CERTIFICATE_SECRET",
        default_value = "pilotlight-identity",
        value_name = "NAME"
    )]
    certificate_secret: String,
    /// The Secret, in the same namespace, for the keys of callers' temporary credentials [default: there is none, and no
    /// gateway issues any].
    #[arg(long, env = "PILOTLIGHT_SESSION_KEYS_SECRET", value_name = "NAME")]
    session_keys_secret: Option<String>,
    /// The Secret, in the same namespace, for the password of the store of logs that the chart installs [default: it
    /// installs none].
    #[arg(long, env = "PILOTLIGHT_LOG_STORE_SECRET", value_name = "NAME")]
    log_store_secret: Option<String>,
    /// The Secret, in the same namespace, for the password of the event queue that the chart installs [default: it installs
    /// none].
    #[arg(long, env = "PILOTLIGHT_EVENT_QUEUE_SECRET", value_name = "NAME")]
    event_queue_secret: Option<String>,
    /// How long a certificate is valid. It is renewed after half of that time.
    #[arg(
        long,
        env = "PILOTLIGHT_CERTIFICATE_LIFETIME",
        default_value_t = CERTIFICATE_LIFETIME,
        value_parser = clap::value_parser!(u64).range(10..=AUTHORITY_LIFETIME),
        value_name = "SECONDS"
    )]
    certificate_lifetime: u64,
    /// The instances that wait in the warm pool of each runtime with an image; 0: there is no such pool. A WarmPool that
    /// serves the same functions takes its place.
    #[arg(
        long,
        env = "PILOTLIGHT_DEFAULT_POOL_SIZE",
        default_value = "0",
        value_name = "INSTANCES"
    )]
    default_pool_size: PoolSize,
    /// AWS_REGION of the instances.
    #[arg(long, env = "PILOTLIGHT_REGION", default_value = "us-east-1")]
    region: String,
    #[command(flatten)]
    pods: FunctionPods,
    #[command(flatten)]
    collector: Collector,
}

fn image(text: &str) -> Result<(String, String), String> {
    let (runtime, image) = text
        .split_once('=')
        .ok_or("must be RUNTIME=IMAGE, such as python3.11=REGISTRY/python3.11:1")?;
    // The runtime may be given by any of its names.
    let runtime = runtime.parse::<Runtime>();
    let runtime = runtime.map_err(|error| error.to_string())?.canonical();
    Ok((runtime.into(), image.to_owned()))
}

pub(crate) fn run(args: Args) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.context("no runtime for the controller")?;
    let exporter = args
        .collector
        .exporter("pilotlight-controller", args.identity.clone())?;
    let options = Options {
        exporter: exporter.clone(),
        gateway_namespace: args
            .gateway_namespace
            .unwrap_or_else(|| args.namespace.clone()),
        namespace: args.namespace,
        identity: args.identity,
        parts_service: args.parts_service,
        gateway_service: args.gateway_service,
        gateway_port: args.gateway_port,
        tls: PublicTls {
            mode: args.tls,
            secret: args.tls_secret,
            names: args.tls_names,
            authorities: args.authorities_config_map,
        },
        caller_audience: args.audience,
        region: args.region,
        images: BTreeMap::from_iter(args.images),
        archive_secrets: args.fetch_secrets.into_iter().collect(),
        runtimes: Runtimes::with(args.runtimes.as_deref()).context("--runtimes")?,
        parts_identity: args.identity_of_parts.parts_identity,
        identity_secrets: IdentitySecrets {
            authorities: args.authority_secret,
            gateway: args.certificate_secret,
            session_keys: args.session_keys_secret,
            log_store: args.log_store_secret,
            event_queue: args.event_queue_secret,
        },
        certificate_lifetimes: Lifetimes {
            certificate: args.certificate_lifetime,
            ..Lifetimes::DEFAULT
        },
        instance_identity: None,
        pods: args.pods.into(),
        default_pool_size: args.default_pool_size,
    };
    runtime.block_on(async {
        let stop = CancellationToken::new();
        cancel_at_the_end(&stop)?;
        let health = TcpListener::bind(&args.health_listen)
            .await
            .with_context(|| {
                let listen = &args.health_listen;
                format!("--health-listen {listen}: cannot listen there")
            })?;
        let ended = pilotlight_controller::run(options, health, stop).await;
        traces::end(exporter).await;
        ended?;
        Ok(Exit::Success)
    })
}
