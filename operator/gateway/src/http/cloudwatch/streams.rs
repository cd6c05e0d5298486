//! DescribeLogStreams: the streams of a group, one for each instance that has logged.

use std::cmp::Ordering;

use pilotlight_core::access::Verb;
use pilotlight_logs::store::InstanceLog;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::call::Call;
use super::error::LogsError;
use super::request::{self, Group, LIST_MAX};
use super::{log, names, token};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    #[serde(flatten)]
    group: Group,
    log_stream_name_prefix: Option<String>,
    #[serde(default)]
    order_by: OrderBy,
    #[serde(default)]
    descending: bool,
    next_token: Option<String>,
    limit: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
enum OrderBy {
    #[default]
    LogStreamName,
    LastEventTime,
}

/// By what streams are ordered: the time in milliseconds if they are by time, and the name.
type Key = (i64, String);

pub(super) async fn describe(call: &Call<'_>) -> Result<Value, LogsError> {
    let wanted: Parameters = call.parameters()?;
    let limit = request::limit(wanted.limit, LIST_MAX)?;
    let prefix = wanted.log_stream_name_prefix.as_deref();
    if let Some(prefix) = prefix {
        request::stream_name("logStreamNamePrefix", prefix)?;
        if wanted.order_by == OrderBy::LastEventTime {
            return Err(LogsError::invalid(
                "Cannot order by LastEventTime with a logStreamNamePrefix.",
            ));
        }
    }
    let after = wanted.next_token.as_deref().map(read).transpose()?;
    let group = wanted.group.name()?;
    let log = log::find(call, group, Verb::Get).await?;
    if after.is_none() {
        log.hub.catch_up(&log.function).await;
    }
    let order = |a: &Key, b: &Key| match wanted.descending {
        true => b.cmp(a),
        false => a.cmp(b),
    };
    let keyed = |instance: InstanceLog| {
        let name = names::stream(instance.first, instance.qualifier, &instance.instance);
        let time = match wanted.order_by {
            OrderBy::LogStreamName => 0,
            OrderBy::LastEventTime => instance.last.as_millisecond(),
        };
        ((time, name), instance)
    };
    let mut streams: Vec<(Key, InstanceLog)> = log
        .instances(&log.reader().await)
        .await?
        .into_iter()
        .map(keyed)
        .collect();
    streams.retain(|(key, _)| {
        let follows = |after: &Key| order(key, after) == Ordering::Greater;
        prefix.is_none_or(|prefix| key.1.starts_with(prefix)) && after.as_ref().is_none_or(follows)
    });
    streams.sort_by(|(a, _), (b, _)| order(a, b));
    let is_last = streams.len() <= limit;
    streams.truncate(limit);
    let mut body = Map::new();
    if let Some(((time, name), _)) = streams.last().filter(|_| !is_last) {
        let next = token::write_name(&format!("{time} {name}"));
        body.insert("nextToken".to_owned(), next.into());
    }
    let shapes = streams.into_iter().map(|((_, name), instance)| {
        let last = instance.last.as_millisecond();
        json!({
            "logStreamName": name,
            "creationTime": instance.first.as_millisecond(),
            "firstEventTimestamp": instance.first.as_millisecond(),
            "lastEventTimestamp": last,
            "lastIngestionTime": last,
            "arn": names::stream_arn(&call.app.scope, &log.function.name, &name),
            "storedBytes": 0,
        })
    });
    body.insert("logStreams".to_owned(), shapes.collect());
    Ok(body.into())
}

fn read(text: &str) -> Result<Key, LogsError> {
    let text = token::read_name(text)?;
    let (time, name) = text.split_once(' ').ok_or_else(token::invalid)?;
    let time = time.parse().map_err(|_| token::invalid())?;
    Ok((time, name.to_owned()))
}
