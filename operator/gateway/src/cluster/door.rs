//! Which requests the gateway's listeners accept, and when the gateway may stop listening.
//!
//! A gateway that is starting or ending sends `Connection: close` with each answer. Callers then connect to another
//! gateway, and never send a request on a connection that is just being closed. After SIGTERM the gateway serves
//! until no call has come for [`QUIET`], since a busy node learns late that the gateway ends. Fed by all requests,
//! by the members of `peers` and by the watch of Functions (`functions`). Never reads the body of a request.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, Version, header};
use pilotlight_wire::invoke::INVOKE_PATH;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::peers::Members;

/// After this time without a call, no node sends requests to this gateway any more.
const QUIET: Duration = Duration::from_secs(2);
/// The longest time for which an ending gateway serves callers that keep their connections.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub(crate) struct Door {
    are_deployed: watch::Receiver<bool>,
    /// `None` if this is the only gateway.
    members: Option<watch::Receiver<Members>>,
    stop: CancellationToken,
    calls: Arc<Notify>,
}

impl Door {
    pub(crate) fn new(
        are_deployed: watch::Receiver<bool>,
        members: Option<watch::Receiver<Members>>,
        stop: CancellationToken,
    ) -> Self {
        Door {
            are_deployed,
            members,
            stop,
            calls: Arc::default(),
        }
    }

    fn is_aside(&self) -> bool {
        let members = self.members.as_ref();
        self.stop.is_cancelled() || members.is_some_and(|members| members.borrow().is_aside())
    }

    /// Returns when the gateway has been asked to end and no call comes any more, or [`LIMIT`] has passed.
    pub(crate) async fn closes(self) {
        self.stop.cancelled().await;
        let calls = async { while timeout(QUIET, self.calls.notified()).await.is_ok() {} };
        if timeout(LIMIT, calls).await.is_err() {
            tracing::warn!("calls still arrive, though the gateway is no longer an endpoint");
        }
    }
}

/// The middleware of all listeners. Until all Functions are known, it answers with an error, so that no caller
/// learns of an existing function that it does not exist.
pub(crate) async fn pass(State(door): State<Door>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path.starts_with("/2015-03-31/") || path == INVOKE_PATH {
        door.calls.notify_one();
    }
    if !*door.are_deployed.borrow() && !matches!(path, "/healthz" | "/metrics") {
        let text = "the Functions are not known yet: is the API server away?\n";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    let version = request.version();
    let mut response = next.run(request).await;
    if version == Version::HTTP_11 && door.is_aside() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, advance};

    use super::*;

    fn door() -> Door {
        let (_, are_deployed) = watch::channel(true);
        Door::new(are_deployed, None, CancellationToken::new())
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_is_asked_to_end_waits_until_no_call_comes() {
        let door = door();
        let closes = tokio::spawn(door.clone().closes());
        advance(LIMIT).await;
        assert!(!closes.is_finished(), "it was not asked to end");
        door.stop.cancel();
        for _ in 0..5 {
            advance(QUIET / 2).await;
            door.calls.notify_one();
            tokio::task::yield_now().await;
            assert!(!closes.is_finished());
        }
        let quiet = Instant::now();
        closes.await.unwrap();
        assert_eq!(quiet.elapsed().as_secs(), QUIET.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_ends_waits_no_longer_than_the_limit() {
        let door = door();
        door.stop.cancel();
        let (begun, calls) = (Instant::now(), door.calls.clone());
        let calling = tokio::spawn(async move {
            loop {
                calls.notify_one();
                tokio::time::sleep(QUIET / 2).await;
            }
        });
        door.closes().await;
        calling.abort();
        assert_eq!(begun.elapsed().as_secs(), LIMIT.as_secs());
    }
}
