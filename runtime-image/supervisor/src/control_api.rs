//! The API for gateways: lease, status, mark, drain (`pilotlight_wire`).
//!
//! `gateways` brings the requests. Decodes them, passes them to `worker`, and encodes its answers.
//! `runtime_api` is the other end of a lease. Never decides whether a lease is granted: core does.

use std::rc::Rc;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response, StatusCode};
use pilotlight_core::instance::Status;
use pilotlight_core::instance::failure::PAYLOAD_LIMIT;
use pilotlight_net::body::{self, Whole};
use pilotlight_net::lines::Lines;
use pilotlight_wire::claim::CLAIM_PATH;
use pilotlight_wire::drain;
use pilotlight_wire::lease::{LEASE_PATH, LeaseRefusal, LeaseRequest};
use pilotlight_wire::mark;
use pilotlight_wire::{records, status};
use tokio::sync::watch;

use crate::claim;
use crate::invocation::{AnswerStream, Answered};
use crate::relay::{Relay, Taker};
use crate::response::{ControlResponse, control, text};
use crate::worker::{Shared, WeakShared};

/// The instance that answers.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) worker: Shared,
    /// The name that the claim gave it, if there was a claim.
    pub(crate) instance: Option<String>,
}

pub(crate) async fn answer(api: &Api, request: Request<Incoming>) -> ControlResponse {
    let (worker, instance) = (&api.worker, api.instance.as_deref());
    match (request.method(), request.uri().path()) {
        (&Method::POST, LEASE_PATH) => lease(worker, request).await,
        (&Method::GET, status::STATUS_PATH) => status(worker, instance, request),
        (&Method::POST, drain::DRAIN_PATH) => {
            worker.borrow_mut().drain();
            text(StatusCode::ACCEPTED, "")
        }
        (&Method::POST, mark::MARK_PATH) => mark(worker, request).await,
        (&Method::POST, CLAIM_PATH) => claim::already_claimed(instance),
        _ => text(
            StatusCode::NOT_FOUND,
            "an instance has /lease, /status, /mark and /drain\n",
        ),
    }
}

pub(crate) async fn lease(
    worker: &Shared,
    request: Request<impl Body<Data = Bytes> + Unpin>,
) -> ControlResponse {
    let open = OpenRequest::of(worker);
    let (head, body) = request.into_parts();
    let event = match body::read(body, PAYLOAD_LIMIT, usize::MAX).await {
        Whole::Complete(event) => event,
        Whole::TooLarge => {
            return text(StatusCode::PAYLOAD_TOO_LARGE, "the event is too large\n");
        }
        Whole::Broken(_) => {
            return text(
                StatusCode::BAD_REQUEST,
                "the connection broke off within the event\n",
            );
        }
    };
    let request = match LeaseRequest::read(&head.headers, event) {
        Ok(request) => request,
        Err(invalid) => return text(StatusCode::BAD_REQUEST, format!("{invalid}\n")),
    };
    let leased = worker.borrow_mut().lease(request);
    let answered = match leased {
        Ok(answer) => answer.await,
        Err(refusal) => Ok(Err(refusal)),
    };
    match answered {
        Ok(Ok(Answered::Whole(answer))) => control(answer.into_response()),
        Ok(Ok(Answered::Stream(answer))) => streamed(answer, open),
        Ok(Err(reason)) => {
            let refusal = LeaseRefusal::new(reason, worker.borrow().status());
            control(refusal.into_response())
        }
        // The instance ended before the invocation was answered. The handler may have run.
        Err(_) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the instance has ended\n",
        ),
    }
}

/// Accepts a mark. The response does not wait for the record, which appears in the log.
async fn mark(
    worker: &Shared,
    request: Request<impl Body<Data = Bytes> + Unpin>,
) -> ControlResponse {
    let body = match body::read(request.into_body(), PAYLOAD_LIMIT, usize::MAX).await {
        Whole::Complete(body) => body,
        Whole::TooLarge | Whole::Broken(_) => Bytes::new(),
    };
    match mark::read(&body) {
        Some(mark) => {
            worker.borrow_mut().mark(mark.to_owned());
            text(StatusCode::ACCEPTED, "")
        }
        None => text(
            StatusCode::BAD_REQUEST,
            "a mark has 1 to 64 letters, digits and hyphens\n",
        ),
    }
}

