//! The other gateways, as `http::invoke` knows them: calls of functions that they own go to them.
//!
//! `cluster::peers` is the way there; a gateway on a laptop has none. A call is forwarded at most
//! [`HOPS`] times, and sent again only if it provably never started (rule 2).

use std::fmt::Debug;

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};
use pilotlight_core::function::FunctionName;

use crate::backend::Promise;

/// How often a call has been forwarded.
const HOPS_HEADER: HeaderName = HeaderName::from_static("pilotlight-hops");
/// On an error that a peer answers: the event went to no instance, and may be tried elsewhere.
pub(crate) const NOT_STARTED: HeaderName = HeaderName::from_static("pilotlight-not-started");
/// The trace of an invocation, on a call and on its answer (`pilotlight_core::invoke::trace`).
pub(crate) const TRACE: HeaderName = HeaderName::from_static("x-amzn-trace-id");
/// Gateways that disagree for a moment about an owner send a call back and forth, but not for ever.
pub(crate) const HOPS: u16 = 3;

/// Meant for one connection, or for the gateway that was called.
const OWN_HEADERS: [HeaderName; 5] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::TRANSFER_ENCODING,
];

pub(crate) trait Peers: Debug + Send + Sync {
    /// Sends a call to the gateway that owns the function.
    fn forward<'a>(
        &'a self,
        function: &'a FunctionName,
        request: Request<Bytes>,
    ) -> Promise<'a, Forwarded>;

    /// What the others have at `/metrics`; nothing of those that do not answer.
    fn metrics(&self) -> Promise<'_, Vec<String>>;
}

/// What became of a call that was forwarded.
#[derive(Debug)]
pub(crate) enum Forwarded {
    Answered(Response),
    /// It went to no instance.
    NotStarted,
    /// The peer was lost before it answered.
    Lost,
}

pub(crate) fn hops(headers: &HeaderMap) -> u16 {
    let hops = headers.get(HOPS_HEADER);
    let hops = hops.and_then(|hops| hops.to_str().ok()?.parse().ok());
    hops.unwrap_or(0)
}

/// The call as it was made, one hop further, with the trace that it has been given.
pub(crate) fn next_hop(
    uri: &Uri,
    headers: &HeaderMap,
    trace: HeaderValue,
    payload: Bytes,
) -> Request<Bytes> {
    let mut request = Request::new(payload);
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = uri.clone();
    let further = request.headers_mut();
    further.clone_from(headers);
    for header in OWN_HEADERS {
        further.remove(header);
    }
    further.insert(TRACE, trace);
    further.insert(
        HOPS_HEADER,
        HeaderValue::from(hops(headers).saturating_add(1)),
    );
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_hop_has_the_callers_headers_and_counts() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("gateway"));
        headers.insert("x-amz-log-type", HeaderValue::from_static("Tail"));
        let uri = Uri::from_static("/2015-03-31/functions/hello/invocations?Qualifier=1");
        let trace = HeaderValue::from_static("Root=1");
        let next_hop = |headers| next_hop(&uri, headers, trace.clone(), Bytes::new());
        let first = next_hop(&headers);
        assert_eq!(hops(&headers), 0);
        assert_eq!(hops(first.headers()), 1);
        assert!(!first.headers().contains_key(header::HOST));
        assert_eq!(first.headers()["x-amz-log-type"], "Tail");
        assert_eq!(first.headers()["x-amzn-trace-id"], "Root=1");
        let second = next_hop(first.headers());
        assert_eq!((hops(second.headers()), second.uri()), (2, &uri));
    }
}
