//! The log of one group: whether there is one, whether the caller may use it, and its streams.

use std::collections::HashMap;

use jiff::Timestamp;
use pilotlight_core::access::{Resource, Verb};
use pilotlight_core::ids::FunctionKey;
use pilotlight_logs::entry::Entry;
use pilotlight_logs::query::{Order, Query};
use pilotlight_logs::store::InstanceLog;

use super::super::access::allow;
use super::call::Call;
use super::error::LogsError;
use super::names;
use crate::logs::{Hub, Reader};

/// How many of the newest records are looked through for instances of which the store has nothing yet.
const NEWEST: usize = 500;

/// See the module.
pub(super) struct Log<'a> {
    pub(super) hub: &'a Hub,
    pub(super) function: FunctionKey,
}

pub(super) fn hub<'a>(call: &Call<'a>) -> Result<&'a Hub, LogsError> {
    let hub = call.app.logs.as_ref();
    hub.ok_or_else(|| {
        LogsError::unavailable(
            "This gateway keeps no logs: they are with the pods. `kubectl logs` shows them.",
        )
    })
}

/// The log of the group of this name, if the caller has the right to it. Who has it not does not learn whether there is
/// one.
pub(super) async fn find<'a>(
    call: &Call<'a>,
    group: &str,
    verb: Verb,
) -> Result<Log<'a>, LogsError> {
    let function = names::function_of(group, &call.app.scope);
    let name = function.as_ref().map(|function| &function.name);
    allow(call.app, &call.caller, verb, Resource::Logs, name).await?;
    let function = function.ok_or_else(LogsError::no_group)?;
    let hub = hub(call)?;
    let latest = call.app.scope.latest(function.name.clone());
    if !call.app.functions.has(&latest) {
        // The function may be deleted, and its records still be there.
        let stored = hub.store().functions().await?;
        if !stored.iter().any(|log| log.function == function) {
            return Err(LogsError::no_group());
        }
    }
    Ok(Log { hub, function })
}

impl Log<'_> {
    /// Reads the log for one request.
    pub(super) async fn reader(&self) -> Reader<'_> {
        self.hub.reader(&self.function).await
    }

    /// The instances with records, in no order.
    pub(super) async fn instances(
        &self,
        reader: &Reader<'_>,
    ) -> Result<Vec<InstanceLog>, LogsError> {
        let mut instances = self.hub.store().instances(&self.function).await?;
        let mut known = HashMap::new();
        for (at, log) in instances.iter().enumerate() {
            known.insert(log.instance.clone(), at);
        }
        let mut newest = Query::all(self.function.clone());
        (newest.order, newest.limit) = (Order::NewestFirst, NEWEST);
        for record in reader.read(&newest).await?.records {
            match known.get(&record.instance) {
                Some(at) => {
                    let log: &mut InstanceLog = &mut instances[*at];
                    log.last = log.last.max(record.time);
                    log.first = log.first.min(record.time);
                }
                None => {
                    known.insert(record.instance.clone(), instances.len());
                    instances.push(InstanceLog {
                        instance: record.instance,
                        qualifier: record.qualifier,
                        first: record.time,
                        last: record.time,
                    });
                }
            }
        }
        Ok(instances)
    }

    /// The names of the streams of these records.
    pub(super) async fn streams(&self, reader: &Reader<'_>) -> Result<Streams, LogsError> {
        let instances = self.instances(reader).await?;
        let first = |log: InstanceLog| (log.instance, log.first);
        Ok(Streams(instances.into_iter().map(first).collect()))
    }
}

/// When each instance logged for the first time.
pub(super) struct Streams(HashMap<String, Timestamp>);

impl Streams {
    pub(super) fn name(&self, record: &Entry) -> String {
        let started = self.0.get(&record.instance).unwrap_or(&record.time);
        names::stream(*started, record.qualifier, &record.instance)
    }
}
