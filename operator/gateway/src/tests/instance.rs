//! An instance in a test: a real supervisor, and the test in the place of its runtime process.
//!
//! Between gateway and supervisor are wires that a test can cut, as a network is.

use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use pilotlight_api::instance_config::{Place, compose};
use pilotlight_core::instance::failure::Exit;
use pilotlight_core::instance::launch::Launch;
use pilotlight_core::reason::Reason;
use pilotlight_net::address::{Opening, Stream};
use pilotlight_net::client::HttpClient;
use pilotlight_supervisor::in_process::{self, Connector};
use pilotlight_wire::lease;
use pilotlight_wire::log_record::LogSource;
use tokio::io::DuplexStream;
use tokio::sync::oneshot;
use tokio::task::{self, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::backend::{Promise, Running};
use crate::catalog::{Deployment, Source};
use crate::logs::{Hub, Way};
use crate::process::LogReader;

const INVOCATION: &str = "/2018-06-01/runtime/invocation";
/// Bytes on their way through a wire.
const WIRE: usize = 64 * 1024;

/// A supervisor, and what its runtime process does.
pub(super) struct Instance {
    pub(super) name: String,
    supervisor: in_process::Instance,
    wires: Wires,
    /// A call of `next` that has not brought an event yet.
    next: Option<JoinHandle<Option<Response<Bytes>>>>,
    /// What it has brought.
    arrived: Option<Response<Bytes>>,
    is_pod: bool,
}

/// An event that the handler has.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) request_id: String,
    pub(super) headers: HeaderMap,
    pub(super) payload: String,
}

impl Instance {
    pub(super) fn start(deployment: &Deployment, name: &str, logs: &Hub) -> (Self, Line) {
        let launch = match &deployment.source {
            Source::Local(launch) => launch.clone(),
            Source::Cluster { .. } => Launch {
                command: vec!["/var/task/main".to_owned()],
                handler: deployment.spec.handler.clone().expect("a handler"),
                task_root: "/".into(),
                environment: Default::default(),
                heap: Default::default(),
                relocated: Default::default(),
            },
        };
        let is_pod = matches!(deployment.source, Source::Cluster { .. });
        let place = Place {
            qualifier: deployment.pool.qualifier,
            instance: name,
            date: "2026/01/31",
            region: "us-east-1",
            listen: "memory",
            // The log of a pod comes over its status stream.
            ends_with_parent: !is_pod,
        };
        let config = compose(deployment.name(), &deployment.spec, &launch, place);
        let (supervisor, log) = in_process::Instance::start(config);
        if is_pod {
            // The container's log, which no gateway reads.
            task::spawn_local(async move {
                let mut log = log;
                let _ = tokio::io::copy(&mut log, &mut tokio::io::sink()).await;
            });
        } else {
            let control = supervisor.control().clone();
            let way: Way = Box::new(move || -> Opening {
                let opened = control.connect();
                Box::pin(async { Ok(Box::new(opened?) as Stream) })
            });
            let reader = LogReader::new(logs, &deployment.pool, name);
            // Nothing listens on an address.
            let (tell, _) = oneshot::channel();
            task::spawn_local(async move { reader.records(log, tell, Some(way)).await });
        }
        let instance = Instance {
            name: name.to_owned(),
            supervisor,
            wires: Wires::default(),
            next: None,
            arrived: None,
            is_pod,
        };
        let line = instance.line();
        (instance, line)
    }

    /// Another way to it, for another gateway.
    pub(super) fn line(&self) -> Line {
        Line {
            control: self.supervisor.control().clone(),
            wires: self.wires.clone(),
            is_pod: self.is_pod,
        }
    }

    /// The runtime process calls `next`: its init is done, or the invocation before.
    pub(super) fn asks(&mut self) {
        let request = Request::get(format!("{INVOCATION}/next")).body(Full::default());
        let answer = send(self.supervisor.runtime().clone(), request);
        let before = self.next.replace(task::spawn_local(answer));
        assert!(before.is_none_or(|before| before.is_finished()) && self.arrived.is_none());
    }

    /// The next event; asks for it unless it has.
    pub(super) async fn event(&mut self) -> Event {
        if self.next.is_none() && self.arrived.is_none() {
            self.asks();
        }
        if let Some(next) = self.next.take() {
            self.arrived = next.await.expect("no panic");
        }
        let response = self.arrived.take().expect("the supervisor lives");
        assert_eq!(response.status(), StatusCode::OK, "{response:?}");
        let (head, payload) = response.into_parts();
        let request_id = head.headers["lambda-runtime-aws-request-id"].to_str();
        Event {
            request_id: request_id.expect("an id").to_owned(),
            headers: head.headers,
            payload: String::from_utf8(payload.into()).expect("a text"),
        }
    }

    /// Whether an event has come that no test has taken.
    pub(super) fn has_event(&mut self) -> bool {
        if let Some(next) = self.next.take_if(|next| next.is_finished()) {
            let arrived = next.now_or_never().expect("it has finished");
            self.arrived = arrived.expect("no panic");
        }
        self.arrived.is_some()
    }

    /// The handler answers, and the runtime process calls `next`.
    pub(super) async fn answers(&mut self, event: &Event, body: &str) {
        self.posts(event, "response", body).await;
        self.asks();
    }

    /// The handler answers; the runtime process goes on with something else.
    pub(super) async fn posts(&self, event: &Event, kind: &str, body: &str) {
        let path = format!("{INVOCATION}/{}/{kind}", event.request_id);
        assert_eq!(self.post(&path, body).await, StatusCode::ACCEPTED);
    }

