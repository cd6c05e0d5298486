//! One instance on the gateway's side: its process, its lease connection and its status stream.
//!
//! Each instance has a task. It takes orders from `driver`, sends the event to the supervisor (`wire::lease`),
//! gives the answer directly to the caller, as a whole or piece by piece (`answer_stream`), and reports the end of
//! the lease to the driver. It sends an event once: an event that may have reached the supervisor is never sent again
//! (rule 2).

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use pilotlight_core::ids::{InstanceName, PoolId};
use pilotlight_core::instance::failure::PAYLOAD_LIMIT;
use pilotlight_core::instance::phases::{Phase, Phases};
use pilotlight_core::invoke::pool::InstanceId;
use pilotlight_core::reason::Reason;
use pilotlight_core::traces::spans::CallReport;
use pilotlight_net::address::{Opening, Stream};
use pilotlight_net::body::{self, Whole};
use pilotlight_net::client::{ExchangeError, HttpClient};
use pilotlight_wire::drain;
use pilotlight_wire::lease::{LeaseHead, LeaseRefusal, LeaseRequest};
use pilotlight_wire::stream::{StreamEnd, StreamHead};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, Reservation, Running};
use crate::catalog::{Deployment, PoolKey};
use crate::clock;
use crate::intake::Intake;
use crate::logs::Hub;
use crate::message::{Answer, Invocation, Message, Order, Outcome, Pending, Report};
use crate::status_stream::{StatusStream, Taking};

/// How long the task waits, after a connection broke, for the instance's end, which then is the reason.
const END_WAIT: Duration = Duration::from_secs(2);
/// Why an instance that was given up has ended.
const OVERDUE: &str = "its supervisor did not keep the function's limits";

/// Where an instance's task sends its reports, and the ids that they carry.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) pool: PoolKey,
    pub(crate) instance: InstanceId,
    pub(crate) name: InstanceName,
    pub(crate) driver: mpsc::Sender<Message>,
    /// Where its answers take their room.
    pub(crate) intake: Intake,
    /// Where its log records go.
    pub(crate) logs: Option<Hub>,
}

impl Link {
    async fn report(&self, report: Report) {
        let (pool, instance) = (self.pool, self.instance);
        // It fails only after the driver has ended.
        let _ = self
            .driver
            .send(Message::Report {
                pool,
                instance,
                report,
            })
            .await;
    }
}

/// Signals that end an instance's task early.
#[derive(Debug)]
pub(crate) struct Ends {
    /// The instance is overdue, or `force`.
    pub(crate) given_up: CancellationToken,
    /// The gateway ends.
    pub(crate) force: CancellationToken,
}

/// The connection that carries leases.
type LeaseClient = HttpClient<Stream, Full<Bytes>>;

/// Starts or finds the instance of this name and serves its orders until it ends. Returns why it ended.
pub(crate) async fn run(
    link: Link,
    (name, _reservation): (InstanceName, Reservation),
    deployment: Arc<Deployment>,
    backend: Arc<dyn Backend>,
    mut orders: mpsc::Receiver<Order>,
    Ends { given_up, force }: Ends,
) -> Reason {
    let begun = clock::now();
    let process = tokio::select! {
        started = backend.start(&deployment, name.as_str()) => started,
        // Before it is up, an order can only be Drain or Release.
        _ = orders.recv() => return Reason::from("stopped before it was up"),
        () = given_up.cancelled() => return Reason::from("stopped before it was up"),
    };
    let mut process = match process {
        Ok(process) => process,
        Err(reason) => return reason,
    };
    let took = clock::since(begun);
    let fetched = process.fetched();
    let took = took.saturating_sub(fetched.unwrap_or_default());
    let mut up = Phases::default();
    up.add(Phase::Fetch, fetched);
    match process.unpacked() {
        Some(unpacked) => up.add(Phase::Claim, Some(took.saturating_sub(unpacked))),
        None => up.add(Phase::Start, Some(took)),
    }
    link.report(Report::Up).await;
    let reason = tokio::select! {
        reason = serve(&link, process.as_mut(), &mut orders, &up, (&deployment.pool, &name)) => Some(reason),
        // A call that it has is lost with the future that waits for the answer.
        () = given_up.cancelled() => None,
    };
    orders.close();
    while let Some(order) = orders.recv().await {
        hand_back(&link, order).await;
    }
    match reason {
        None if !force.is_cancelled() => {
            process.kill().await;
            Reason::from(OVERDUE)
        }
        reason => {
            process.end().await;
            reason.unwrap_or_else(|| Reason::from("stopped"))
        }
    }
}

