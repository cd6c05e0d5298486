//! `GET /pilotlight/v1/state`: the functions of this gateway or, on the public API, of all gateways.
//!
//! Reads the functions from the catalog and their counts from `metrics`; `peers` fetches the states of the other
//! gateways. It never asks the driver, so a busy driver does not delay it.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use pilotlight_core::access::{Resource, Verb};
use pilotlight_core::identity::{self, Role};
use pilotlight_wire::state::{FunctionSummary, State};

use super::access::allow;
use super::errors::ApiError;
use super::parts;
use crate::access::Caller;
use crate::app::App;
use crate::catalog::Entry;

/// This gateway's own state, for its peers.
pub(crate) async fn own(
    Shared(app): Shared<Arc<App>>,
    caller: Option<Extension<identity::Caller>>,
) -> Response {
    match parts::allow(caller, Role::Gateway) {
        Ok(()) => Json(state(&app)).into_response(),
        Err(refusal) => refusal,
    }
}

/// The merged state of all gateways. It lists the gateways that did not answer.
pub(crate) async fn of_all(
    Shared(app): Shared<Arc<App>>,
    caller: Caller,
) -> Result<Json<State>, ApiError> {
    allow(&app, &caller, Verb::List, Resource::Function, None).await?;
    let mut all = state(&app);
    if let Some(peers) = &app.peers {
        for (address, state) in peers.states().await {
            match state {
                Some(state) => all.merge(state),
                None => all.unanswered.push(address),
            }
        }
    }
    Ok(Json(all))
}

fn state(app: &App) -> State {
    let catalog = app.functions.list();
    State {
        functions: catalog.values().map(|entry| function(app, entry)).collect(),
        phases: app.metrics.phases(),
        unanswered: Vec::new(),
    }
}

fn function(app: &App, entry: &Entry) -> FunctionSummary {
    let (deployment, metrics) = (&entry.deployment, &entry.metrics);
    FunctionSummary {
        namespace: deployment.pool.namespace().clone(),
        name: deployment.name().clone(),
        qualifier: deployment.pool.qualifier.to_string(),
        revision: deployment.revision.as_str().into(),
        owner: entry.is_owned.then(|| app.address.to_string()),
        instances: metrics.instances(),
        queued: metrics.queued(),
        limits: app.limits(deployment),
        totals: metrics.totals(),
        durations: metrics.durations(),
    }
}
