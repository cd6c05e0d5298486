//! The stage of a test: a gateway, its callers, and a backend that asks the test.
//!
//! Each start of an instance comes to the test as a [`Start`]; nothing comes up by itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use axum::{Extension, Router};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use pilotlight_core::identity;
use pilotlight_core::ids::{Namespace, PoolId};
use pilotlight_core::instance::launch::Launch;
use pilotlight_core::reason::Reason;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{self, JoinHandle, LocalSet};
use tokio::time::Instant;
use tower::ServiceExt;

use super::instance::{Instance, Line};
use crate::backend::{Backend, Promise, Reservation, Running};
use crate::catalog::{Deployment, Source};
use crate::config::Config;
use crate::gateway::Gateway;
use crate::logs::Hub;
use crate::message::OwnershipChange;
use crate::peers::Peers;

/// Of each function's log, in bytes.
const LOGS: usize = 1024 * 1024;

/// More paused time than any test takes: one that waits for what never comes ends after it.
const PAUSED_TIME_LIMIT: Duration = Duration::from_secs(2 * 3600);

/// Runs a test on a thread of its own kind: supervisors cannot leave theirs.
pub(super) async fn on_stage<T>(test: impl Future<Output = T>) -> T {
    let limited = tokio::time::timeout(PAUSED_TIME_LIMIT, test);
    let ended = LocalSet::new().run_until(limited).await;
    ended.expect("what the test waits for has not come in two hours of paused time")
}

/// Returns when nothing more happens without the passing of time. Paused time stands still until all
/// tasks wait.
pub(super) async fn settled() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// A function named `hello`, with these fields of its `spec`, as YAML's flow style has them.
pub(super) fn function(spec: &str) -> Deployment {
    named("hello", spec)
}

pub(super) fn named(name: &str, spec: &str) -> Deployment {
    let manifest = format!(
        "apiVersion: pilotlight.dev/v1alpha1\nkind: Function\nmetadata: {{name: {name}}}\n\
         spec: {{runtime: custom, handler: main, code: {{path: .}}, {spec}}}\n"
    );
    let function = pilotlight_api::read("f.yaml".as_ref(), &manifest);
    let function = function.expect("a manifest").remove(0).function;
    Deployment {
        pool: PoolId::latest(Namespace::local(), function.metadata.name),
        source: Source::Local(Launch {
            command: vec!["/var/task/main".to_owned()],
            handler: function.spec.handler.clone().expect("a handler"),
            task_root: "/".into(),
            environment: Default::default(),
            heap: Default::default(),
            relocated: Default::default(),
        }),
        spec: function.spec,
        revision: "first".into(),
        code_sha256: "00".repeat(32),
        code_size: 4711,
        modified: jiff::Timestamp::UNIX_EPOCH,
    }
}

/// The same, which is no gateway's until one is told that it owns it.
pub(super) fn shared(mut deployment: Deployment) -> Deployment {
    let uid = "8f3c4a1e".into();
    deployment.source = Source::Cluster { uid };
    deployment
}

/// A gateway and who asks it.
pub(super) struct Stage {
    pub(super) gateway: Gateway,
    pub(super) logs: Hub,
    pub(super) backend: Arc<Asking>,
    starts: mpsc::UnboundedReceiver<Start>,
}

impl Stage {
    /// With one function.
    pub(super) async fn of(deployment: Deployment) -> Stage {
        let stage = Stage::new(Config::default(), None);
        stage.gateway.deploy(vec![deployment]).await;
        stage
    }

    pub(super) fn new(config: Config, peers: Option<Arc<dyn Peers>>) -> Stage {
        let logs = Hub::in_memory(LOGS);
        let (ask, starts) = mpsc::unbounded_channel();
        let backend = Arc::new(Asking {
            ask,
            refuses: AtomicBool::new(false),
            loads: Mutex::default(),
        });
        let gateway = Gateway::start_among(peers, config, backend.clone(), Some(logs.clone()));
        Stage {
            gateway,
            logs,
            backend,
            starts,
        }
    }

    /// The next instance that the gateway wants.
    pub(super) async fn start(&mut self) -> Start {
        self.starts.recv().await.expect("the backend lives")
    }

    /// What the gateway has asked for, and no test has taken.
    pub(super) async fn starts(&mut self) -> Vec<Start> {
        settled().await;
        std::iter::from_fn(|| self.starts.try_recv().ok()).collect()
    }

    /// The next instance that the gateway wants, up; its runtime process starts.
    pub(super) async fn up(&mut self) -> Instance {
        self.start().await.up(&self.logs)
    }

    /// The next instance that the gateway wants, up and ready.
    pub(super) async fn instance(&mut self) -> Instance {
        let mut instance = self.up().await;
        instance.asks();
        instance
    }

    /// A call of `hello`, in a task of its own.
    pub(super) fn call(&self, payload: &str) -> Caller {
        self.send(invocation("hello").body(Body::from(payload.to_owned())))
    }

    pub(super) fn send(&self, request: http::Result<Request<Body>>) -> Caller {
        self.send_to(self.gateway.api(), request)
    }