    /// The handler takes the next event and answers it; returns what the event was.
    pub(super) async fn serves(&mut self, body: &str) -> String {
        let event = self.event().await;
        self.answers(&event, body).await;
        event.payload
    }

    /// The `tracestate` of the invocation at hand.
    pub(super) fn trace_state(&self) -> Option<String> {
        self.supervisor.trace_state()
    }

    /// Init fails.
    pub(super) async fn fails_init(&self, body: &str) {
        let posted = self.post("/2018-06-01/runtime/init/error", body).await;
        assert_eq!(posted, StatusCode::ACCEPTED);
    }

    async fn post(&self, path: &str, body: &str) -> StatusCode {
        let request = Request::post(path).body(Full::from(body.to_owned()));
        let answer = send(self.supervisor.runtime().clone(), request);
        answer.await.expect("the supervisor lives").status()
    }

    /// A connection of the runtime process to the Runtime API.
    pub(super) fn runtime(&self) -> io::Result<DuplexStream> {
        self.supervisor.runtime().connect()
    }

    /// A connection of another gateway.
    pub(super) fn control(&self) -> io::Result<DuplexStream> {
        self.supervisor.control().connect()
    }

    /// The handler prints a line.
    pub(super) fn prints(&self, line: &str) {
        self.supervisor.print(LogSource::Stdout, line);
    }

    /// The runtime process ends.
    pub(super) fn crashes(&mut self) {
        self.supervisor.exit(Exit::Code(1));
        self.next = None;
    }

    /// Returns once a runtime process has been started this often.
    pub(super) async fn has_started(&mut self, times: usize) {
        let mut starts = self.supervisor.starts();
        let reached = starts.wait_for(|starts| *starts >= times).await;
        reached.expect("the supervisor lives");
        self.next = None;
    }

    /// Its machine is lost: supervisor, connections and all.
    pub(super) fn is_lost(&self) {
        self.supervisor.lose();
    }

    /// Breaks its connections with the gateway: that of this place, counted from the first.
    pub(super) fn cut(&self, place: usize) {
        self.wires.cut(place);
    }

    /// The function stops its supervisor: its connections stay open, and carry nothing.
    pub(super) fn stalls(&self) {
        self.wires.stalled.cancel();
    }

    /// Returns when the supervisor has ended.
    pub(super) async fn ended(&mut self) {
        self.supervisor.ended().await;
    }

    /// Another gateway leases it, without a word to this one.
    pub(super) fn is_leased(&self, request_id: &str) -> JoinHandle<Option<Response<Bytes>>> {
        let request = Request::post(lease::LEASE_PATH)
            .header("pilotlight-request-id", request_id)
            .header(lease::FUNCTION_ARN, "arn")
            .body(Full::from("\"another\""));
        task::spawn_local(send(self.supervisor.control().clone(), request))
    }
}

/// One request on a connection of its own; `None` if the supervisor ends before it answers.
async fn send(
    way: Connector,
    request: http::Result<Request<Full<Bytes>>>,
) -> Option<Response<Bytes>> {
    let stream = way.connect().ok()?;
    let mut client = HttpClient::over(stream).await.ok()?;
    let response = client.send(request.expect("a request")).await.ok()?;
    let (head, body) = response.into_parts();
    let body = client.during(body.collect()).await.ok()?.to_bytes();
    Some(Response::from_parts(head, body))
}

/// The connections of one instance with gateways, in the order in which they were opened: the gateway's
/// leases go over the first, statuses over the second.
#[derive(Clone, Debug, Default)]
struct Wires {
    cuts: Arc<Mutex<Vec<CancellationToken>>>,
    stalled: CancellationToken,
}

impl Wires {
    fn lay(&self, near: &Connector) -> io::Result<Stream> {
        let mut supervisor = near.connect()?;
        let (stream, mut gateway) = tokio::io::duplex(WIRE);
        let cut = CancellationToken::new();
        let mut cuts = self.cuts.lock().expect("one thread");
        cuts.push(cut.clone());
        let stalled = self.stalled.clone();
        // Ends with either end.
        tokio::spawn(async move {
            let carried = async {
                let carried = tokio::io::copy_bidirectional(&mut gateway, &mut supervisor);
                if stalled.run_until_cancelled(carried).await.is_none() {
                    std::future::pending::<()>().await;
                }
            };
            // Who is at an end sees that it is one.
            let _ = cut.run_until_cancelled(carried).await;
        });
        Ok(Box::new(stream))
    }

    fn cut(&self, place: usize) {
        let cuts = self.cuts.lock().expect("one thread");
        cuts[place].cancel();
    }
}

/// What the gateway has of an instance.
pub(super) struct Line {
    control: Connector,
    wires: Wires,
    is_pod: bool,
}

impl Running for Line {
    fn connect(&self) -> Opening {
        let (control, wires) = (self.control.clone(), self.wires.clone());
        Box::pin(async move { wires.lay(&control) })
    }

    fn records(&self) -> Option<Way> {
        let control = self.control.clone();
        let way: Way = Box::new(move || -> Opening {
            let opened = control.connect();
            Box::pin(async { Ok(Box::new(opened?) as Stream) })
        });
        self.is_pod.then_some(way)
    }

    fn wait(&mut self) -> Promise<'_, Reason> {
        Box::pin(async {
            self.control.ended().await;
            Reason::from("its supervisor ended")
        })
    }

    fn end(mut self: Box<Self>) -> Promise<'static, ()> {
        Box::pin(async move {
            // A pod is the controller's to delete, and lives on for another gateway.
            if !self.is_pod {
                self.control.abandon();
                self.control.ended().await;
            }
        })
    }
}
