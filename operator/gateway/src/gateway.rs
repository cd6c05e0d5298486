//! A running gateway: its start, what may change while it runs, and its end.
//!
//! Starts the driver and gives the request handlers what they share (`app`). The command line holds a
//! [`Gateway`] in local mode, `cluster` holds one in a cluster; both serve its routes. It handles no request.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use pilotlight_core::ids::PoolId;
use pilotlight_core::tls;
use pilotlight_net::listen::Admission;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::app::App;
use crate::backend::Backend;
use crate::catalog::Deployment;
use crate::config::{Config, EventsConfig};
use crate::driver::Driver;
use crate::events::{Events, Runner};
use crate::http::routes;
use crate::http::server::{Served, serve};
use crate::intake::{Intake, Listener};
use crate::invoker::Invoker;
use crate::logs::{Hub, LogExports, retention};
use crate::message::{INBOX_LIMIT, Message, OwnershipChange};
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::registry::{Deployed, Registry, Unreadables};
#[cfg(any(feature = "cluster", test))]
use crate::schedules::ScheduleReports;
use crate::schedules::{ScheduleDeployment, Schedules};

/// How long running invocations may take to finish when the gateway ends.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Why a gateway ends whose driver has panicked. The log has the driver's own message.
pub(crate) const DRIVER_FAILED: &str = "the driver of the functions failed";

/// A running gateway. Cheap to clone; all clones are one gateway.
#[derive(Clone, Debug)]
pub struct Gateway {
    app: Arc<App>,
    driver: mpsc::Sender<Message>,
    /// Cancelled when the driver has panicked.
    driver_failed: CancellationToken,
    unreadables: watch::Sender<Unreadables>,
    hosts: Option<Arc<[String]>>,
}

impl Gateway {
    /// Starts a gateway without functions and without a port. It must be called in a tokio runtime.
    pub fn start(config: Config, backend: Arc<dyn Backend>, logs: Option<Hub>) -> Gateway {
        Self::start_among(None, config, backend, logs)
    }

    /// Like [`Gateway::start`], as one of several gateways.
    pub(crate) fn start_among(
        peers: Option<Arc<dyn Peers>>,
        config: Config,
        backend: Arc<dyn Backend>,
        logs: Option<Hub>,
    ) -> Gateway {
        let exports = config
            .traces
            .as_ref()
            .map(|traces| traces.exporter.counts());
        let log_exports = config.log_exports.clone();
        let exports = (exports, log_exports.as_ref().map(LogExports::counts));
        let metrics = Metrics::new(config.own_series, logs.as_ref().map(Hub::metrics), exports);
        if let Some(logs) = &logs {
            logs.count_into(&metrics);
            if let Some(exports) = log_exports {
                logs.export_to(exports);
            }
        }
        let intake = Intake::new(config.limits, metrics.intake.clone());
        let (driver, inbox) = mpsc::channel(INBOX_LIMIT);
        let (publish, catalog) = watch::channel(Arc::default());
        let unreadables = watch::Sender::new(Unreadables::new());
        let functions: Arc<dyn Registry> = Arc::new(Deployed {
            catalog,
            unreadable: unreadables.subscribe(),
        });
        let address = peers.as_ref().map(|peers| peers.own_address());
        let address: Arc<str> = address.map_or_else(|| Arc::from("local"), Arc::from);
        let invoker = Arc::new(Invoker::new(
            functions.clone(),
            driver.clone(),
            peers.clone(),
            (metrics.clone(), intake.clone()),
            address.clone(),
        ));
        let runner = |clock| Runner {
            functions: functions.clone(),
            invoker: invoker.clone(),
            intake: intake.clone(),
            peers: peers.clone(),
            destinations: config.destinations.clone(),
            backend: backend.clone(),
            traces: config.traces.clone(),
            concurrency: config.concurrency,
            clock,
        };
        let events = config.events.clone();
        let events =
            events.map(|EventsConfig { queue, clock }| Events::start(queue, runner(clock)));
        let remembered = events.clone().zip(config.schedules.clone());
        let schedules = match remembered {
            Some((events, records)) => Schedules::start(events, records, config.scope()),
            None => Schedules::without_queue(),
        };
        if let Some(logs) = &logs {
            // Ends when the driver does.
            tokio::spawn(retention::run(logs.store().clone(), functions.watch()));
        }
        let hosts = config.hosts.clone();
        let app = App {
            address,
            concurrency: config.concurrency,
            scope: config.scope(),
            audience: config.audience,
            shows_environment: config.shows_environment,
            access: Access::new(config.access.clone(), metrics.access.clone()),
            functions,
            invoker,
            events,
            schedules,
            logs: logs.clone(),
            peers,
            metrics: metrics.clone(),
            intake: intake.clone(),
            door: config.door.clone(),
            traces: config.traces.clone(),
        };
        let inbox = (driver.clone(), inbox);
        let running = Driver::new(config, backend, (metrics, intake, logs), inbox, publish).run();
        let driver_failed = CancellationToken::new();
        // Joined by `shutdown`, which waits until the driver confirms its end.
        tokio::spawn(watch_over(tokio::spawn(running), driver_failed.clone()));
        let app = Arc::new(app);
        Gateway {
            app,
            driver,
            driver_failed,
            unreadables,
            hosts,
        }
    }