/// Returns an invocation that came after the end of the instance. It never started.
async fn hand_back(link: &Link, order: Order) {
    if let Order::Run(pending) = order {
        let status = None;
        link.report(Report::NotStarted { pending, status }).await;
    }
}

async fn serve(
    link: &Link,
    process: &mut dyn Running,
    orders: &mut mpsc::Receiver<Order>,
    up: &Phases,
    (pool, name): (&PoolId, &InstanceName),
) -> Reason {
    let mut client = match connect(process.connect()).await {
        Ok(client) => client,
        Err(error) => return Reason::from(format!("its supervisor cannot be reached: {error}")),
    };
    let taking = link.logs.clone().zip(process.records());
    let taking = taking.map(|(logs, way)| Taking {
        logs,
        pool: pool.clone(),
        instance: name.to_string(),
        way,
    });
    let reports = link.clone();
    let mut statuses = StatusStream::open(process.connect(), taking, move |status| {
        let link = reports.clone();
        async move { link.report(Report::Observed(status)).await }
    });
    loop {
        tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(Order::Run(pending)) => {
                    match lease(link, &mut client, pending, up).await {
                        Lease::Over => {}
                        // The handler may still be running, and no second event may run beside it.
                        Lease::Lost => break,
                    }
                }
                Some(Order::Drain) | None => {
                    let request = Request::builder().method(Method::POST).uri(drain::DRAIN_PATH);
                    let request = request.body(Full::default()).expect("constant parts");
                    if client.send(request).await.is_err() {
                        return Reason::from("its supervisor cannot be reached");
                    }
                    // `wait` alone is not enough: the pod of a lost machine may exist for a long time.
                    statuses.ended().await;
                    break;
                }
                Some(Order::Release) => {
                    // The other gateway gets the records that are not acknowledged.
                    statuses.close();
                    return Reason::from("another gateway has it");
                }
            },
            () = statuses.ended() => break,
            reason = process.wait() => return reason,
        }
    }
    // The supervisor answers on this connection until the gateway closes it.
    drop(client);
    lost(link, process, orders).await
}

/// The supervisor does not answer any more. Returns the reason, if the end of the instance follows soon.
async fn lost(
    link: &Link,
    process: &mut dyn Running,
    orders: &mut mpsc::Receiver<Order>,
) -> Reason {
    let mut end = pin!(tokio::time::timeout(END_WAIT, process.wait()));
    loop {
        tokio::select! {
            Some(order) = orders.recv() => hand_back(link, order).await,
            reason = &mut end => {
                return reason.unwrap_or_else(|_| Reason::from("its supervisor cannot be reached"));
            }
        }
    }
}

async fn connect(
    opening: Opening,
) -> Result<LeaseClient, Box<dyn std::error::Error + Send + Sync>> {
    Ok(HttpClient::over(opening.await?).await?)
}

/// How a lease ends.
enum Lease {
    /// The driver has a report of it.
    Over,
    /// The supervisor sent no valid answer. The handler may still be running.
    Lost,
}

