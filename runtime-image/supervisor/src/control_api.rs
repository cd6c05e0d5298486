//! The API for gateways: lease, status, mark, drain (`pilotlight_wire`).
//!
//! Owns the gateways' connections. Decodes their requests, passes them to `worker`, and encodes its answers.
//! `runtime_api` is the other end of a lease. Never decides whether a lease is granted: core does.

use std::rc::Rc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use pilotlight_core::instance::phases::Phases;
use pilotlight_core::instance::{Refusal, Status};
use pilotlight_wire::claim::CLAIM_PATH;
use pilotlight_wire::drain;
use pilotlight_wire::lease;
use pilotlight_wire::mark;
use pilotlight_wire::status;
use tokio::sync::{Notify, watch};

use crate::body::{self, Payload};
use crate::claim;
use crate::connection::{Gateways, Listener};
use crate::invocation::{LeaseAnswer, LeaseRequest};
use crate::response::{ControlResponse, phases_value, text};
use crate::worker::{Shared, WeakShared};

/// Serves until `end`. Then answers requests on open connections, with refusals, until the gateways have closed
/// these; the end of a status stream tells a gateway to do so. `instance`: the name that the claim gave this
/// instance, if there was a claim.
pub(crate) async fn serve(
    listener: Listener,
    worker: Shared,
    instance: Option<String>,
    end: Rc<Notify>,
) {
    let instance: Option<Rc<str>> = instance.map(Rc::from);
    let connections = Gateways::default();
    loop {
        let stream = tokio::select! {
            stream = listener.next() => stream,
            () = end.notified() => break,
        };
        let (worker, instance) = (worker.clone(), instance.clone());
        connections.serve(stream, move |request| {
            let (worker, instance) = (worker.clone(), instance.clone());
            async move { answer(&worker, instance.as_deref(), request).await }
        });
    }
    connections.wait_until_closed().await;
}

async fn answer(
    worker: &Shared,
    instance: Option<&str>,
    request: Request<Incoming>,
) -> ControlResponse {
    match (request.method(), request.uri().path()) {
        (&Method::POST, lease::LEASE_PATH) => lease(worker, request).await,
        (&Method::GET, status::STATUS_PATH) => status(worker),
        (&Method::POST, drain::DRAIN_PATH) => {
            worker.borrow_mut().drain();
            text(StatusCode::ACCEPTED, "")
        }
        (&Method::POST, mark::MARK_PATH) => mark(worker, request).await,
        (&Method::POST, CLAIM_PATH) => claim::too_late(instance),
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
    let _open = OpenRequest::of(worker);
    let (head, body) = request.into_parts();
    let event = match body::read(body).await {
        Payload::Complete(event) => event,
        Payload::TooLarge => {
            return text(StatusCode::PAYLOAD_TOO_LARGE, "the event is too large\n");
        }
        Payload::Truncated => {
            return text(
                StatusCode::BAD_REQUEST,
                "the connection broke off within the event\n",
            );
        }
    };
    let Some(request) = lease_request(&head.headers, event) else {
        let missing = "a lease needs a request id and a function ARN\n";
        return text(StatusCode::BAD_REQUEST, missing);
    };
    let leased = worker.borrow_mut().lease(request);
    let answered = match leased {
        Ok(answer) => answer.await,
        Err(refusal) => Ok(Err(refusal)),
    };
    match answered {
        Ok(Ok(answer)) => answer_response(answer),
        Ok(Err(refusal)) => refusal_response(worker.borrow().status(), refusal),
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
    let mark = match body::read(request.into_body()).await {
        Payload::Complete(mark) => String::from_utf8(mark.into()).ok(),
        Payload::TooLarge | Payload::Truncated => None,
    };
    match mark.filter(|mark| is_request_id(mark)) {
        Some(mark) => {
            worker.borrow_mut().mark(mark);
            text(StatusCode::ACCEPTED, "")
        }
        None => text(
            StatusCode::BAD_REQUEST,
            "a mark has 1 to 64 letters, digits and hyphens\n",
        ),
    }
}

/// `None` if a required header is missing or not valid.
fn lease_request(headers: &HeaderMap, event: Bytes) -> Option<LeaseRequest> {
    let request_id = headers.get(lease::REQUEST_ID)?.to_str().ok()?;
    Some(LeaseRequest {
        request_id: is_request_id(request_id).then(|| request_id.into())?,
        event,
        function_arn: headers.get(lease::FUNCTION_ARN)?.clone(),
        trace_id: headers.get(lease::TRACE_ID).cloned(),
        client_context: headers.get(lease::CLIENT_CONTEXT).cloned(),
        wants_tail: headers.contains_key(lease::LOG_TAIL),
        phases: headers
            .get(lease::PHASES)
            .map(|text| Phases::read(text.to_str().unwrap_or(""))),
    })
}

/// Whether the text can be a segment of the Runtime API's paths, and one word in a log record.
fn is_request_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=64).contains(&text.len()) && text != "-" && text.bytes().all(allowed)
}

fn answer_response(answer: LeaseAnswer) -> ControlResponse {
    let outcome = match answer.succeeded {
        true => lease::OUTCOME_SUCCESS,
        false => lease::OUTCOME_FUNCTION_ERROR,
    };
    let mut response: ControlResponse = Response::new(Box::pin(Full::new(answer.body)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, answer.content_type);
    headers.insert(lease::OUTCOME, HeaderValue::from_static(outcome));
    headers.insert(status::STATUS, status_value(answer.status));
    if !answer.phases.is_empty() {
        headers.insert(lease::PHASES, phases_value(&answer.phases));
    }
    if let Some(tail) = answer.tail {
        let tail = HeaderValue::try_from(BASE64_STANDARD.encode(tail));
        headers.insert(lease::LOG_TAIL, tail.expect("base64 is a header value"));
    }
    response
}

fn refusal_response(status: Status, refusal: Refusal) -> ControlResponse {
    let mut response = text(StatusCode::CONFLICT, "");
    let headers = response.headers_mut();
    let refusal = HeaderValue::try_from(refusal.to_string());
    headers.insert(
        lease::REFUSAL,
        refusal.expect("the texts of refusals are ASCII"),
    );
    headers.insert(status::STATUS, status_value(status));
    response
}

fn status_value(status: Status) -> HeaderValue {
    HeaderValue::try_from(status::write(status)).expect("a status is ASCII")
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

/// Streams the present status, then each change, until the instance ends or the gateway disconnects.
fn status(worker: &Shared) -> ControlResponse {
    let Some(mut changes) = worker.borrow().follow_status() else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "the instance is ending\n");
    };
    changes.mark_changed();
    let state = (changes, OpenRequest::of(worker));
    let lines = stream::unfold(
        state,
        |(mut changes, open): (watch::Receiver<Status>, OpenRequest)| async move {
            changes.changed().await.ok()?;
            let line = format!("{}\n", status::write(*changes.borrow_and_update()));
            Some((Ok(Frame::data(Bytes::from(line))), (changes, open)))
        },
    );
    Response::new(Box::pin(StreamBody::new(lines)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_fits_into_a_path_and_a_record() {
        for id in ["8f3c4a1e-0000-4000-8000-000000000000", "a"] {
            assert!(is_request_id(id), "{id}");
        }
        for id in ["", "-", "a b", "a/b", "a\tb", &"a".repeat(65)] {
            assert!(!is_request_id(id), "{id:?}");
        }
    }
}
