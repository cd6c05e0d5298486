//! One instance as the gateway holds it: its process, its lease connection, its status stream.
//!
//! A task per instance. Takes orders from `driver`, hands the event over the wire, gives the
//! answer straight to the caller and tells the driver what became of the lease. Sends an event
//! once: what may have reached the supervisor is never sent again (rule 2).

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use pilotlight_core::instance::failure::PAYLOAD_LIMIT;
use pilotlight_core::instance::phases::{Phase, Phases};
use pilotlight_core::invoke::pool::InstanceId;
use pilotlight_wire::drain;
use pilotlight_wire::lease::{LeaseHead, LeaseRefusal, LeaseRequest};
use pilotlight_wire::status;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, Reservation, Running};
use crate::catalog::{Deployment, PoolKey};
use crate::clock;
use crate::connect::{Opening, Stream};
use crate::message::{Answer, Invocation, Message, Order, Outcome, Pending, Report};

/// Of statuses that have not been read yet, each a few bytes.
const STATUSES_LIMIT: usize = 1024 * 1024;
/// For a broken connection's reason: the end of the instance, if that is it, is heard of by then.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where an instance's task reports to, and as whom.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) pool: PoolKey,
    pub(crate) instance: InstanceId,
    pub(crate) driver: mpsc::Sender<Message>,
}

impl Link {
    async fn report(&self, report: Report) {
        let (pool, instance) = (self.pool, self.instance);
        // Without a driver there is nobody left to tell.
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

/// None once it has ended.
type Connection = Option<Pin<Box<http1::Connection<TokioIo<Stream>, Full<Bytes>>>>>;

/// Has the instance of this name up and runs it to its end; returns why it ended.
pub(crate) async fn run(
    link: Link,
    (name, _reservation): (String, Reservation),
    deployment: Arc<Deployment>,
    backend: Arc<dyn Backend>,
    mut orders: mpsc::Receiver<Order>,
    force: CancellationToken,
) -> Arc<str> {
    let begun = clock::now();
    let process = tokio::select! {
        started = backend.start(&deployment, &name) => started,
        // Before it is up, the only orders are to drain and to release.
        _ = orders.recv() => return Arc::from("stopped before it was up"),
        () = force.cancelled() => return Arc::from("stopped before it was up"),
    };
    let mut process = match process {
        Ok(process) => process,
        Err(reason) => return reason,
    };
    let took = clock::since(begun);
    let up = match process.unpacked() {
        Some(unpacked) => (Phase::Claim, took.saturating_sub(unpacked)),
        None => (Phase::Start, took),
    };
    let reason = tokio::select! {
        reason = serve(&link, process.as_mut(), &mut orders, up) => reason,
        () = force.cancelled() => Arc::from("stopped"),
    };
    orders.close();
    while let Some(order) = orders.recv().await {
        hand_back(&link, order).await;
    }
    process.end().await;
    reason
}

/// An order that came too late: its call never started.
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
    up: (Phase, Duration),
) -> Arc<str> {
    let (mut sender, mut connection) = match connect(process.connect()).await {
        Ok(connected) => connected,
        Err(error) => return Arc::from(format!("its supervisor cannot be reached: {error}")),
    };
    let mut told = pin!(follow_status(link, process.connect()));
    loop {
        tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(Order::Run(pending)) => {
                    match lease(link, &mut sender, &mut connection, pending, up).await {
                        Lease::Over => {}
                        // Its handler may run on, and no second event may come beside it.
                        Lease::Lost => break,
                    }
                }
                Some(Order::Drain) | None => {
                    let request = Request::builder().method(Method::POST).uri(drain::DRAIN_PATH);
                    let request = request.body(Full::default()).expect("constant parts");
                    let drained = exchange(&mut sender, &mut connection, request).await;
                    if drained.is_err() {
                        return Arc::from("its supervisor cannot be reached");
                    }
                    // Not by `wait` alone: a lost machine's pod may be there for long.
                    told.as_mut().await;
                    break;
                }
                Some(Order::Release) => return Arc::from("another gateway has it"),
            },
            () = &mut told => break,
            reason = process.wait() => return reason,
        }
    }
    // The supervisor stays until this is closed, and answers what is put on it.
    drop((sender, connection));
    lost(link, process, orders).await
}

/// Its supervisor does not answer any more: says why, if that is heard of soon.
async fn lost(
    link: &Link,
    process: &mut dyn Running,
    orders: &mut mpsc::Receiver<Order>,
) -> Arc<str> {
    let mut farewell = pin!(tokio::time::timeout(FAREWELL, process.wait()));
    loop {
        tokio::select! {
            Some(order) = orders.recv() => hand_back(link, order).await,
            reason = &mut farewell => {
                return reason.unwrap_or_else(|_| Arc::from("its supervisor cannot be reached"));
            }
        }
    }
}

async fn connect(
    opening: Opening,
) -> Result<(SendRequest<Full<Bytes>>, Connection), Box<dyn std::error::Error + Send + Sync>> {
    let stream = opening.await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    Ok((sender, Some(Box::pin(connection))))
}

