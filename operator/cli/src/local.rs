//! `pilotlight local`: a gateway and its instances on one machine, without a cluster.
//!
//! ```text
//! manifests ─► prepare ─► gateway ─► instances ─► log ─► print
//!     ▲        places, code, layers, runtime, tools, steps, custom, relocate, cache
//!     └── watch
//! ```
//!
//! Owns the arguments, the start, each reload and the end. Deployments, calls and processes are
//! the gateway's; this module only passes it the functions.

pub(crate) mod advice;
mod cache;
mod callers;
pub(crate) mod code;
mod custom;
mod destination_options;
mod event_files;
pub(crate) mod hash;
mod layers;
mod libraries;
mod log_files;
pub(crate) mod make;
pub(crate) mod manifests;
pub(crate) mod places;
pub(crate) mod prepare;
pub(crate) mod print;
pub(crate) mod reload;
mod relocate;
pub(crate) mod runtime;
pub(crate) mod signals;
mod steps;
mod tool;
mod tools;
pub(crate) mod tree;
mod utf8;
mod watch;

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pilotlight_core::access;
use pilotlight_core::reason::Audience;
use pilotlight_core::tls;
use pilotlight_gateway::process::ProcessBackend;
use pilotlight_gateway::{Config, Gateway};
use pilotlight_net::identity::Identity;
use pilotlight_net::identity::public::{PublicCertificate, PublicDoor};
use pilotlight_wire::config::DoorConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::destination_options::DestinationOptions;
use self::event_files::EventFiles;
use self::log_files::LogFiles;
use self::places::Places;
use self::print::Progress;
use self::reload::Served;
use self::signals::Signals;
use crate::endpoint::DEFAULT_LISTEN;
use crate::exit::Exit;
use crate::log_export::{self, LogExport};
use crate::memory::Memory;
use crate::traces::{self, TraceOptions};

/// How long the end waits for the instances. Those that are left end when they notice that this process is gone.
const END_LIMIT: Duration = Duration::from_secs(10);
/// How long the end waits for open connections once no instance is left.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
const SUPERVISOR: &str = "pilotlight-supervisor";
/// The namespace of all functions when they call others; namespaces in manifests are ignored.
pub(crate) const NAMESPACE: &str = "local";

/// Run functions on this machine, and reload them when they change.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 ended by a signal, 1 a function could not be prepared, \
                        2 a manifest or an argument is wrong."
)]
pub(crate) struct Args {
    /// Manifests, or directories to search for them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Where to listen; port 0 picks a free one.
    #[arg(long, env = "PILOTLIGHT_LISTEN", default_value = DEFAULT_LISTEN, value_name = "HOST:PORT")]
    listen: String,
    /// Where to listen for probes and metrics; port 0 picks a free one [default: nowhere].
    #[arg(long, env = "PILOTLIGHT_STATUS", value_name = "HOST:PORT")]
    status: Option<String>,
    /// A certificate in PEM, with those that verify it after it. With it callers may speak TLS; functions that call each
    /// other, and callers of the same port without TLS, go on with plain text.
    #[arg(
        long,
        env = "PILOTLIGHT_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    tls_cert: Option<PathBuf>,
    /// The private key of that certificate in PEM.
    #[arg(
        long,
        env = "PILOTLIGHT_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    tls_key: Option<PathBuf>,
    /// Write a line about each call to standard error.
    #[arg(long, env = "PILOTLIGHT_ACCESS_LOG")]
    pub(crate) access_log: bool,
    /// Whether callers have to prove who they are: `required`, `optional` or `off`. A key for them is made at the start
    /// and printed.
    #[arg(
        long,
        env = "PILOTLIGHT_AUTH",
        default_value = "off",
        value_name = "MODE"
    )]
    auth: access::Mode,
    /// Leave the values of `environment` out of the answers to GetFunctionConfiguration, GetFunction and
    /// ListFunctions, as a cluster does.
    #[arg(long, env = "PILOTLIGHT_HIDE_ENVIRONMENT")]
    hide_environment: bool,
    /// The most instances of a function without a reserved concurrency.
    #[arg(
        long,
        env = "PILOTLIGHT_CONCURRENCY",
        default_value_t = 10,
        value_parser = clap::value_parser!(u16).range(1..),
        value_name = "INSTANCES"
    )]
    concurrency: u16,
    #[command(flatten)]
    memory: Memory,
    #[command(flatten)]
    traces: TraceOptions,
    /// A host name by which this server may be called, besides addresses and localhost; may be given several times.
    /// Pages of that host may call it as well.
    #[arg(
        long = "allow-host",
        env = "PILOTLIGHT_ALLOW_HOST",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    allow_hosts: Vec<String>,
    /// The supervisor program [default: the one beside this program].
    #[arg(long, env = "PILOTLIGHT_SUPERVISOR", value_name = "FILE")]
    supervisor: Option<PathBuf>,
    #[command(flatten)]
    logs: LogFiles,
    #[command(flatten)]
    log_export: LogExport,
    #[command(flatten)]
    events: EventFiles,
    #[command(flatten)]
    destinations: DestinationOptions,
    #[command(flatten)]
    places: Places,
}

