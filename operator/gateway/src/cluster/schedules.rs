//! The Schedules of the namespace: which exist, and what their status says.
//!
//! Fed by the watch of Schedules; `crate::schedules` sends their events. The gateway that owns a schedule's function writes its
//! status, which is the only thing that a gateway ever writes to the API server. A Schedule that this version cannot read keeps
//! its last readable spec.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt};
use pilotlight_api::resource::ScheduleResource;
use pilotlight_api::status::{self, ScheduleStatus};
use pilotlight_core::events::retry::EventTime;
use pilotlight_core::ids::Namespace;
use pilotlight_events::schedule::records::ScheduleId;
use pilotlight_watch::{Change, Decoded, Fold};
use serde_json::json;
use tokio::sync::watch;

use crate::gateway::Gateway;
use crate::schedules::{ScheduleDeployment, ScheduleReport, ScheduleState, ScheduleTimes};

/// The field manager of the statuses.
const MANAGER: &str = "pilotlight-gateway";
/// The pause before a status is written again that the API server has not taken.
const WRITE_PAUSE: Duration = Duration::from_secs(5);

/// The Schedules of the namespace.
pub(super) struct ClusterSchedules {
    gateway: Gateway,
    api: Api<Decoded<ScheduleResource>>,
    namespace: Namespace,
    known: BTreeMap<String, KnownSchedule>,
    /// What this version cannot read, and says so in the status.
    unreadable: BTreeMap<String, NotRead>,
    /// The watch is interrupted, and the log says so.
    is_interrupted: bool,
}

struct NotRead {
    uid: String,
    generation: Option<i64>,
    message: String,
    status: ScheduleStatus,
}

struct KnownSchedule {
    deployment: ScheduleDeployment,
    /// As the watch has shown it, or as it was written since.
    status: ScheduleStatus,
}

impl ClusterSchedules {
    pub(super) fn new(client: Client, gateway: Gateway, namespace: Namespace) -> Self {
        ClusterSchedules {
            gateway,
            api: Api::namespaced(client, namespace.as_str()),
            namespace,
            known: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            is_interrupted: false,
        }
    }

    /// Follows the watch to its end. It begins once all Functions are known.
    pub(super) async fn follow(
        mut self,
        events: impl Stream<Item = Result<Event<Decoded<ScheduleResource>>, watcher::Error>>,
        mut deployed: watch::Receiver<bool>,
    ) {
        // An error means that the gateway ends.
        let _ = deployed.wait_for(|deployed| *deployed).await;
        let mut fold = Fold::new(|_: &Decoded<ScheduleResource>| ());
        let mut events = std::pin::pin!(events);
        let mut reports = self.gateway.schedule_reports();
        let mut is_behind = false;
        loop {
            let pause = async {
                match is_behind {
                    true => tokio::time::sleep(WRITE_PAUSE).await,
                    false => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                event = events.next() => event,
                changed = reports.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    is_behind = !self.write_all(&mut reports).await;
                    continue;
                }
                () = pause => {
                    is_behind = !self.write_all(&mut reports).await;
                    continue;
                }
            };
            let Some(event) = event else { return };
            match event {
                Ok(event) => {
                    self.is_interrupted = false;
                    let changes = fold.take(event);
                    self.take(changes, &fold);
                    // What cannot be read is reported by nobody else.
                    is_behind |= self
                        .unreadable
                        .values()
                        .any(|one| one.status != not_readable(one, Timestamp::now()));
                }
                Err(error) if self.is_interrupted => {
                    tracing::debug!(%error, "the watch of Schedules is interrupted");
                }
                Err(error) => {
                    self.is_interrupted = true;
                    tracing::warn!(%error, "the watch of Schedules is interrupted");
                }
            }
        }
    }

    fn take(
        &mut self,
        changes: Vec<Change<Decoded<ScheduleResource>, ()>>,
        fold: &Fold<Decoded<ScheduleResource>>,
    ) {
        for change in changes {
            match change {
                Change::ListStarted => {}
                Change::Applied(schedule) => self.apply(schedule),
                Change::Deleted { name, .. } => {
                    self.known.remove(&name);
                    self.unreadable.remove(&name);
                }
                Change::ListCompleted => {
                    self.known.retain(|name, _| fold.contains(name));
                    self.unreadable.retain(|name, _| fold.contains(name));
                }
            }
        }
        if fold.is_complete() && !fold.is_listing() {
            let all = self.known.values().map(|known| known.deployment.clone());
            self.gateway.set_schedules(all.collect());
        }
    }

