//! What lets requests in, and knows when nobody comes any more.
//!
//! A gateway on its way up or down has each connection closed with the answer, so that callers come
//! to another one, and none meets a connection that is just being closed. One that is told to end
//! serves on until no call has come for [`QUIET`]: on a busy machine, nodes learn late that it goes.

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

/// Without a call for so long, nobody takes this gateway for one that serves.
const QUIET: Duration = Duration::from_secs(2);
/// Callers that do not heed the end of a connection are left at last.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub(crate) struct Door {
    are_deployed: watch::Receiver<bool>,
    /// None where this is the only gateway.
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

    /// Returns when the gateway has been told to end, and nobody calls any more.
    pub(crate) async fn closes(self) {
        self.stop.cancelled().await;
        let calls = async { while timeout(QUIET, self.calls.notified()).await.is_ok() {} };
        if timeout(LIMIT, calls).await.is_err() {
            tracing::warn!("calls still come, though the gateway is no endpoint any more");
        }
    }
}

/// Nobody is told of a function that it does not exist before all are known.
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
    async fn a_gateway_that_is_told_to_end_waits_for_calls_to_cease() {
        let door = door();
        let closes = tokio::spawn(door.clone().closes());
        advance(LIMIT).await;
        assert!(!closes.is_finished(), "nobody has told it to end");
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
    async fn it_does_not_wait_for_ever() {
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
