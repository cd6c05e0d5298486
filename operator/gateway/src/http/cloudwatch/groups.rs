//! DescribeLogGroups: the groups whose events the caller may read.
//!
//! There is a group for each function, and for each deleted one whose records are still stored. If the caller may not read
//! all logs, the cluster is asked about each group, and a page has no more groups than it may ask about.

use std::collections::BTreeMap;

use pilotlight_core::access::{Resource, Verb};
use pilotlight_core::function::FunctionName;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::access::has;
use super::call::Call;
use super::error::LogsError;
use super::log::hub;
use super::request::{self, LIST_MAX};
use super::{names, token};

/// Whether the caller wants the group of this name.
type Wanted<'a> = Box<dyn Fn(&str) -> bool + Send + 'a>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    log_group_name_prefix: Option<String>,
    log_group_name_pattern: Option<String>,
    log_group_identifiers: Option<Vec<String>>,
    log_group_class: Option<String>,
    next_token: Option<String>,
    limit: Option<i64>,
}

/// Seconds.
const DAY: i64 = 86_400;

/// Milliseconds since 1970, bytes, days.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    created: i64,
    bytes: u64,
    retention: Option<i64>,
}

pub(super) async fn describe(call: &Call<'_>) -> Result<Value, LogsError> {
    let wanted: Parameters = call.parameters()?;
    let limit = request::limit(wanted.limit, LIST_MAX)?;
    let after = wanted
        .next_token
        .as_deref()
        .map(token::read_name)
        .transpose()?;
    let is_named = wanted.named()?;
    let mut groups = groups(call).await?;
    groups.retain(|function, _| {
        let name = names::group(function);
        is_named(&name) && after.as_deref().is_none_or(|after| name.as_str() > after)
    });
    let mut rest = groups.into_iter();
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let may_read = |name| has(call.app, &call.caller, Verb::Get, Resource::Logs, name);
    let reads_all = may_read(None).await;
    let mut shown = Vec::new();
    for (function, group) in &page {
        if reads_all || may_read(Some(function)).await {
            shown.push(shape(call, function, *group));
        }
    }
    let mut body = Map::new();
    if let Some((last, _)) = page.last().filter(|_| rest.next().is_some()) {
        let next = token::write_name(&names::group(last));
        body.insert("nextToken".to_owned(), next.into());
    }
    body.insert("logGroups".to_owned(), shown.into());
    Ok(body.into())
}

impl Parameters {
    fn named(&self) -> Result<Wanted<'_>, LogsError> {
        if self
            .log_group_class
            .as_deref()
            .is_some_and(|class| class != "STANDARD")
        {
            return Ok(Box::new(|_| false));
        }
        let Parameters {
            log_group_name_prefix: prefix,
            log_group_name_pattern: part,
            log_group_identifiers: identifiers,
            ..
        } = self;
        match (prefix, part, identifiers) {
            (None, None, None) => Ok(Box::new(|_| true)),
            (Some(prefix), None, None) => {
                let prefix = request::group_name("logGroupNamePrefix", prefix)?;
                Ok(Box::new(move |name| name.starts_with(prefix)))
            }
            (None, Some(part), None) => {
                if !part.is_empty() {
                    request::group_name("logGroupNamePattern", part)?;
                }
                Ok(Box::new(move |name| name.contains(part)))
            }
            (None, None, Some(identifiers)) if (1..=50).contains(&identifiers.len()) => {
                let read = |text: &'_ String| {
                    request::identifier("logGroupIdentifiers", text).map(str::to_owned)
                };
                let wanted = identifiers
                    .iter()
                    .map(read)
                    .collect::<Result<Vec<_>, _>>()?;
                Ok(Box::new(move |name| {
                    wanted.iter().any(|wanted| wanted == name)
                }))
            }
            _ => Err(LogsError::invalid(
                "Only one of logGroupNamePrefix, logGroupNamePattern and logGroupIdentifiers (1 to 50) can be there.",
            )),
        }
    }
}

async fn groups(call: &Call<'_>) -> Result<BTreeMap<FunctionName, Group>, LogsError> {
    let namespace = &call.app.scope.namespace;
    let mut groups = BTreeMap::new();
    let catalog = call.app.functions.list();
    for entry in catalog.values() {
        let deployment = &entry.deployment;
        if deployment.pool.namespace() == namespace {
            let group = Group {
                created: deployment.modified.as_millisecond(),
                ..Group::default()
            };
            groups.insert(deployment.name().clone(), group);
        }
    }
    let store = hub(call)?.store();
    for log in store.functions().await? {
        if log.function.namespace == *namespace {
            let group = Group {
                created: log.first.as_millisecond(),
                bytes: log.bytes,
                ..Group::default()
            };
            groups.insert(log.function.name, group);
        }
    }
    // Also of functions whose first record is still on its way.
    for (function, kept) in store.retentions().await? {
        if function.namespace == *namespace
            && let Some(group) = groups.get_mut(&function.name)
        {
            group.retention = Some((kept.as_secs() + DAY - 1) / DAY);
        }
    }
    Ok(groups)
}

/// `LogGroup` of the service model.
fn shape(call: &Call<'_>, function: &FunctionName, group: Group) -> Value {
    let arn = names::group_arn(&call.app.scope, function);
    let mut shape = json!({
        "logGroupName": names::group(function),
        "creationTime": group.created.max(0),
        "metricFilterCount": 0,
        "arn": format!("{arn}:*"),
        "logGroupArn": arn,
        "storedBytes": group.bytes,
        "logGroupClass": "STANDARD",
    });
    if let Some(days) = group.retention {
        shape["retentionInDays"] = days.into();
    }
    shape
}