/// Passes a streamed response on while it comes. If the instance ends before the outcome is known, the stream
/// ends without trailers.
fn streamed(answer: AnswerStream, open: OpenRequest) -> ControlResponse {
    let AnswerStream { head, pieces, end } = answer;
    let frames = stream::unfold(
        (pieces, Some(end), open),
        |(mut pieces, end, open)| async move {
            let mut end = end?;
            tokio::select! {
                // First: the end of a complete stream comes after its last piece.
                biased;
                Some(piece) = pieces.recv() => {
                    Some((Ok(Frame::data(piece)), (pieces, Some(end), open)))
                }
                ended = &mut end => {
                    let trailers = ended.ok()?.into_trailers();
                    Some((Ok(Frame::trailers(trailers)), (pieces, None, open)))
                }
            }
        },
    );
    head.into_response(Box::pin(StreamBody::new(frames)))
}

/// Counts a gateway's request as open until it is dropped, which happens when the connection breaks as well.
struct OpenRequest(WeakShared);

impl OpenRequest {
    fn of(worker: &Shared) -> Self {
        worker.borrow_mut().follow();
        OpenRequest(Rc::downgrade(worker))
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        if let Some(worker) = self.0.upgrade() {
            worker.borrow_mut().unfollow();
        }
    }
}

/// Streams the present status, then each change, until the instance ends or the gateway disconnects. A gateway that takes
/// records gets them in between, and acknowledges them in the body of this request.
fn status(worker: &Shared, instance: Option<&str>, request: Request<Incoming>) -> ControlResponse {
    let Some(mut changes) = worker.borrow().follow_status() else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "the instance is ending\n");
    };
    changes.mark_changed();
    let takes = records::are_taken(request.headers());
    let log = worker.borrow().log();
    let taker = log.relay().filter(|_| takes).map(Relay::taker).map(Rc::new);
    if let Some(taker) = taker.clone() {
        // It ends with the request, or with the connection.
        tokio::task::spawn_local(read_acknowledgements(taker, request.into_body()));
    }
    let is_taken = taker.is_some();
    let statuses = Statuses {
        changes,
        taker,
        is_ending: false,
        _open: OpenRequest::of(worker),
    };
    let lines = stream::unfold(statuses, |mut statuses| async move {
        let lines = statuses.next().await?;
        Some((Ok(Frame::data(lines)), statuses))
    });
    let mut response: ControlResponse = Response::new(Box::pin(StreamBody::new(lines)));
    if is_taken {
        records::take(response.headers_mut());
    }
    if let Some(name) = instance.and_then(|name| HeaderValue::try_from(name).ok()) {
        response.headers_mut().insert(status::INSTANCE, name);
    }
    response
}

async fn read_acknowledgements(taker: Rc<Taker>, body: Incoming) {
    let mut lines = Lines::new(body, records::ACKNOWLEDGEMENT_LIMIT);
    while let Ok(Some(line)) = lines.next().await {
        if let Some(sequence) = records::read_acknowledgement(&line) {
            taker.acknowledge(sequence);
        }
    }
}

/// What one status stream sends.
struct Statuses {
    changes: watch::Receiver<Status>,
    taker: Option<Rc<Taker>>,
    /// No status follows.
    is_ending: bool,
    _open: OpenRequest,
}

impl Statuses {
    /// The next lines. `None`: the instance has ended, and the gateway has all its records or did not take them in time.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.is_ending {
            let records = async {
                match &self.taker {
                    Some(taker) => taker.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // A status waits for one batch of records at most.
                biased;
                changed = self.changes.changed() => match changed {
                    Ok(()) => {
                        let status = *self.changes.borrow_and_update();
                        return Some(format!("{}\n", status::write(status)).into());
                    }
                    Err(_) => self.is_ending = true,
                },
                records = records => return Some(records),
            }
        }
        let taker = self.taker.as_ref()?;
        if let Some(records) = taker.take() {
            return Some(records);
        }
        taker.handed_over().await;
        None
    }
}
