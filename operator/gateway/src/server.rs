//! The gateway as a whole: its configuration, its routes, its start and its end.
//!
//! Ties the driver to the APIs. HTTP/1.1 and cleartext HTTP/2 on one port.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::Listener;
use http::{StatusCode, Uri, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use pilotlight_core::function::FunctionName;
use pilotlight_core::invoke::pool::{Bounds, Pacing};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backend::Backend;
use crate::catalog::{Catalog, Deployment, Entry};
use crate::connect::notice_loss;
use crate::driver::{Driver, INBOX, Message, OwnershipChange};
use crate::error_response::ApiError;
use crate::function_ref::{FunctionRef, Scope};
use crate::log_store::LogStore;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::{invoke_api, logs_api, management_api};

/// How long invocations may take to finish when the gateway ends.
const DRAIN: Duration = Duration::from_secs(5);
/// From the end until new and idle connections are closed: what the kernel has for them by then is taken
/// first.
const LAST_LOOK: Duration = Duration::from_millis(50);
/// The kernel asks a caller that says nothing for so long whether its machine is there, then at shorter
/// intervals: what a lost one has open and in queues goes with it.
const ASKED: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10));
/// A caller that takes nothing of its answer for so long is lost; the gateway's end waits for it.
const SILENCE: Duration = Duration::from_secs(30);

/// What one gateway is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Of ARNs and of `AWS_REGION`.
    pub region: String,
    /// The account number of ARNs.
    pub account: String,
    /// Instances of a function that reserves none, at most.
    pub concurrency: usize,
    /// Payloads that may wait for one function, in bytes.
    pub queue_bytes: usize,
    /// How long an invocation may wait for an instance.
    pub queue_wait: Duration,
    pub pacing: Pacing,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            region: "us-east-1".to_owned(),
            account: "000000000000".to_owned(),
            concurrency: 1000,
            queue_bytes: 256 * 1024 * 1024,
            queue_wait: Duration::from_secs(30),
            pacing: Pacing::default(),
        }
    }
}

impl Config {
    pub(crate) fn scope(&self) -> Scope {
        Scope {
            region: self.region.clone(),
            account: self.account.clone(),
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            queue_bytes: self.queue_bytes,
            queue_wait: self.queue_wait,
            pacing: self.pacing,
        }
    }
}

/// What the request handlers share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) scope: Scope,
    pub(crate) catalog: watch::Receiver<Arc<Catalog>>,
    pub(crate) driver: mpsc::Sender<Message>,
    /// None where logs are kept elsewhere.
    pub(crate) logs: Option<LogStore>,
    pub(crate) next_invocation: AtomicU64,
    /// None where this is the only gateway.
    pub(crate) peers: Option<Arc<dyn Peers>>,
    pub(crate) metrics: Metrics,
}

impl App {
    pub(crate) fn find(&self, function: &FunctionRef) -> Option<Entry> {
        let name = function.known_name()?;
        self.catalog.borrow().get(&name).cloned()
    }
}

/// A running gateway. Cheap to clone; all clones are one gateway.
#[derive(Clone, Debug)]
pub struct Gateway {
    app: Arc<App>,
}

impl Gateway {
    /// Starts it without functions and without a port; needs a tokio runtime.
    pub fn start(config: Config, backend: Arc<dyn Backend>, logs: Option<LogStore>) -> Gateway {
        Self::start_among(None, config, backend, logs)
    }

    /// The same, as one of several.
    pub(crate) fn start_among(
        peers: Option<Arc<dyn Peers>>,
        config: Config,
        backend: Arc<dyn Backend>,
        logs: Option<LogStore>,
    ) -> Gateway {
        let metrics = Metrics::new();
        let (driver, inbox) = mpsc::channel(INBOX);
        let (publish, catalog) = watch::channel(Arc::default());
        let app = App {
            scope: config.scope(),
            catalog,
            driver: driver.clone(),
            logs,
            next_invocation: AtomicU64::new(0),
            peers,
            metrics: metrics.clone(),
        };
        let driver = Driver::new(config, backend, metrics, (driver, inbox), publish);
        // Joined by `shutdown`, which waits for the driver's last word.
        tokio::spawn(driver.run());
        Gateway { app: Arc::new(app) }
    }

    /// Makes `all` the full set of functions: new ones are added, those with another revision
    /// get new instances, those that are missing are deleted.
    pub async fn deploy(&self, all: Vec<Deployment>) {
        self.tell(|done| Message::Deploy { all, done }).await;
    }

    /// The same for a few of them; `removed` are no more, and one of `set` by such a name is new.
    pub(crate) async fn change(&self, set: Vec<Deployment>, removed: Vec<FunctionName>) {
        self.tell(|done| Message::Change { set, removed, done })
            .await;
    }

