//! The Runtime API for the runtime process (contract §1), on a loopback port of its own.
//!
//! Owns the API's paths, headers and error names. Reads what the runtime posts and passes it to `worker`,
//! which knows whether the request is allowed in the present state. `control_api` is the gateways' side.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use pilotlight_core::instance::Refusal;
use pilotlight_core::instance::failure::PAYLOAD_LIMIT;
use pilotlight_net::body::{self, Whole};
use pilotlight_net::framing::Framed;
use pilotlight_wire::lease::{CLIENT_CONTEXT, FUNCTION_ARN, TRACE_ID};

use crate::connection::Listener;
use crate::invocation::{Delivery, Posted};
use crate::response::{self, JSON};
use crate::streamed::{self, ERROR_TYPE};
use crate::worker::Shared;

const REQUEST_ID: HeaderName = HeaderName::from_static("lambda-runtime-aws-request-id");
const DEADLINE: HeaderName = HeaderName::from_static("lambda-runtime-deadline-ms");

/// Bytes of a request's head, which may hold an X-Ray cause of almost 1 MiB. The same bound applies to
/// trailers, which can report an error as well.
const HEAD_LIMIT: usize = 2 * 1024 * 1024;

/// Serves as long as the instance lives.
pub(crate) async fn serve(listener: Listener, worker: Shared) {
    loop {
        let stream = listener.next().await;
        let worker = worker.clone();
        let service = service_fn(move |request| {
            let worker = worker.clone();
            async move { Ok::<_, Infallible>(answer(&worker, request).await) }
        });
        let connection = http1::Builder::new()
            .header_read_timeout(None)
            // The documented spelling, because some clients compare names case-sensitively.
            .title_case_headers(true)
            .max_buf_size(HEAD_LIMIT)
            .max_header_size(HEAD_LIMIT)
            .serve_connection(TokioIo::new(Framed::new(stream, ())), service);
        // A runtime process whose connection breaks sends its request again, or its exit is noticed.
        tokio::task::spawn_local(async move { connection.await.ok() });
    }
}

/// A request of the runtime process, by method and path.
enum RuntimeRequest<'a> {
    Next,
    Response(&'a str),
    Error(&'a str),
    InitError,
    Restore,
    Ping,
}

fn parse<'a>(method: &Method, path: &'a str) -> Option<RuntimeRequest<'a>> {
    let path = path.strip_prefix("/2018-06-01")?;
    match (method, path) {
        (&Method::GET, "/runtime/invocation/next") => return Some(RuntimeRequest::Next),
        (&Method::POST, "/runtime/init/error") => return Some(RuntimeRequest::InitError),
        (&Method::GET, "/runtime/restore/next") => return Some(RuntimeRequest::Restore),
        (&Method::POST, "/runtime/restore/error") => return Some(RuntimeRequest::Restore),
        (&Method::GET, "/ping") => return Some(RuntimeRequest::Ping),
        (&Method::POST, _) => {}
        _ => return None,
    }
    match path.strip_prefix("/runtime/invocation/")?.split_once('/')? {
        (id, "response") => Some(RuntimeRequest::Response(id)),
        (id, "error") => Some(RuntimeRequest::Error(id)),
        _ => None,
    }
}