    fn apply(&mut self, schedule: Decoded<ScheduleResource>) {
        let name = schedule.name_any();
        let resource = match &schedule.content {
            Ok(resource) => resource,
            Err(error) => {
                let (field, message) = (&error.field, &error.message);
                let generation = schedule.metadata.generation;
                let before = self.unreadable.get(&name);
                if before.is_none_or(|before| before.generation != generation) {
                    tracing::warn!(name, field, message, "this version cannot read a Schedule");
                }
                let not_read = NotRead {
                    uid: schedule.uid().unwrap_or_default(),
                    generation,
                    message: format!("this version of Pilotlight cannot read {field}: {message}"),
                    status: serde_json::from_value(error.status.clone()).unwrap_or_default(),
                };
                self.unreadable.insert(name, not_read);
                return;
            }
        };
        self.unreadable.remove(&name);
        // The definition allows no other name.
        let Ok(function) = name.parse() else { return };
        let shown = resource.status.clone().unwrap_or_default();
        let created = schedule.creation_timestamp();
        let deployment = ScheduleDeployment {
            id: ScheduleId {
                namespace: self.namespace.clone(),
                uid: schedule.uid().unwrap_or_default(),
            },
            name: function,
            created: created.map(|time| event_time(&time)),
            generation: schedule.metadata.generation,
            spec: resource.spec.clone(),
            shown: ScheduleTimes {
                last: shown.last_time.as_ref().map(event_time),
                next: shown.next_time.as_ref().map(event_time),
                missed: shown.missed,
                last_missed: shown.last_missed_time.as_ref().map(event_time),
            },
        };
        let status = shown;
        self.known
            .insert(name, KnownSchedule { deployment, status });
    }

    /// Writes each status that differs from what is reported. Returns whether all is written.
    async fn write_all(
        &mut self,
        reports: &mut watch::Receiver<std::sync::Arc<BTreeMap<ScheduleId, ScheduleReport>>>,
    ) -> bool {
        let reports = reports.borrow_and_update().clone();
        let mut is_all = true;
        let now = Timestamp::now();
        let reported = self.known.iter_mut().filter_map(|(name, known)| {
            let report = reports.get(&known.deployment.id)?;
            let wanted = wanted(report, &known.status, now);
            Some((name, &known.deployment.id.uid, &mut known.status, wanted))
        });
        let not_read = self.unreadable.iter_mut().map(|(name, one)| {
            let wanted = not_readable(one, now);
            (name, &one.uid, &mut one.status, wanted)
        });
        for (name, uid, status, wanted) in reported.chain(not_read) {
            if wanted == *status {
                continue;
            }
            let patch = Patch::Apply(json!({
                "apiVersion": ScheduleResource::api_version(&()),
                "kind": ScheduleResource::kind(&()),
                "metadata": { "name": name, "uid": uid },
                "status": wanted,
            }));
            let parameters = PatchParams::apply(MANAGER).force();
            match self.api.patch_status(name, &parameters, &patch).await {
                Ok(_) => *status = wanted,
                // Deleted, or another one has its name.
                Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => {
                    *status = wanted;
                }
                Err(error) => {
                    tracing::debug!(name, %error, "the status of a Schedule is not written");
                    is_all = false;
                }
            }
        }
        is_all
    }
}

