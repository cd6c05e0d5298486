//! `pilotlight gateway`: the gateway of a cluster, in a pod of its own.
//!
//! Owns the arguments and the end. Functions, instances and calls are the gateway's
//! (`pilotlight_gateway::cluster`).

use std::time::Duration;

use anyhow::{Context, Result};
use pilotlight_gateway::{Config, cluster};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::Exit;

/// Until every node has heard that the Service is without this gateway.
const LINGER: Duration = Duration::from_secs(5);

/// Serve the Functions of a namespace; instances are pods.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the Functions are.
    #[arg(long, env = "PILOTLIGHT_NAMESPACE")]
    namespace: String,
    /// Where to listen.
    #[arg(
        long,
        env = "PILOTLIGHT_LISTEN",
        default_value = "0.0.0.0:8080",
        value_name = "HOST:PORT"
    )]
    listen: String,
    /// Region of the functions' ARNs, and AWS_REGION of their instances.
    #[arg(long, env = "PILOTLIGHT_REGION", default_value = "us-east-1")]
    region: String,
    /// Account number of the functions' ARNs.
    #[arg(long, env = "PILOTLIGHT_ACCOUNT", default_value = "000000000000")]
    account: String,
    /// Instances of each function that reserves none, at most.
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
        let listener = TcpListener::bind(&args.listen)
            .await
            .with_context(|| format!("--listen {}: cannot listen there", args.listen))?;
        let config = Config {
            region: args.region,
            account: args.account,
            concurrency: args.concurrency.into(),
            linger: LINGER,
            ..Config::default()
        };
        cluster::serve(&args.namespace, config, listener, stop).await?;
        Ok(Exit::Success)
    })
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