    /// Returns when the driver has done it.
    async fn tell(&self, message: impl FnOnce(oneshot::Sender<()>) -> Message) {
        let (done, is_done) = oneshot::channel();
        if self.app.driver.send(message(done)).await.is_ok() {
            // An error means that the gateway is shut down, and there is nothing to be told.
            let _ = is_done.await;
        }
    }

    /// Serves until `stop`, then lets the calls at hand finish.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        serve(self.routes(), listener, stop).await
    }

    pub(crate) fn routes(&self) -> Router {
        routes(self.app.clone())
    }

    /// Takes functions over, with the instances of each that live already, and hands others on.
    pub(crate) async fn own(&self, change: OwnershipChange) {
        self.tell(|done| Message::Own { change, done }).await;
    }

    /// Drains and ends all instances; returns when none is left.
    pub async fn shutdown(&self) {
        let grace = DRAIN;
        self.tell(|done| Message::Shutdown { grace, done }).await;
    }
}

/// As `axum::serve` does, which at the end closes connections though a call has come on them, or on
/// their way to it.
pub(crate) async fn serve(
    routes: Router,
    mut listener: TcpListener,
    stop: CancellationToken,
) -> io::Result<()> {
    let connections = TaskTracker::new();
    let mut closes = pin!(after_a_last_look(stop.clone()));
    loop {
        let (stream, _) = tokio::select! {
            biased;
            accepted = Listener::accept(&mut listener) => accepted,
            () = closes.as_mut() => break,
        };
        // Both fail only on a connection that is gone. Small answers would wait for the client's
        // acknowledgement.
        let _ = stream.set_nodelay(true);
        let _ = notice_loss(&stream, ASKED, SILENCE);
        connections.spawn(connection(stream, routes.clone(), stop.clone()));
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

async fn after_a_last_look(stop: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(LAST_LOOK).await;
}

/// Serves one connection until the client ends it, or `stop` and the calls that have come by then.
async fn connection(stream: TcpStream, routes: Router, stop: CancellationToken) {
    let builder = auto::Builder::new(TokioExecutor::new());
    let service = TowerToHyperService::new(routes);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        biased;
        served = serving.as_mut() => served,
        () = after_a_last_look(stop) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::trace!(%error, "a connection broke");
    }
}

pub(crate) fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/2015-03-31/functions", get(management_api::list))
        .route("/2015-03-31/functions/", get(management_api::list))
        .route("/2015-03-31/functions/{name}", get(management_api::get))
        .route(
            "/2015-03-31/functions/{name}/configuration",
            get(management_api::get_configuration),
        )
        .route(
            "/2015-03-31/functions/{name}/invocations",
            post(invoke_api::invoke),
        )
        .route("/pilotlight/v1/functions/{name}/logs", get(logs_api::logs))
        .route("/pilotlight/v1/metrics", get(all_metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .with_state(app)
}

async fn unknown(method: http::Method, uri: Uri, body: Body) -> ApiError {
    invoke_api::drain(body).await;
    ApiError::unknown_operation(&method, uri.path())
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.driver.is_closed() {
        false => "ok\n".into_response(),
        true => (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response(),
    }
}

/// Of this gateway and all its peers, as `pilotlight top` reads them.
async fn all_metrics(State(app): State<Arc<App>>) -> Result<String, ApiError> {
    let own = app.metrics.encode();
    let mut texts = own.map_err(|error| ApiError::service(error.to_string()))?;
    if let Some(peers) = &app.peers {
        texts.extend(peers.metrics().await);
    }
    Ok(texts)
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match app.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(error) => ApiError::service(error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const CALL: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: gateway\r\n\r\n";

    async fn answer(stream: &mut TcpStream) -> String {
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).await.unwrap();
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    }

    #[tokio::test]
    async fn what_is_sent_as_the_end_comes_is_answered_and_what_is_idle_is_closed() {
        let routes = Router::new().route("/healthz", get(|| async { "ok" }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(routes, listener, stop.clone()));

        let (mut used, mut idle) = (
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        );
        for stream in [&mut used, &mut idle] {
            stream.write_all(CALL).await.unwrap();
            assert!(answer(stream).await.ends_with("ok"));
        }
        // The kernel has taken it, the server has not.
        let mut fresh = std::net::TcpStream::connect(address).unwrap();
        stop.cancel();
        used.write_all(CALL).await.unwrap();
        std::io::Write::write_all(&mut fresh, CALL).unwrap();
        fresh.set_nonblocking(true).unwrap();
        let mut fresh = TcpStream::from_std(fresh).unwrap();

        assert!(answer(&mut used).await.ends_with("ok"));
        assert!(answer(&mut fresh).await.ends_with("ok"));
        for mut stream in [used, fresh, idle] {
            assert_eq!(answer(&mut stream).await, "");
        }
        serving.await.unwrap().unwrap();
    }
}
