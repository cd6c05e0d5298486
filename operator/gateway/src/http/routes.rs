//! Which handler answers which path, for each of the three listeners.
//!
//! ```text
//! api      callers: the Invoke API, management, logs, the state of all gateways, STS
//! parts    other gateways and the controller: invocations that are passed on, state; `cluster` adds
//!          the demand
//! status   probes and metrics
//! ```
//!
//! The handlers are one file for each API beside this one. No listener serves the paths of another. A path that
//! it does not have is answered with the documented error, after its body has been read.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, post};
use http::Uri;
use pilotlight_wire::invoke::INVOKE_PATH;
use pilotlight_wire::state::STATE_PATH;

use super::errors::ApiError;
use super::{invoke, logs, management, parts, state, status, sts};
use crate::app::App;

pub(crate) fn api(app: Arc<App>) -> Router {
    let routes = Router::new()
        .route("/2015-03-31/functions", get(management::list))
        .route("/2015-03-31/functions/", get(management::list))
        .route("/2015-03-31/functions/{name}", get(management::get))
        .route(
            "/2015-03-31/functions/{name}/configuration",
            get(management::get_configuration),
        )
        .route(
            "/2015-03-31/functions/{name}/invocations",
            post(invoke::invoke),
        )
        .route("/pilotlight/v1/functions/{name}/logs", get(logs::logs))
        .route(STATE_PATH, get(state::of_all))
        .route("/", get(sts::sts).post(sts::sts));
    complete(routes, app)
}

pub(crate) fn parts(app: Arc<App>) -> Router {
    let routes = Router::new()
        .route(INVOKE_PATH, post(parts::invoke))
        .route(STATE_PATH, get(state::own));
    complete(routes, app)
}

pub(crate) fn status(app: Arc<App>) -> Router {
    let routes = Router::new()
        .route("/healthz", get(status::alive))
        .route("/readyz", get(status::ready))
        .route("/metrics", get(status::metrics));
    complete(routes, app)
}

fn complete(routes: Router<Arc<App>>, app: Arc<App>) -> Router {
    let routes = routes.fallback(unknown);
    routes.method_not_allowed_fallback(unknown).with_state(app)
}

async fn unknown(
    State(app): State<Arc<App>>,
    method: http::Method,
    uri: Uri,
    body: Body,
) -> ApiError {
    app.intake.discard(body, invoke::READ_LIMIT).await;
    ApiError::unknown_operation(&method, uri.path())
}