impl Args {
    /// An absolute path, since instances are started in other directories.
    fn supervisor(&self) -> Result<PathBuf> {
        let path = match &self.supervisor {
            Some(path) => path.clone(),
            None => {
                let own = std::env::current_exe().and_then(|own| own.canonicalize());
                own.context("this program's own place is unknown: pass --supervisor")?
                    .with_file_name(SUPERVISOR)
            }
        };
        match path.canonicalize() {
            Ok(path) if fs::metadata(&path).is_ok_and(|file| tree::is_executable(&file)) => {
                Ok(path)
            }
            _ => bail!(
                "{} is not an executable: build it beside `pilotlight` (`cargo build -p \
                 {SUPERVISOR}`), or pass --supervisor",
                path.display()
            ),
        }
    }

    fn door(&self) -> Result<PublicDoor> {
        let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) else {
            return Ok(PublicDoor::off());
        };
        let read = |option: &str, path: &PathBuf| {
            let text = fs::read(path);
            text.with_context(|| format!("{option} {}: cannot be read", path.display()))
        };
        let (certificate, key) = (read("--tls-cert", certificate)?, read("--tls-key", key)?);
        let certificate = PublicCertificate::of_pem(&certificate, &key)
            .context("--tls-cert (tls.crt) and --tls-key (tls.key)")?;
        // Functions call each other without TLS, since no authority of a release signs a certificate here.
        let door = PublicDoor::new(tls::Mode::Optional, Identity::off(), "")?;
        door.renew(certificate);
        Ok(door)
    }

    async fn status_listener(&self) -> Result<Option<TcpListener>> {
        let Some(address) = &self.status else {
            return Ok(None);
        };
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("--status {address}: cannot listen there; 127.0.0.1:0 picks a free port")
        })?;
        Ok(Some(listener))
    }

    async fn listener(&self) -> Result<TcpListener> {
        let listener = TcpListener::bind(&self.listen).await.with_context(|| {
            format!(
                "--listen {}: cannot listen there; 127.0.0.1:0 picks a free port",
                self.listen
            )
        })?;
        if !listener.local_addr()?.ip().is_loopback() {
            print::note("warning: anybody who reaches this address can run the functions");
        }
        Ok(listener)
    }
}

pub(crate) fn run(args: Args) -> Result<Exit> {
    // One thread: for the little work of local mode, sharing it between threads costs more.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.context("no runtime for the gateway")?;
    let exit = runtime.block_on(local(args));
    // An abandoned download must not delay the end.
    runtime.shutdown_background();
    exit
}

