//! Which handler answers which path.
//!
//! The handlers are one file for each API beside this one. A path that no API has is answered with the
//! documented error, after its body has been read.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use http::Uri;
use pilotlight_wire::invoke::INVOKE_PATH;

use super::errors::ApiError;
use super::{invoke, logs, management, parts, status};
use crate::app::App;

pub(crate) fn routes(app: Arc<App>) -> Router {
    Router::new()
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
        .route("/pilotlight/v1/metrics", get(status::all_metrics))
        .route(INVOKE_PATH, post(parts::invoke))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(status::ready))
        .route("/metrics", get(status::metrics))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .with_state(app)
}

async fn unknown(method: http::Method, uri: Uri, body: Body) -> ApiError {
    invoke::drain(body).await;
    ApiError::unknown_operation(&method, uri.path())
}
