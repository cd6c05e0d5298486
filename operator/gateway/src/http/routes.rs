//! Which handler answers which path, for each of the three listeners.
//!
//! ```text
//! api      callers: the Invoke API, management, logs, the state of all gateways, STS, CloudWatch Logs
//! parts    other gateways and the controller: invocations that are passed on, state, logs;
//!          `cluster` adds the demand
//! status   probes and metrics
//! ```
//!
//! The handlers are one file for each API beside this one. No listener serves the paths of another. A path that
//! it does not have is answered with the documented error, after its body has been read.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{delete, get, post};
use http::Uri;
use pilotlight_wire::invoke::INVOKE_PATH;
use pilotlight_wire::logs::LOGS_PATH;
use pilotlight_wire::state::STATE_PATH;

use super::errors::ApiError;
use super::{
    cloudwatch, events, invoke, logs, management, part_logs, parts, schedules, state, status, sts,
};
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
        .route(
            "/2014-11-13/functions/{name}/invoke-async",
            post(invoke::invoke_async),
        )
        .route(
            "/2014-11-13/functions/{name}/invoke-async/",
            post(invoke::invoke_async),
        )
        .route("/pilotlight/v1/functions/{name}/logs", get(logs::logs))
        .route("/pilotlight/v1/schedules", get(schedules::list))
        .route(
            "/pilotlight/v1/functions/{name}/events",
            get(events::waiting).delete(events::purge),
        )
        .route(
            "/pilotlight/v1/functions/{name}/events/dead",
            delete(events::purge_dead),
        )
        .route(
            "/pilotlight/v1/functions/{name}/events/replay",
            post(events::replay),
        )
        .route(STATE_PATH, get(state::of_all))
        .route("/", get(sts::sts).post(root));
    complete(routes, app)
}

/// Services whose calls all go to one path: a header tells them apart.
async fn root(state: State<Arc<App>>, request: Request) -> Response {
    match cloudwatch::is_one(request.headers()) {
        true => cloudwatch::cloudwatch(state.0, request).await,
        false => sts::sts(state, request).await,
    }
}

pub(crate) fn parts(app: Arc<App>) -> Router {
    let routes = Router::new()
        .route(INVOKE_PATH, post(parts::invoke))
        .route(STATE_PATH, get(state::own))
        .route(LOGS_PATH, get(part_logs::logs));
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