pub(crate) async fn answer(
    worker: &Shared,
    request: Request<impl Body<Data = Bytes> + Unpin>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let kind = parse(&head.method, head.uri.path());
    if let Some(RuntimeRequest::Next) = kind {
        return next(worker).await;
    }
    if let Some(RuntimeRequest::Response(id)) = kind
        && streamed::is_streaming(&head.headers)
        && worker.borrow_mut().accepts_stream(id)
    {
        return stream(worker, id, &head.headers, body).await;
    }
    // Reads the body in any case: a client that is answered while it still writes may never read the answer.
    let (payload, trailers) = body::read_with_trailers(body, PAYLOAD_LIMIT, usize::MAX).await;
    let headers = head.headers;
    match kind {
        Some(RuntimeRequest::Response(_)) if !streamed::is_supported_mode(&headers) => {
            refuse_mode()
        }
        Some(RuntimeRequest::Response(id)) => match (payload, streamed::error(&trailers)) {
            (Whole::Broken(_), _) => truncated(),
            (_, Some(body)) => {
                let posted = error(&trailers, body, "Function.Unknown");
                accepted(worker.borrow_mut().fail(id, posted))
            }
            (Whole::Complete(body), None) => {
                let posted = Posted {
                    body,
                    content_type: content_type(&headers),
                    error_type: None,
                };
                accepted(worker.borrow_mut().respond(id, posted))
            }
            (Whole::TooLarge, None) => accepted(worker.borrow_mut().respond_too_large(id)),
        },
        Some(RuntimeRequest::Error(id)) => match payload {
            Whole::Complete(body) => accepted(
                worker
                    .borrow_mut()
                    .fail(id, error(&headers, body, "Function.Unknown")),
            ),
            Whole::TooLarge => accepted(worker.borrow_mut().respond_too_large(id)),
            Whole::Broken(_) => truncated(),
        },
        Some(RuntimeRequest::InitError) => match payload {
            Whole::Complete(body) => accepted(worker.borrow_mut().fail_init(error(
                &headers,
                body,
                "Runtime.Unknown",
            ))),
            Whole::TooLarge => too_large(),
            Whole::Broken(_) => truncated(),
        },
        Some(RuntimeRequest::Restore) => response::error(
            StatusCode::FORBIDDEN,
            "InvalidStateTransition",
            "This instance was not started from a snapshot.",
        ),
        Some(RuntimeRequest::Ping) => Response::new(Full::new(Bytes::from_static(b"pong"))),
        Some(RuntimeRequest::Next) | None => {
            let message = format!(
                "{} {} is not a request of the Runtime API",
                head.method, head.uri
            );
            response::error(StatusCode::NOT_FOUND, "ResourceNotFound", &message)
        }
    }
}

/// A streamed response, of which each piece goes to the gateway as it comes.
async fn stream(
    worker: &Shared,
    id: &str,
    headers: &HeaderMap,
    mut body: impl Body<Data = Bytes> + Unpin,
) -> Response<Full<Bytes>> {
    let begun = worker
        .borrow_mut()
        .begin_response(id, content_type(headers));
    let mut gateway = match begun {
        Ok(gateway) => gateway,
        Err(refusal) => {
            body::discard(body, usize::MAX).await;
            return refused(refusal);
        }
    };
    let (mut bytes, mut trailers) = (0_usize, HeaderMap::new());
    while let Some(frame) = body.frame().await {
        let piece = match frame.map(Frame::into_data) {
            Ok(Ok(piece)) => piece,
            Ok(Err(frame)) => {
                trailers = frame.into_trailers().unwrap_or_default();
                continue;
            }
            Err(_) => {
                worker.borrow_mut().abort_response(id);
                return truncated();
            }
        };
        bytes = bytes.saturating_add(piece.len());
        // What exceeds the limit is discarded, as is everything once the gateway has gone.
        if bytes <= PAYLOAD_LIMIT
            && let Some(pieces) = &gateway
            && pieces.send(piece).await.is_err()
        {
            gateway = None;
        }
    }
    // Before the outcome, so that the gateway has every piece by then.
    drop(gateway);
    match streamed::error(&trailers) {
        Some(body) => {
            let posted = error(&trailers, body, "Function.Unknown");
            accepted(worker.borrow_mut().fail(id, posted))
        }
        None => accepted(worker.borrow_mut().end_response(id, bytes)),
    }
}

async fn next(worker: &Shared) -> Response<Full<Bytes>> {
    let accepted = worker.borrow_mut().next();
    match accepted {
        Ok(delivery) => match delivery.await {
            Ok(delivery) => delivered(delivery),
            Err(_) => response::error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalServerError",
                "The instance is ending.",
            ),
        },
        Err(refusal) => refused(refusal),
    }
}

fn delivered(delivery: Delivery) -> Response<Full<Bytes>> {
    let Delivery {
        request,
        deadline_ms,
    } = delivery;
    let mut response = response::json(StatusCode::OK, request.event);
    let headers = response.headers_mut();
    let request_id = HeaderValue::from_str(&request.request_id).expect("it came as a header value");
    headers.insert(REQUEST_ID, request_id);
    headers.insert(DEADLINE, deadline_ms.into());
    headers.insert(FUNCTION_ARN, request.function_arn);
    if let Some(trace_id) = request.trace_id {
        headers.insert(TRACE_ID, trace_id);
    }
    if let Some(context) = request.client_context {
        headers.insert(CLIENT_CONTEXT, context);
    }
    response
}

