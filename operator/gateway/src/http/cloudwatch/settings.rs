//! PutRetentionPolicy, DeleteRetentionPolicy and DeleteLogGroup: how long a group's events are kept.
//!
//! A Function that says itself how long its log is kept has the last word. In a cluster no other word would last: stores have
//! the retention from the Functions, and each gateway has it for itself.

use jiff::SignedDuration;
use pilotlight_core::access::Verb;
use serde::Deserialize;

use super::call::Call;
use super::error::LogsError;
use super::log;
use super::log::Log;
use super::request;

/// The days of the service model.
const DAYS: [i64; 22] = [
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653,
];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Retention {
    log_group_name: String,
    retention_in_days: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Name {
    log_group_name: String,
}

pub(super) async fn put_retention(call: &Call<'_>) -> Result<(), LogsError> {
    let wanted: Retention = call.parameters()?;
    let days = wanted.retention_in_days;
    if !DAYS.contains(&days) {
        let days = DAYS.map(|days| days.to_string()).join(", ");
        return Err(LogsError::invalid(format!(
            "retentionInDays must be one of {days}."
        )));
    }
    let log = find(call, &wanted.log_group_name, Verb::Update).await?;
    let kept = SignedDuration::from_hours(24 * days);
    Ok(log
        .hub
        .store()
        .set_retention(&log.function, Some(kept))
        .await?)
}

pub(super) async fn delete_retention(call: &Call<'_>) -> Result<(), LogsError> {
    let wanted: Name = call.parameters()?;
    let log = find(call, &wanted.log_group_name, Verb::Update).await?;
    Ok(log.hub.store().set_retention(&log.function, None).await?)
}

/// The group of a function that still exists is empty then.
pub(super) async fn delete_group(call: &Call<'_>) -> Result<(), LogsError> {
    let wanted: Name = call.parameters()?;
    let name = request::group_name("logGroupName", &wanted.log_group_name)?;
    let log = log::find(call, name, Verb::Delete).await?;
    log.hub.catch_up(&log.function).await;
    Ok(log.hub.delete(&log.function).await?)
}

/// The log of a group whose retention is not the Function's.
async fn find<'a>(call: &Call<'a>, name: &str, verb: Verb) -> Result<Log<'a>, LogsError> {
    let name = request::group_name("logGroupName", name)?;
    let log = log::find(call, name, verb).await?;
    if !log.hub.keeps_retention() {
        return Err(LogsError::invalid(format!(
            "In a cluster the Function says how long its log is kept: set spec.logging.retention of {}.",
            log.function.name
        )));
    }
    let latest = call.app.scope.latest(log.function.name.clone());
    let declared = call.app.functions.get(&latest);
    if let Some(days) = declared.and_then(|entry| entry.deployment.spec.logging.retention) {
        return Err(LogsError::invalid(format!(
            "The Function {} says itself how long its log is kept: spec.logging.retention is {days} days. Change it there.",
            log.function.name
        )));
    }
    Ok(log)
}
