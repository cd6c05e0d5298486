//! `pilotlight gateway`: the gateway of a cluster, in a pod of its own.
//!
//! Owns the arguments and the end. Functions, instances and calls are the gateway's
//! (`pilotlight_gateway::cluster`).

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result};
use pilotlight_core::ids::Namespace;
use pilotlight_gateway::Config;
use pilotlight_gateway::cluster::{self, Among, ClusterConfig, Listeners};
use pilotlight_runtimes::Runtimes;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;

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
    /// A directory for code from archives [default: below the system's temporary directory].
    #[arg(long, env = "PILOTLIGHT_CACHE", value_name = "DIRECTORY")]
    cache: Option<PathBuf>,
    /// A folder of further runtimes, as the controller has it; see runtimes/README.md.
    #[arg(long, env = "PILOTLIGHT_RUNTIMES", value_name = "DIR")]
    runtimes: Option<PathBuf>,
    /// Region of the functions' ARNs, and AWS_REGION of their instances.
    #[arg(long, env = "PILOTLIGHT_REGION", default_value = "us-east-1")]
    region: String,
    /// Account number of the functions' ARNs.
    #[arg(long, env = "PILOTLIGHT_ACCOUNT", default_value = "000000000000")]
    account: String,
    /// Write a line about each call to standard error.
    #[arg(long, env = "PILOTLIGHT_ACCESS_LOG")]
    pub(crate) access_log: bool,
    /// The most instances of a function without a reserved concurrency.
    #[arg(
        long,
        env = "PILOTLIGHT_CONCURRENCY",
        default_value_t = 1000,
        value_parser = clap::value_parser!(u16).range(1..),
        value_name = "INSTANCES"
    )]
    concurrency: u16,
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
        let config = Config {
            namespace: args.namespace.clone(),
            region: args.region,
            account: args.account,
            concurrency: args.concurrency.into(),
            ..Config::default()
        };
        let port = listeners.parts.local_addr()?.port();
        let among = args.service.zip(args.address);
        let among = among.map(|(service, ip)| Among {
            namespace: args
                .service_namespace
                .unwrap_or_else(|| args.namespace.to_string()),
            service,
            address: SocketAddr::new(ip, port),
        });
        let cache = args
            .cache
            .unwrap_or_else(|| std::env::temp_dir().join("pilotlight"));
        let runtimes = Runtimes::with(args.runtimes.as_deref()).context("--runtimes")?;
        let place = ClusterConfig {
            namespace: args.namespace,
            cache,
            runtimes,
            among,
        };
        cluster::serve(place, config, listeners, stop).await?;
        Ok(Exit::Success)
    })
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