/// Tells the driver each condition that the instance tells; ends with the stream.
async fn follow_status(link: &Link, opening: Opening) {
    let stream = async {
        let stream = opening.await.ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        let request = Request::builder()
            .uri(status::STATUS_PATH)
            .body(Empty::<Bytes>::new())
            .ok()?;
        let read = async {
            let mut body = sender.send_request(request).await.ok()?.into_body();
            let mut pending = Vec::new();
            while let Some(Ok(frame)) = body.frame().await {
                pending.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                if pending.len() > STATUSES_LIMIT {
                    return None;
                }
                while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = pending.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line[..end]).into_owned();
                    if let Ok(status) = status::read(&line) {
                        link.report(Report::Observed(status)).await;
                    }
                }
            }
            Some(())
        };
        tokio::select! {
            read = read => read,
            _ = connection => None,
        }
    };
    stream.await;
}

/// How a lease ends.
enum Lease {
    /// The driver knows what became of it.
    Over,
    /// The supervisor gave no answer that can be read. The handler may run on, out of sight.
    Lost,
}

/// One lease, to its end: the caller has its outcome, or the driver has the invocation back.
async fn lease(
    link: &Link,
    sender: &mut SendRequest<Full<Bytes>>,
    connection: &mut Connection,
    pending: Pending,
    (phase, took): (Phase, Duration),
) -> Lease {
    let cold = pending
        .cold
        .map(|queued| Phases::of([(Phase::Queue, queued), (phase, took)]));
    let request = lease_of(&pending.invocation, cold.clone())
        .into_request()
        .map(Full::new);
    let response = match exchange(sender, connection, request).await {
        Ok(response) => response,
        Err(Broken::NeverSent) => {
            let status = None;
            link.report(Report::NotStarted { pending, status }).await;
            return Lease::Over;
        }
        Err(Broken::Unknown) => {
            pending.end(Outcome::Lost);
            return Lease::Lost;
        }
    };
    let (head, body) = response.into_parts();
    let answer = match LeaseHead::read(&head) {
        LeaseHead::Answered(answer) => answer,
        LeaseHead::Refused(LeaseRefusal { status, .. }) => {
            link.report(Report::NotStarted { pending, status }).await;
            return Lease::Over;
        }
        LeaseHead::Unreadable => {
            pending.end(Outcome::Lost);
            return Lease::Lost;
        }
    };
    // The supervisor enforces PAYLOAD_LIMIT, so a larger body cannot be a valid answer.
    let mut body = pin!(Limited::new(body, PAYLOAD_LIMIT).collect());
    let body = tokio::select! {
        biased;
        body = &mut body => body,
        () = drive(connection) => body.await,
    };
    let Ok(body) = body else {
        pending.end(Outcome::Lost);
        return Lease::Lost;
    };
    let inside = answer.phases;
    let answered = Answer {
        is_error: answer.is_error,
        content_type: answer.content_type,
        body: body.to_bytes(),
        log_tail: answer.log_tail,
        phases: cold.map(|cold| Phases::of(cold.iter().chain(inside.iter()))),
    };
    pending.end(Outcome::Answered(answered));
    link.report(Report::Finished(answer.status)).await;
    Lease::Over
}

fn lease_of(invocation: &Invocation, phases: Option<Phases>) -> LeaseRequest {
    LeaseRequest {
        request_id: invocation.request_id.clone(),
        event: invocation.payload.clone(),
        function_arn: invocation.function_arn.clone(),
        trace_id: Some(invocation.trace.clone()),
        client_context: invocation.client_context.clone(),
        wants_log_tail: invocation.log_tail,
        phases,
    }
}

enum Broken {
    /// Nothing of the request left this process.
    NeverSent,
    /// The instance may have read it.
    Unknown,
}

/// Returns when the connection has ended, and drops it: a request that it has not taken is handed back
/// only then, and would be waited for without end.
async fn drive(connection: &mut Connection) {
    let Some(driven) = connection else {
        return std::future::pending().await;
    };
    // How it ended is seen by what it was to carry.
    let _ = driven.as_mut().await;
    *connection = None;
}

/// Sends a request and waits for the response's head, driving the connection meanwhile.
async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    connection: &mut Connection,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, Broken> {
    let ready = tokio::select! {
        biased;
        ready = sender.ready() => ready.is_ok(),
        () = drive(connection) => false,
    };
    if !ready {
        return Err(Broken::NeverSent);
    }
    let mut response = pin!(sender.try_send_request(request));
    let response = tokio::select! {
        biased;
        response = &mut response => response,
        () = drive(connection) => response.await,
    };
    response.map_err(|mut error| match error.take_message() {
        Some(_) => Broken::NeverSent,
        None => Broken::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::connect::Address;

    #[tokio::test]
    async fn a_request_on_a_connection_that_has_just_been_closed_was_never_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let (mut sender, mut connection) = connect(address.connect()).await.unwrap();
        let (mut supervisor, _) = listener.accept().await.unwrap();
        let request = || Request::new(Full::new(Bytes::from_static(b"{}")));

        let answering = async {
            assert!(supervisor.read(&mut [0; 1024]).await.unwrap() > 0);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            supervisor.write_all(answer).await.unwrap();
        };
        let exchanged = exchange(&mut sender, &mut connection, request());
        let (answered, ()) = tokio::join!(exchanged, answering);
        assert!(answered.is_ok());

        drop(supervisor);
        // Any other traffic: the runtime has seen the end by then, the connection has not.
        let (connected, accepted) = tokio::join!(
            TcpStream::connect(listener.local_addr().unwrap()),
            listener.accept()
        );
        connected.unwrap();
        accepted.unwrap();
        let limit = Duration::from_secs(300);
        let again = exchange(&mut sender, &mut connection, request());
        let again = tokio::time::timeout(limit, again).await.expect("no end");
        assert!(matches!(again, Err(Broken::NeverSent)));
    }
}
