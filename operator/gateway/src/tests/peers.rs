//! The other gateway, if a test has one: calls go from one's routes to the other's, without a connection.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::Request;
use pilotlight_core::function::FunctionName;
use tower::ServiceExt;

use super::stage::Stage;
use crate::backend::Promise;
use crate::peers::{Forwarded, NOT_STARTED, Peers};

#[derive(Debug, Default)]
pub(super) struct Other {
    routes: Mutex<Option<Router>>,
    /// Calls that were sent to it.
    pub(super) calls: AtomicUsize,
}

impl Other {
    pub(super) fn is(&self, stage: &Stage) {
        let mut routes = self.routes.lock().expect("one thread");
        *routes = Some(stage.gateway.routes());
    }
}

impl Peers for Other {
    fn forward<'a>(
        &'a self,
        _: &'a FunctionName,
        request: Request<Bytes>,
    ) -> Promise<'a, Forwarded> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let routes = self.routes.lock().expect("one thread").clone();
        Box::pin(async move {
            let Some(routes) = routes else {
                return Forwarded::Lost;
            };
            let answered = routes.oneshot(request.map(Body::from)).await;
            let response = answered.expect("routes do not fail");
            match response.headers().contains_key(NOT_STARTED) {
                true => Forwarded::NotStarted,
                false => Forwarded::Answered(response),
            }
        })
    }

    fn metrics(&self) -> Promise<'_, Vec<String>> {
        Box::pin(async { vec!["# of the other\n".to_owned()] })
    }
}
