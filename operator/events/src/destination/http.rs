//! A server that gets each record in a CloudEvent, in the structured mode of the HTTP binding.

use ::http::{HeaderValue, Request, header};
use bytes::Bytes;
use pilotlight_core::shown_url::ShownUrl;
use pilotlight_net::guarded::GuardedClient;

use super::outgoing::{ANSWER_LIMIT, Outgoing, Undelivered};
use super::receiver::HttpReceiver;
use super::verdict;
use crate::ended::CLOUD_EVENT;

/// X-Ray's header, as functions get it.
const TRACE: &str = "x-amzn-trace-id";

pub(super) async fn send(
    client: &GuardedClient,
    to: &HttpReceiver,
    outgoing: &Outgoing,
) -> Result<(), Undelivered> {
    let request = request(to, outgoing)?;
    let answer = client.exchange(request, to.authorities.as_ref(), ANSWER_LIMIT);
    let answer = answer
        .await
        .map_err(|error| Undelivered::Later(error.to_string()))?;
    let shown = ShownUrl(&to.url.0).to_string();
    verdict::of_status(&shown, answer.status().as_u16()).map_or(Ok(()), Err)
}

pub(super) fn request(
    to: &HttpReceiver,
    outgoing: &Outgoing,
) -> Result<Request<Bytes>, Undelivered> {
    let request = Request::post(&to.url.0).body(outgoing.cloud_event.clone());
    let mut request = request.map_err(|_| {
        Undelivered::Never(format!(
            "{} is no address of a web server",
            ShownUrl(&to.url.0)
        ))
    })?;
    let headers = request.headers_mut();
    let agent = concat!("pilotlight/", env!("CARGO_PKG_VERSION"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    if let Ok(trace) = HeaderValue::try_from(&outgoing.trace) {
        headers.insert(TRACE, trace);
    }
    for (name, value) in &to.headers {
        headers.insert(name, value.clone());
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CLOUD_EVENT));
    Ok(request)
}