    fn send_to(&self, routes: Router, request: http::Result<Request<Body>>) -> Caller {
        let request = request.expect("a request");
        let begun = Instant::now();
        Caller(task::spawn_local(async move {
            let response = routes.oneshot(request).await.expect("routes do not fail");
            Answer::read(response, begun).await
        }))
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()))
            .answer()
            .await
    }

    /// Asks the listener for probes and metrics.
    pub(super) async fn status(&self, path: &str) -> Answer {
        let request = Request::get(path).body(Body::empty());
        self.send_to(self.gateway.status(), request).answer().await
    }

    /// The same with headers, as a scraper has them.
    pub(super) fn scrape(&self, request: http::Result<Request<Body>>) -> Caller {
        self.send_to(self.gateway.status(), request)
    }

    /// Asks the listener for other parts.
    pub(super) async fn part(&self, path: &str) -> Answer {
        let request = Request::get(path).body(Body::empty());
        self.send_to(self.parts(), request).answer().await
    }

    /// The paths for other parts, as another gateway gets them.
    pub(super) fn parts(&self) -> Router {
        let caller = identity::Caller::Proven(identity::Role::Gateway);
        self.gateway.parts().layer(Extension(caller))
    }

    /// The value of a metric, with its labels; 0 if it is not there.
    pub(super) async fn metric(&self, name: &str) -> f64 {
        let text = self.status("/metrics").await.text();
        let values = text.lines().filter_map(|line| line.strip_prefix(name));
        let mut values = values.filter_map(|value| value.strip_prefix(' ')?.parse().ok());
        values.next().unwrap_or(0.0)
    }

    /// Makes the function this gateway's, with what lives of it.
    pub(super) async fn gains(&self, instances: &[&str]) {
        let instances = instances.iter().map(|name| (*name).into()).collect();
        let gained = vec![("local/hello:$LATEST".parse().expect("a name"), instances)];
        let lost = Vec::new();
        self.gateway
            .change_ownership(OwnershipChange { gained, lost })
            .await;
    }

    /// Makes the function another gateway's.
    pub(super) async fn loses(&self) {
        let lost = vec!["local/hello:$LATEST".parse().expect("a name")];
        let gained = Vec::new();
        self.gateway
            .change_ownership(OwnershipChange { gained, lost })
            .await;
    }
}

pub(super) fn invocation(name: &str) -> http::request::Builder {
    Request::post(format!("/2015-03-31/functions/{name}/invocations"))
}

/// One who calls, and may go away.
pub(super) struct Caller(JoinHandle<Answer>);

impl Caller {
    pub(super) async fn answer(self) -> Answer {
        self.0.await.expect("the call goes on")
    }

    pub(super) fn has_answer(&self) -> bool {
        self.0.is_finished()
    }

    /// Breaks off.
    pub(super) async fn goes(self) {
        self.0.abort();
        assert!(self.0.await.is_err_and(|error| error.is_cancelled()));
    }
}

/// What a caller got.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) took: Duration,
}

impl Answer {
    async fn read(response: Response, begun: Instant) -> Answer {
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a whole answer").to_bytes();
        Answer {
            status: head.status,
            headers: head.headers,
            body,
            took: begun.elapsed(),
        }
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).expect("a text")
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub(super) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().expect("ASCII"))
    }

    /// Status and type of an error.
    pub(super) fn error(&self) -> (u16, &str) {
        (self.status.as_u16(), self.header("x-amzn-errortype"))
    }
}

/// A backend that asks the test for each instance.
#[derive(Debug)]
pub(super) struct Asking {
    ask: mpsc::UnboundedSender<Start>,
    pub(super) refuses: AtomicBool,
    /// Calls in flight and queued, as they changed.
    pub(super) loads: Mutex<Vec<(usize, usize)>>,
}

/// An instance that the gateway wants.
pub(super) struct Start {
    pub(super) name: String,
    deployment: Deployment,
    outcome: oneshot::Sender<Result<Box<dyn Running>, Reason>>,
}

impl Start {
    pub(super) fn up(self, logs: &Hub) -> Instance {
        let (instance, line) = Instance::start(&self.deployment, &self.name, logs);
        self.found(line);
        instance
    }

    /// It lives already.
    pub(super) fn found(self, line: Line) {
        let given_up = self.outcome.send(Ok(Box::new(line))).is_err();
        assert!(!given_up, "the gateway waits for the instance");
    }

    pub(super) fn fails(self, reason: &str) {
        let given_up = self.outcome.send(Err(Reason::from(reason))).is_err();
        assert!(!given_up, "the gateway waits for the instance");
    }

    /// The gateway does not wait for it any more.
    pub(super) fn is_given_up(&self) -> bool {
        self.outcome.is_closed()
    }

    pub(super) fn revision(&self) -> &str {
        self.deployment.revision.as_str()
    }
}

impl Backend for Asking {
    fn reserve(&self, _: &Deployment, _: &str) -> Reservation {
        Box::new(())
    }

    fn start<'a>(
        &'a self,
        deployment: &'a Deployment,
        instance: &'a str,
    ) -> Promise<'a, Result<Box<dyn Running>, Reason>> {
        Box::pin(async move {
            let (outcome, decided) = oneshot::channel();
            let start = Start {
                name: instance.to_owned(),
                deployment: deployment.clone(),
                outcome,
            };
            self.ask.send(start).expect("the test goes on");
            decided
                .await
                .unwrap_or_else(|_| Err("the test has ended".into()))
        })
    }

    fn refuses(&self, _: &Deployment) -> bool {
        self.refuses.load(Ordering::Relaxed)
    }

    fn observe(&self, _: &Deployment, in_flight: usize, queued: usize) {
        let mut loads = self.loads.lock().expect("one thread");
        loads.push((in_flight, queued));
    }
}