/// The status for a report. `before`: the one that is there.
fn wanted(report: &ScheduleReport, before: &ScheduleStatus, now: Timestamp) -> ScheduleStatus {
    let (is_ready, reason, message) = match &report.state {
        ScheduleState::Scheduled => (true, status::SCHEDULED, "it sends events at its times".to_owned()),
        ScheduleState::NoFurtherTime => (
            true,
            status::NO_FURTHER_TIME,
            "it has no further time: change spec.schedule or spec.end, or delete it".to_owned(),
        ),
        ScheduleState::Suspended => (
            true,
            status::SUSPENDED,
            "spec.suspend is true, and so its times pass without events".to_owned(),
        ),
        ScheduleState::Invalid(wrong) => (false, status::INVALID_SCHEDULE, wrong.to_string()),
        ScheduleState::FunctionNotFound => (
            false,
            status::FUNCTION_NOT_FOUND,
            "spec.function: there is no Function of this name: create it, or correct the name".to_owned(),
        ),
        ScheduleState::NoQueue => (
            false,
            status::NO_EVENT_QUEUE,
            "this installation has no event queue (events.queue of the chart)".to_owned(),
        ),
        ScheduleState::QueueUnavailable(_) => (
            false,
            status::QUEUE_UNAVAILABLE,
            "the event queue cannot serve the schedule, and it is tried again: the gateway's log says why".to_owned(),
        ),
    };
    let told = (is_ready, reason, message);
    let condition = condition(told, report.generation, before, now);
    let ScheduleTimes {
        last,
        next,
        missed,
        last_missed,
    } = report.times;
    ScheduleStatus {
        observed_generation: report.generation,
        conditions: vec![condition],
        last_time: last.and_then(time),
        next_time: next.and_then(time),
        missed,
        last_missed_time: last_missed.and_then(time),
    }
}

/// The status of what this version cannot read.
fn not_readable(one: &NotRead, now: Timestamp) -> ScheduleStatus {
    let told = (false, status::NOT_READABLE, one.message.clone());
    ScheduleStatus {
        observed_generation: one.generation,
        conditions: vec![condition(told, one.generation, &one.status, now)],
        ..one.status.clone()
    }
}

fn condition(
    (is_ready, reason, message): (bool, &str, String),
    generation: Option<i64>,
    before: &ScheduleStatus,
    now: Timestamp,
) -> Condition {
    let word = if is_ready { "True" } else { "False" };
    let mut conditions = before.conditions.iter();
    let same = conditions.find(|one| one.type_ == status::READY && one.status == word);
    Condition {
        type_: status::READY.to_owned(),
        status: word.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: same.map_or(Time(now), |one| one.last_transition_time.clone()),
    }
}

/// In whole seconds, as the API server keeps it.
fn time(time: EventTime) -> Option<Time> {
    let seconds = i64::try_from(time.0 / 1000).ok()?;
    Timestamp::from_second(seconds).ok().map(Time)
}

fn event_time(time: &Time) -> EventTime {
    EventTime(u64::try_from(time.0.as_millisecond()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(state: ScheduleState) -> ScheduleReport {
        ScheduleReport {
            name: "nightly".parse().expect("a name"),
            generation: Some(3),
            state,
            times: ScheduleTimes {
                last: Some(EventTime(1_800_000_000_000)),
                next: Some(EventTime(1_800_000_060_000)),
                missed: 2,
                last_missed: None,
            },
        }
    }

    #[test]
    fn a_status_has_the_times_and_a_condition_that_keeps_its_transition() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let none = ScheduleStatus::default();
        let first = wanted(&report(ScheduleState::Scheduled), &none, at(1_800_000_001));
        let shown = serde_json::to_value(&first).expect("JSON");
        assert_eq!(shown["lastTime"], "2027-01-15T08:00:00Z");
        assert_eq!(shown["nextTime"], "2027-01-15T08:01:00Z");
        assert_eq!(
            (&shown["missed"], &shown["observedGeneration"]),
            (&json!(2), &json!(3))
        );
        let [condition] = &first.conditions[..] else {
            panic!("{first:?}");
        };
        assert_eq!(
            (&*condition.status, &*condition.reason),
            ("True", "Scheduled")
        );
        let again = wanted(&report(ScheduleState::Scheduled), &first, at(1_800_000_090));
        assert_eq!(again, first, "nothing is written");
        let suspended = wanted(&report(ScheduleState::Suspended), &first, at(1_800_000_090));
        let since = &suspended.conditions[0].last_transition_time;
        assert_eq!(
            *since, condition.last_transition_time,
            "it is ready as before"
        );
        let lost = wanted(
            &report(ScheduleState::FunctionNotFound),
            &first,
            at(1_800_000_090),
        );
        let condition = &lost.conditions[0];
        assert_eq!(
            (&*condition.status, &*condition.reason),
            ("False", "FunctionNotFound")
        );
        assert_eq!(condition.last_transition_time, Time(at(1_800_000_090)));
    }
}