    /// Makes `all` the full set of functions: new ones are added, those with another revision
    /// get new instances, those that are missing are deleted.
    pub async fn deploy(&self, all: Vec<Deployment>) {
        self.request(|done| Message::Deploy { all, done }).await;
    }

    /// Deletes the functions in `removed` first, then adds or updates those in `set`.
    pub(crate) async fn change(&self, set: Vec<Deployment>, removed: Vec<PoolId>) {
        self.request(|done| Message::Change { set, removed, done })
            .await;
    }

    /// Takes functions over, each with its existing instances, and hands others to their new owners.
    pub(crate) async fn change_ownership(&self, change: OwnershipChange) {
        self.request(|done| Message::ChangeOwnership { change, done })
            .await;
    }

    /// Replaces the functions that exist and that this version cannot read.
    pub(crate) fn set_unreadable(&self, functions: Unreadables) {
        self.app.metrics.unreadable(functions.len());
        self.unreadables.send_replace(functions);
    }

    /// Makes these all of the schedules: events are sent at the times of those whose functions this gateway owns.
    pub fn set_schedules(&self, all: Vec<ScheduleDeployment>) {
        self.app.schedules.set(all);
    }

    /// What this gateway reports of those schedules.
    #[cfg(any(feature = "cluster", test))]
    pub(crate) fn schedule_reports(&self) -> watch::Receiver<Arc<ScheduleReports>> {
        self.app.schedules.reports()
    }

    /// Sends a message to the driver, and returns when the driver has carried it out.
    async fn request(&self, message: impl FnOnce(oneshot::Sender<()>) -> Message) {
        let (done, is_done) = oneshot::channel();
        if self.driver.send(message(done)).await.is_ok() {
            // An error means that the gateway has shut down; then nothing is left to do.
            let _ = is_done.await;
        }
    }

    /// Serves the public API until `stop`, then lets the current calls finish.
    ///
    /// # Errors
    /// If the listener breaks, or the driver panics: no invocation can start any more.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        tokio::select! {
            served = serve(self.served(self.api(), Listener::api), listener, stop) => served,
            () = self.driver_failed() => Err(io::Error::other(DRIVER_FAILED)),
        }
    }

    /// Returns when the driver has panicked. The gateway must end then, since nothing owns its instances.
    pub(crate) async fn driver_failed(&self) {
        self.driver_failed.cancelled().await;
    }

    /// Serves probes and metrics until `stop`.
    ///
    /// # Errors
    /// If the listener breaks.
    pub async fn serve_status(
        &self,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let status = self.served(self.status(), Listener::status);
        serve(status, listener, stop).await
    }

    /// Routes, as one of this gateway's listeners serves them.
    pub(crate) fn served(&self, routes: Router, listener: Listener) -> Served {
        let intake = self.app.intake.clone();
        Served {
            routes,
            listener,
            intake,
            admission: match listener {
                Listener::api if self.app.door.mode() != tls::Mode::Off => {
                    Admission::Callers(self.app.door.clone())
                }
                _ => Admission::Everybody,
            },
            hosts: self.hosts.clone(),
        }
    }

    #[cfg(any(feature = "cluster", test))]
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.app.metrics
    }

    pub(crate) fn api(&self) -> Router {
        routes::api(self.app.clone())
    }

    /// What other gateways and the controller ask this gateway.
    pub(crate) fn parts(&self) -> Router {
        routes::parts(self.app.clone())
    }

    pub(crate) fn status(&self) -> Router {
        routes::status(self.app.clone())
    }

    /// Drains and ends all instances; returns when none is left.
    pub async fn shutdown(&self) {
        let grace = DRAIN_LIMIT;
        if let Some(events) = &self.app.events {
            events.stop();
        }
        self.request(|done| Message::Shutdown { grace, done }).await;
        if let Some(events) = &self.app.events {
            // Each has its outcome by now. What is not written is tried again by the next process.
            events.settled().await;
        }
    }
}

/// Says when the driver has panicked. A driver that was told to end, or that ends with the runtime, has not.
async fn watch_over(driver: JoinHandle<()>, failed: CancellationToken) {
    if let Err(error) = driver.await
        && error.is_panic()
    {
        tracing::error!(%error, "{DRIVER_FAILED}");
        failed.cancel();
    }
}
