//! `/pilotlight/v1/functions/{name}/events`: how many events of a function have not ended, its dead letters, their replay and
//! their removal.
//!
//! Reads the queue through `events`. The events' content is shown to nobody.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use pilotlight_core::access::{Resource, Verb};
use pilotlight_core::events::retry::EventTime;
use pilotlight_core::ids::{FunctionKey, PoolId};
use pilotlight_events::queue::QueueError;
use pilotlight_wire::events::{EventsPurged, EventsReplayed, EventsSummary};

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
    let dead = events.dead_letters(&function).await;
    let dead = dead.map_err(unavailable)?;
    let (millis, found) = (|time: EventTime| time.0, found.as_ref());
    Ok(Json(EventsSummary {
        count: found.map_or(0, |events| events.count),
        bytes: found.and_then(|events| events.bytes),
        oldest: found.and_then(|events| events.oldest).map(millis),
        due: found.and_then(|events| events.due).map(millis),
        dead: dead.count,
        oldest_dead: dead.oldest.map(millis),
    }))
}

pub(crate) async fn replay(
    State(app): State<Arc<App>>,
    caller: Caller,
    Readable(Path(name)): Readable<Path<String>>,
) -> Result<Json<EventsReplayed>, ApiError> {
    let (function, events) = of(&app, &caller, Verb::Invoke, &name).await?;
    let replayed = events.replay(&function).await.map_err(unavailable)?;
    Ok(Json(EventsReplayed { replayed }))
}

pub(crate) async fn purge_dead(
    State(app): State<Arc<App>>,
    caller: Caller,
    Readable(Path(name)): Readable<Path<String>>,
) -> Result<Json<EventsPurged>, ApiError> {
    let (function, events) = of(&app, &caller, Verb::Update, &name).await?;
    let purged = events.purge_dead(&function).await.map_err(unavailable)?;
    Ok(Json(EventsPurged { purged }))
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
    if matches!(error, QueueError::Full(_)) {
        return ApiError::events_full();
    }
    ApiError::service("the event queue cannot answer; the gateway's log says why")
}
