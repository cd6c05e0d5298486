//! The Runtime API for the runtime process (contract §1), on a loopback port of its own.
//!
//! Owns its paths, headers and error names. Reads what the runtime posts and hands it to
//! `worker`, which knows whether the call is allowed; `control_api` is the gateway's side.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use pilotlight_core::instance::Refusal;
use pilotlight_wire::lease;

use crate::body::{self, Payload};
use crate::connection::Listener;
use crate::invocation::{Delivery, Posted};
use crate::response::{self, JSON};
use crate::streamed::{self, ERROR_TYPE};
use crate::worker::Shared;

const REQUEST_ID: HeaderName = HeaderName::from_static("lambda-runtime-aws-request-id");
const DEADLINE: HeaderName = HeaderName::from_static("lambda-runtime-deadline-ms");
const FUNCTION_ARN: HeaderName = HeaderName::from_static(lease::FUNCTION_ARN);
const TRACE_ID: HeaderName = HeaderName::from_static(lease::TRACE_ID);
const CLIENT_CONTEXT: HeaderName = HeaderName::from_static(lease::CLIENT_CONTEXT);

/// A request's head may hold an X-Ray cause of almost 1 MiB. Trailers, which tell an error as well, have
/// the same bound.
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
            // The documented spelling: some clients compare it so.
            .title_case_headers(true)
            .max_buf_size(HEAD_LIMIT)
            .max_header_size(HEAD_LIMIT)
            .serve_connection(TokioIo::new(stream), service);
        // A runtime that breaks off calls again, or its exit is seen.
        tokio::task::spawn_local(async move { connection.await.ok() });
    }
}

enum Call<'a> {
    Next,
    Response(&'a str),
    Error(&'a str),
    InitError,
    Restore,
    Ping,
}

fn parse<'a>(method: &Method, path: &'a str) -> Option<Call<'a>> {
    let path = path.strip_prefix("/2018-06-01")?;
    match (method, path) {
        (&Method::GET, "/runtime/invocation/next") => return Some(Call::Next),
        (&Method::POST, "/runtime/init/error") => return Some(Call::InitError),
        (&Method::GET, "/runtime/restore/next") => return Some(Call::Restore),
        (&Method::POST, "/runtime/restore/error") => return Some(Call::Restore),
        (&Method::GET, "/ping") => return Some(Call::Ping),
        (&Method::POST, _) => {}
        _ => return None,
    }
    match path.strip_prefix("/runtime/invocation/")?.split_once('/')? {
        (id, "response") => Some(Call::Response(id)),
        (id, "error") => Some(Call::Error(id)),
        _ => None,
    }
}

pub(crate) async fn answer(
    worker: &Shared,
    request: Request<impl Body<Data = Bytes> + Unpin>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let call = parse(&head.method, head.uri.path());
    if let Some(Call::Next) = call {
        return next(worker).await;
    }
    // Read in any case: who is refused in the middle of its body cannot read the refusal.
    let (payload, trailers) = body::read_with_trailers(body).await;
    let headers = head.headers;
    match call {
        Some(Call::Response(_)) if !streamed::is_known_mode(&headers) => refuse_mode(),
        Some(Call::Response(id)) => match (payload, streamed::error(&trailers)) {
            (Payload::Truncated, _) => truncated(),
            (_, Some(body)) => {
                let posted = error(&trailers, body, "Function.Unknown");
                accepted(worker.borrow_mut().fail(id, posted))
            }
            (Payload::Complete(body), None) => {
                let posted = Posted {
                    body,
                    content_type: content_type(&headers),
                    error_type: None,
                };
                accepted(worker.borrow_mut().respond(id, posted))
            }
            (Payload::TooLarge, None) => accepted(worker.borrow_mut().respond_too_large(id)),
        },
        Some(Call::Error(id)) => match payload {
            Payload::Complete(body) => accepted(
                worker
                    .borrow_mut()
                    .fail(id, error(&headers, body, "Function.Unknown")),
            ),
            Payload::TooLarge => accepted(worker.borrow_mut().respond_too_large(id)),
            Payload::Truncated => truncated(),
        },
        Some(Call::InitError) => match payload {
            Payload::Complete(body) => accepted(worker.borrow_mut().fail_init(error(
                &headers,
                body,
                "Runtime.Unknown",
            ))),
            Payload::TooLarge => too_large(),
            Payload::Truncated => truncated(),
        },
        Some(Call::Restore) => response::error(
            StatusCode::FORBIDDEN,
            "InvalidStateTransition",
            "This instance was not started from a snapshot.",
        ),
        Some(Call::Ping) => Response::new(Full::new(Bytes::from_static(b"pong"))),
        Some(Call::Next) | None => {
            let message = format!(
                "{} {} is not a call of the Runtime API",
                head.method, head.uri
            );
            response::error(StatusCode::NOT_FOUND, "ResourceNotFound", &message)
        }
    }
}

async fn next(worker: &Shared) -> Response<Full<Bytes>> {
    let called = worker.borrow_mut().next();
    match called {
        Ok(delivery) => match delivery.await {
            Ok(delivery) => delivered(delivery),
            Err(_) => response::error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalServerError",
                "The instance ends.",
            ),
        },
        Err(refusal) => refused(refusal),
    }
}

fn delivered(Delivery { call, deadline_ms }: Delivery) -> Response<Full<Bytes>> {
    let mut response = response::json(StatusCode::OK, call.event);
    let headers = response.headers_mut();
    let request_id = HeaderValue::from_str(&call.request_id).expect("it came as a header value");
    headers.insert(REQUEST_ID, request_id);
    headers.insert(DEADLINE, deadline_ms.into());
    headers.insert(FUNCTION_ARN, call.function_arn);
    if let Some(trace_id) = call.trace_id {
        headers.insert(TRACE_ID, trace_id);
    }
    if let Some(context) = call.client_context {
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
                "This call is not allowed in the runtime's present state.",
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
        "The request's body broke off.",
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

/// `(Runtime|Function)\.[A-Z][a-zA-Z]+`
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
    fn the_calls_of_the_runtime_api_are_known_and_no_others() {
        let known = |method, path| parse(&method, path).is_some();
        assert!(known(Method::GET, "/2018-06-01/runtime/invocation/next"));
        assert!(known(
            Method::POST,
            "/2018-06-01/runtime/invocation/8c1d/response"
        ));
        assert!(known(
            Method::POST,
            "/2018-06-01/runtime/invocation/8c1d/error"
        ));
        assert!(!known(Method::POST, "/2018-06-01/runtime/invocation/next"));
        assert!(!known(
            Method::GET,
            "/2018-06-01/runtime/invocation/8c1d/response"
        ));
        assert!(!known(Method::GET, "/runtime/invocation/next"));
    }
}
