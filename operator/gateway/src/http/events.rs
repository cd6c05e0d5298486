//! `/pilotlight/v1/functions/{name}/events`: how many events of a function have not ended, and their removal.
//!
//! Reads the queue through `events`. The events' content is shown to nobody.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use pilotlight_core::access::{Resource, Verb};
use pilotlight_core::ids::{FunctionKey, PoolId};
use pilotlight_events::queue::QueueError;
use pilotlight_wire::events::{EventsPurged, EventsSummary};

use super::access::allow;
use super::errors::{ApiError, Readable};
use super::function_ref::FunctionRef;
use crate::access::Caller;
use crate::app::App;
use crate::events::Events;

pub(crate) async fn waiting(
    State(app): State<Arc<App>>,
    caller: Caller,
    Readable(Path(name)): Readable<Path<String>>,
) -> Result<Json<EventsSummary>, ApiError> {
    let (function, events) = of(&app, &caller, Verb::Get, &name).await?;
    let found = events.of(&function).await.map_err(unavailable)?;
    let summary = found.map(|events| EventsSummary {
        count: events.count,
        bytes: events.bytes,
        oldest: events.oldest.map(|oldest| oldest.0),
        due: events.due.map(|due| due.0),
    });
    Ok(Json(summary.unwrap_or_default()))
}

pub(crate) async fn purge(
    State(app): State<Arc<App>>,
    caller: Caller,
    Readable(Path(name)): Readable<Path<String>>,
) -> Result<Json<EventsPurged>, ApiError> {
    let (function, events) = of(&app, &caller, Verb::Update, &name).await?;
    let purged = events.purge(&function).await.map_err(unavailable)?;
    Ok(Json(EventsPurged { purged }))
}

/// The function, which need not exist any more: its events can outlive it.
async fn of<'a>(
    app: &'a App,
    caller: &Caller,
    verb: Verb,
    name: &str,
) -> Result<(FunctionKey, &'a Events), ApiError> {
    let function = FunctionRef::parse(name, None)?;
    let target = function.target(&app.scope);
    let named = target.as_ref().map(PoolId::name);
    allow(app, caller, verb, Resource::Function, named).await?;
    let target = target.ok_or_else(|| function.missing(app))?;
    let events = app.events.as_ref().ok_or_else(|| {
        ApiError::invalid_parameter("this gateway has no queue for events of asynchronous calls")
    })?;
    Ok((target.function, events))
}

fn unavailable(error: QueueError) -> ApiError {
    tracing::warn!(%error, "the event queue cannot answer");
    ApiError::service("the event queue cannot answer; the gateway's log says why")
}