/// Runs one lease to its end: the caller gets its outcome, or the driver gets the invocation back.
async fn lease(link: &Link, client: &mut LeaseClient, mut pending: Pending, up: &Phases) -> Lease {
    let cold = pending
        .cold
        .map(|queued| Phases::of([(Phase::Queue, queued)].into_iter().chain(up.iter())));
    let timing = Timing::begin(&pending, cold.as_ref(), link);
    if let Some(logs) = &link.logs {
        // Before its first record can come.
        logs.begin_call(&pending.invocation.request_id, &pending.invocation.trace);
    }
    let request = lease_of(&pending.invocation, cold.clone())
        .into_request()
        .map(Full::new);
    pending.tally.leased();
    let response = match client.send(request).await {
        Ok(response) => response,
        Err(ExchangeError::NeverSent) => {
            let status = None;
            link.report(Report::NotStarted { pending, status }).await;
            return Lease::Over;
        }
        Err(ExchangeError::Unknown) => {
            pending.end(Outcome::Lost);
            return Lease::Lost;
        }
    };
    // The caller gets the phases of a cold start together: those before the instance was up, and those inside it.
    let with_cold = |inside: Phases| cold.map(|cold| Phases::of(cold.iter().chain(inside.iter())));
    let (head, body) = response.into_parts();
    match LeaseHead::read(&head) {
        LeaseHead::Refused(LeaseRefusal { status, .. }) => {
            link.report(Report::NotStarted { pending, status }).await;
            Lease::Over
        }
        LeaseHead::Answered(answer) => {
            // The supervisor enforces PAYLOAD_LIMIT, so a larger body cannot be a valid answer.
            let room = link.intake.room_for(&body).await;
            let Whole::Complete(body) = client.during(body::read(body, PAYLOAD_LIMIT, 0)).await
            else {
                pending.end(Outcome::Lost);
                return Lease::Lost;
            };
            pending.tally.failed(answer.failure);
            let answered = Answer {
                is_error: answer.is_error,
                content_type: answer.content_type,
                body: room.hold(body),
                log_tail: answer.log_tail,
                report: timing.map(|timing| timing.report(answer.report, &answer.phases)),
                phases: with_cold(answer.phases),
            };
            pending.end(Outcome::Answered(answered));
            link.report(Report::Finished(answer.status)).await;
            Lease::Over
        }
        LeaseHead::Streamed(StreamHead {
            content_type,
            phases,
        }) => {
            let inside = phases.clone();
            let writer = pending.begin(StreamHead {
                content_type,
                phases: with_cold(phases).unwrap_or_default(),
            });
            let end = client.during(writer.copy(body)).await;
            let Some((status, end)) = end.and_then(|end| Some((end.status?, end))) else {
                return Lease::Lost;
            };
            writer.end(StreamEnd {
                status: None,
                report: timing.map(|timing| timing.report(end.report, &inside)),
                ..end
            });
            link.report(Report::Finished(status)).await;
            Lease::Over
        }
        LeaseHead::Unreadable => {
            pending.end(Outcome::Lost);
            Lease::Lost
        }
    }
}

/// How long the parts of one lease take, for the trace.
struct Timing {
    /// Before the lease: until it was sent, or the parts of a cold start.
    before: Phases,
    sent: Instant,
    instance: String,
}

impl Timing {
    /// `None` if nobody asks for it. `cold`: the parts of a cold start before the lease.
    fn begin(pending: &Pending, cold: Option<&Phases>, link: &Link) -> Option<Self> {
        let invocation = &pending.invocation;
        invocation.wants_report.then(|| Timing {
            before: cold.cloned().unwrap_or_else(|| {
                let waited = clock::since(invocation.arrived);
                Phases::of([(Phase::Queue, waited)])
            }),
            sent: clock::now(),
            instance: link.name.to_string(),
        })
    }

    /// `inside`: what the supervisor says, and the phases of a cold start in the instance.
    fn report(self, inside: Option<Box<CallReport>>, started: &Phases) -> Box<CallReport> {
        let took = clock::since(self.sent);
        let mut report = inside.unwrap_or_default();
        let (init, run) = (started.get(Phase::Init), report.phases.get(Phase::Run));
        // An event may wait in the instance too: for the end of the one before it, or for an init.
        let waited = report.phases.get(Phase::Queue).unwrap_or_default();
        let queued = waited.saturating_sub(init.unwrap_or_default());
        let mut phases = Phases::of(self.before.iter().map(|(phase, duration)| match phase {
            Phase::Queue => (phase, duration + queued),
            _ => (phase, duration),
        }));
        phases.add(Phase::Unpack, started.get(Phase::Unpack));
        phases.add(Phase::Init, init);
        if let Some(run) = run {
            phases.add(Phase::Run, Some(run));
            phases.add(Phase::Respond, Some(took.saturating_sub(waited + run)));
        }
        report.phases = phases;
        report.instance = Some(self.instance);
        report
    }
}

fn lease_of(invocation: &Invocation, phases: Option<Phases>) -> LeaseRequest {
    LeaseRequest {
        request_id: invocation.request_id.clone(),
        event: invocation.payload.clone(),
        function_arn: invocation.function_arn.clone(),
        trace_id: Some(invocation.trace.clone()),
        trace_state: invocation.trace_state.clone(),
        client_context: invocation.client_context.clone(),
        wants_log_tail: invocation.log_tail,
        wants_report: invocation.wants_report,
        accepts_stream: true,
        phases,
    }
}