fn accepted(result: Result<(), Refusal>) -> Response<Full<Bytes>> {
    match result {
        Ok(()) => response::json(
            StatusCode::ACCEPTED,
            Bytes::from_static(br#"{"status":"OK"}"#),
        ),
        Err(refusal) => refused(refusal),
    }
}

fn refused(refusal: Refusal) -> Response<Full<Bytes>> {
    match refusal {
        Refusal::ResponseTooLarge => too_large(),
        Refusal::InvalidRequestId => response::error(
            StatusCode::BAD_REQUEST,
            "InvalidRequestID",
            "Invalid request ID",
        ),
        Refusal::InvalidState | Refusal::Busy | Refusal::Starting | Refusal::Draining => {
            response::error(
                StatusCode::FORBIDDEN,
                "InvalidStateTransition",
                "The runtime may not send this request in its present state.",
            )
        }
    }
}

fn too_large() -> Response<Full<Bytes>> {
    let message = Refusal::ResponseTooLarge.to_string();
    response::error(
        StatusCode::PAYLOAD_TOO_LARGE,
        "RequestEntityTooLarge",
        &message,
    )
}

fn truncated() -> Response<Full<Bytes>> {
    response::error(
        StatusCode::BAD_REQUEST,
        "TruncatedHTTPRequest",
        "The connection broke off within the request's body.",
    )
}

fn refuse_mode() -> Response<Full<Bytes>> {
    response::error(
        StatusCode::BAD_REQUEST,
        "InvalidFunctionResponseMode",
        "Lambda-Runtime-Function-Response-Mode must be streaming or absent.",
    )
}

fn content_type(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(CONTENT_TYPE).cloned()
}

/// An error that the runtime posted, or reported in trailers. `unknown`: replaces a type that is not documented.
fn error(headers: &HeaderMap, body: Bytes, unknown: &str) -> Posted {
    let named = headers
        .get(ERROR_TYPE)
        .and_then(|value| value.to_str().ok());
    let error_type = named.map(|name| if is_documented(name) { name } else { unknown });
    let json = HeaderValue::from_static(JSON);
    Posted {
        body,
        content_type: Some(json),
        error_type: error_type.map(str::to_owned),
    }
}

/// Whether the name matches `(Runtime|Function)\.[A-Z][a-zA-Z]+`.
fn is_documented(name: &str) -> bool {
    let Some((owner, rest)) = name.split_once('.') else {
        return false;
    };
    let mut letters = rest.chars();
    matches!(owner, "Runtime" | "Function")
        && letters
            .next()
            .is_some_and(|first| first.is_ascii_uppercase())
        && rest.len() > 1
        && letters.all(|letter| letter.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_documented_error_types_are_kept() {
        for name in ["Runtime.ExitError", "Function.ResponseSizeTooLarge"] {
            assert!(is_documented(name), "{name}");
        }
        for name in [
            "unhandled",
            "Runtime.",
            "Runtime.E",
            "Runtime.exit",
            "Other.Error",
            "Runtime.A1",
        ] {
            assert!(!is_documented(name), "{name}");
        }
    }

    #[test]
    fn only_the_documented_methods_and_paths_are_recognised() {
        let is_recognised = |method, path| parse(&method, path).is_some();
        assert!(is_recognised(
            Method::GET,
            "/2018-06-01/runtime/invocation/next"
        ));
        assert!(is_recognised(
            Method::POST,
            "/2018-06-01/runtime/invocation/8c1d/response"
        ));
        assert!(is_recognised(
            Method::POST,
            "/2018-06-01/runtime/invocation/8c1d/error"
        ));
        assert!(!is_recognised(
            Method::POST,
            "/2018-06-01/runtime/invocation/next"
        ));
        assert!(!is_recognised(
            Method::GET,
            "/2018-06-01/runtime/invocation/8c1d/response"
        ));
        assert!(!is_recognised(Method::GET, "/runtime/invocation/next"));
    }
}