async fn local(args: Args) -> Result<Exit> {
    let mut signals = Signals::listen()?;
    let runtimes = args.places.runtimes()?;
    let found = manifests::find(&args.paths, &runtimes);
    if !found.errors.is_empty() {
        found.errors.iter().for_each(|error| print::note(error));
        return Ok(Exit::Refused);
    }
    let supervisor = args.supervisor()?;
    let door = args.door()?;
    let listeners = (args.listener().await?, args.status_listener().await?);
    let mut preparer = args.places.preparer(runtimes)?;

    let progress = Progress::new();
    let outcome = tokio::select! {
        outcome = preparer.prepare(found.manifests, &progress) => outcome,
        () = signals.next() => {
            progress.done();
            return Ok(Exit::Interrupted);
        }
    };
    if !outcome.failures.is_empty() {
        outcome
            .failures
            .iter()
            .for_each(|failure| print::error(&reload::worded(failure)));
        return Ok(Exit::Failure);
    }
    let served = Served::new(args.paths, preparer, outcome.deployments, found.schedules);
    let traces = args.traces.start(None)?;
    let exporter = traces.as_ref().map(|traces| traces.exporter.clone());
    let mut config = Config {
        traces,
        concurrency: args.concurrency.into(),
        audience: Audience::Developer,
        shows_environment: !args.hide_environment,
        access: callers::config(args.auth, NAMESPACE),
        limits: args.memory.limits(),
        hosts: Some(args.allow_hosts.into()),
        door,
        ..Config::default()
    };
    config.destinations = args.destinations.open(&config.region);
    args.events.open_into(&mut config, args.logs.folder());
    let log_exports = args.log_export.start(&mut config, false)?;
    let served = serve(config, supervisor, &args.logs, listeners, served, signals).await;
    tokio::join!(traces::end(exporter), log_export::end(log_exports));
    served
}

/// The address at which functions call other functions. An unspecified address becomes the loopback address.
fn gateways(mut address: SocketAddr) -> DoorConfig {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    DoorConfig {
        address: address.to_string(),
        namespace: NAMESPACE.to_owned(),
        tls: None,
        token: None,
    }
}

async fn serve(
    config: Config,
    supervisor: PathBuf,
    log_files: &LogFiles,
    (listener, status): (TcpListener, Option<TcpListener>),
    mut served: Served,
    mut signals: Signals,
) -> Result<Exit> {
    // A short path, since the path of a socket is limited. It is removed when this function returns.
    let scratch = tempfile::Builder::new().prefix("pilotlight-").tempdir();
    let scratch = scratch.context("no temporary directory for the instances")?;
    let logs = log_files.open();
    let (stop, quiet) = (CancellationToken::new(), CancellationToken::new());
    let printer = tokio::spawn(print::logs(logs.follow_all(), quiet.clone()));
    let address = listener.local_addr()?;
    let status_address = status.as_ref().map(TcpListener::local_addr).transpose()?;
    let backend = ProcessBackend::new(
        supervisor,
        scratch.path().to_owned(),
        logs.clone(),
        &config,
        gateways(address),
    );
    let gateway = Gateway::start(config, Arc::new(backend), Some(logs.clone()));
    gateway.deploy(served.deployments()).await;
    gateway.set_schedules(served.schedules());
    let mut serving = tokio::spawn({
        let (gateway, stop) = (gateway.clone(), stop.clone());
        async move {
            let calls = gateway.serve(listener, stop.clone());
            match status {
                Some(status) => {
                    let ended = tokio::try_join!(calls, gateway.serve_status(status, stop));
                    ended.map(|_| ())
                }
                None => calls.await,
            }
        }
    });
    // The functions are served even if the message cannot be printed.
    let _ = print::ready(address, status_address, &served.deployments());
    let schedules = served.schedules();
    if !schedules.is_empty() {
        print::note(&format!("schedules: {}", print::schedules(&schedules)));
    }

    let failure = tokio::select! {
        () = signals.next() => None,
        never = served.keep_up(&gateway) => match never {},
        ended = &mut serving => Some(ended.context("the server broke").and_then(|ended| Ok(ended?))),
    };
    stop.cancel();
    let end = async {
        gateway.shutdown().await;
        logs.flush(log_files::FLUSH_LIMIT).await;
        if failure.is_none()
            && tokio::time::timeout(CLOSE_LIMIT, &mut serving)
                .await
                .is_err()
        {
            serving.abort();
        }
    };
    let ended = tokio::select! {
        ended = tokio::time::timeout(END_LIMIT, end) => ended,
        // The supervisors end their process groups once this process is gone.
        () = signals.next() => return Ok(Exit::Interrupted),
    };
    if ended.is_err() {
        print::note("warning: some instances are still ending; they end by themselves");
    }
    quiet.cancel();
    printer.await.context("the log's printer broke")?;
    match failure {
        Some(Err(error)) => Err(error.context(format!("--listen {address}"))),
        _ => Ok(Exit::Success),
    }
}
