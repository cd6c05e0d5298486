//! Schedules: events of functions without a caller.
//!
//! ```text
//! manifests, Schedule resources ─► Schedules ─ when, and whether: events::schedule::firing ─► events::accept
//!                                     └─► reports: last, next and missed times, for the status and for `pilotlight schedules`
//! ```
//!
//! The gateway that owns a function sends the events of its schedules. What it sends it stores first, beside the event queue, so
//! that the next owner knows (`firing` says why no time has two events). It decides nothing, and never writes to the API server.

mod deployment;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use futures_util::{FutureExt, StreamExt};
use pilotlight_api::{AsyncSpec, ScheduleSpec};
use pilotlight_core::events::retry::{EventPolicy, EventTime, Progress};
use pilotlight_core::function::FunctionName;
use pilotlight_core::ids::PoolId;
use pilotlight_core::traces::context::{Fresh, TraceContext, TraceHeaders};
use pilotlight_core::traces::ids::SpanId;
use pilotlight_events::event::{EventHead, EventOverrides, QueuedEvent};
use pilotlight_events::queue::QueueError;
use pilotlight_events::schedule::firing::{
    ScheduleRecord, ScheduleSender, ScheduleStep, Sending, event_id,
};
use pilotlight_events::schedule::records::{ScheduleId, ScheduleRecords};
use tokio::sync::watch;

use crate::clock;
use crate::config::Scope;
use crate::events::{Events, Runner};
use crate::traces::{Recording, Trigger, fresh_bits};

pub use self::deployment::{ScheduleDeployment, ScheduleTimes};
pub use self::plan::{WrongSchedule, check_schedule};

/// How many schedules are worked on at the same time.
const AT_ONCE: usize = 32;
/// The pause before something is tried again that the queue has not done.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// How long it sleeps at most: the time of day can go on while this machine stands still.
const CLOCK_PAUSE: Duration = Duration::from_secs(10);
/// A record that was read so long ago is read again before an event is sent.
const STALE: Duration = Duration::from_secs(30);
/// An event that is sent so long after its moment is counted as late.
const LATE: Duration = Duration::from_secs(60);

/// Why a schedule sends events, or does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleState {
    Scheduled,
    NoFurtherTime,
    Suspended,
    Invalid(WrongSchedule),
    FunctionNotFound,
    NoQueue,
    QueueUnavailable(String),
}

/// What this gateway reports of a schedule whose function it owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleReport {
    pub name: FunctionName,
    pub generation: Option<i64>,
    pub state: ScheduleState,
    pub times: ScheduleTimes,
}

pub(crate) type ScheduleReports = BTreeMap<ScheduleId, ScheduleReport>;

/// See the module. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Schedules {
    all: watch::Sender<Arc<[ScheduleDeployment]>>,
    reports: watch::Sender<Arc<ScheduleReports>>,
    has_queue: bool,
}

/// What is remembered between two looks at all schedules.
#[derive(Default)]
struct Memory {
    /// Of those whose functions this gateway owns.
    kept: BTreeMap<ScheduleId, Kept>,
    /// The time whose event this process has sent last, or tried to; also of schedules that it has lost since.
    tried: BTreeMap<ScheduleId, EventTime>,
}

/// What is remembered of a schedule.
struct Kept {
    /// As it was when it was looked at.
    spec: ScheduleSpec,
    created: Option<EventTime>,
    /// When to look again. `None`: when something has changed.
    wake: Option<EventTime>,
    had_function: bool,
}

/// What a look at a schedule has found.
struct Look {
    wake: Option<EventTime>,
    tried: Option<EventTime>,
    state: ScheduleState,
    times: ScheduleTimes,
}

/// What looks need of the gateway.
struct Worker {
    events: Events,
    records: Arc<dyn ScheduleRecords>,
    scope: Scope,
    /// One name for each process.
    name: String,
    random: RandomState,
}

impl Schedules {
    /// Starts to send. It must be called in a tokio runtime. `events`: where events go. `records`: what is remembered.
    pub(crate) fn start(events: Events, records: Arc<dyn ScheduleRecords>, scope: Scope) -> Self {
        let schedules = Schedules {
            has_queue: true,
            ..Self::without_queue()
        };
        let worker = Worker {
            events,
            records,
            scope,
            name: uuid::Uuid::new_v4().to_string(),
            random: RandomState::new(),
        };
        tokio::spawn(run(schedules.clone(), worker));
        schedules
    }

    /// Sends nothing, and says why.
    pub(crate) fn without_queue() -> Self {
        Schedules {
            all: watch::Sender::new(Arc::new([])),
            reports: watch::Sender::default(),
            has_queue: false,
        }
    }

    /// Replaces all schedules.
    pub(crate) fn set(&self, all: Vec<ScheduleDeployment>) {
        if !self.has_queue {
            let reports = all.iter().map(|one| {
                let report = ScheduleReport {
                    name: one.name.clone(),
                    generation: one.generation,
                    state: ScheduleState::NoQueue,
                    times: one.shown,
                };
                (one.id.clone(), report)
            });
            self.reports.send_replace(Arc::new(reports.collect()));
        }
        self.all.send_if_modified(|known| {
            let is_news = **known != *all;
            *known = all.into();
            is_news
        });
    }

    /// What is reported of the schedules whose functions this gateway owns.
    pub(crate) fn reports(&self) -> watch::Receiver<Arc<ScheduleReports>> {
        self.reports.subscribe()
    }

    /// All schedules, with what this gateway or another one has reported of each.
    pub(crate) fn list(&self) -> Vec<(ScheduleDeployment, Option<ScheduleReport>)> {
        let reports = self.reports.borrow().clone();
        let all = self.all.borrow().clone();
        let all = all.iter();
        all.map(|one| (one.clone(), reports.get(&one.id).cloned()))
            .collect()
    }
}

async fn run(schedules: Schedules, worker: Worker) {
    let (mut all, mut changes) = (schedules.all.subscribe(), worker.runner().changes());
    let mut functions = worker.runner().functions.watch();
    let mut memory = Memory::default();
    let stop = worker.events.stopped();
    let work = async {
        loop {
            functions.borrow_and_update();
            let known = all.borrow_and_update().clone();
            worker.look_at_all(&schedules, &known, &mut memory).await;
            let now = worker.now();
            let wake = memory.kept.values().filter_map(|one| one.wake).min();
            let pause = wake.map_or(CLOCK_PAUSE, |wake| wake.since(now).min(CLOCK_PAUSE));
            tokio::select! {
                changed = all.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                changed = functions.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                Some(()) = changes.next() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

impl Worker {
    fn now(&self) -> EventTime {
        self.events.now()
    }

    fn runner(&self) -> &Runner {
        self.events.runner()
    }

    fn target(&self, schedule: &ScheduleDeployment) -> PoolId {
        PoolId::latest(
            schedule.id.namespace.clone(),
            schedule.spec.function.clone(),
        )
    }

    /// Looks at those whose time has come, and at those that have changed.
    async fn look_at_all(
        &self,
        schedules: &Schedules,
        all: &[ScheduleDeployment],
        Memory { kept, tried }: &mut Memory,
    ) {
        let now = self.now();
        let own = all
            .iter()
            .filter(|one| self.runner().owns(&self.target(one).function));
        let own: BTreeMap<&ScheduleId, &ScheduleDeployment> =
            own.map(|one| (&one.id, one)).collect();
        let ids: BTreeSet<&ScheduleId> = all.iter().map(|one| &one.id).collect();
        for id in kept.keys().filter(|id| !ids.contains(id)) {
            // Without an answer the record stays, and is nobody's.
            let _ = self.records.forget(id).await;
        }
        // Whoever owns the functions of others now looks at their records anew.
        kept.retain(|id, _| own.contains_key(id));
        tried.retain(|id, _| ids.contains(id));
        let mut due = Vec::new();
        for schedule in own.values() {
            let had = self.runner().functions.has(&self.target(schedule));
            let before = kept.get(&schedule.id).filter(|kept| {
                kept.spec == schedule.spec
                    && kept.created == schedule.created
                    && kept.had_function == had
            });
            if before.is_none_or(|kept| kept.wake.is_some_and(|wake| wake <= now)) {
                due.push((*schedule, had, tried.get(&schedule.id).copied()));
            }
        }
        let looks = due.into_iter().map(|(schedule, had, tried)| {
            let look = async move {
                let look = self.look_at(schedule, had, tried).await;
                (schedule, had, look)
            };
            look.boxed()
        });
        // As a list: the compiler cannot say of a closure that it may be sent to another thread.
        let looks: Vec<_> = looks.collect();
        let mut looks = stream::iter(looks).buffer_unordered(AT_ONCE);
        let mut reports = ScheduleReports::clone(&schedules.reports.borrow());
        while let Some((schedule, had_function, look)) = looks.next().await {
            let Look {
                wake,
                state,
                times,
                tried: last_tried,
            } = look;
            match last_tried {
                Some(time) => tried.insert(schedule.id.clone(), time),
                None => tried.remove(&schedule.id),
            };
            kept.insert(
                schedule.id.clone(),
                Kept {
                    spec: schedule.spec.clone(),
                    created: schedule.created,
                    wake,
                    had_function,
                },
            );
            let before = reports.get(&schedule.id).map(|report| &report.state);
            if let ScheduleState::QueueUnavailable(error) = &state
                && !matches!(before, Some(ScheduleState::QueueUnavailable(_)))
            {
                tracing::warn!(schedule = %schedule.name, error, "the event queue cannot serve a schedule");
            }
            let report = ScheduleReport {
                name: schedule.name.clone(),
                generation: schedule.generation,
                state,
                times,
            };
            reports.insert(schedule.id.clone(), report);
        }
        reports.retain(|id, _| own.contains_key(id));
        for (id, schedule) in own {
            if let Some(report) = reports.get_mut(id) {
                report.generation = schedule.generation;
            }
        }
        schedules.reports.send_if_modified(|known| {
            let is_news = **known != reports;
            *known = Arc::new(reports);
            is_news
        });
    }

    async fn look_at(
        &self,
        schedule: &ScheduleDeployment,
        has_function: bool,
        tried: Option<EventTime>,
    ) -> Look {
        let mut look = Look {
            wake: None,
            tried,
            state: ScheduleState::Scheduled,
            times: ScheduleTimes {
                next: None,
                ..schedule.shown
            },
        };
        if let Err(wrong) = check_schedule(&schedule.spec) {
            look.state = ScheduleState::Invalid(wrong);
            return look;
        }
        let advanced = self.advance(schedule, has_function, &mut look);
        if let Err(error) = advanced.await {
            look.wake = Some(self.now().after(RETRY_PAUSE));
            look.state = ScheduleState::QueueUnavailable(error.to_string());
        }
        look
    }

    /// Does all that is to be done for a schedule now.
    async fn advance(
        &self,
        schedule: &ScheduleDeployment,
        has_function: bool,
        look: &mut Look,
    ) -> Result<(), QueueError> {
        let (id, spec, records) = (&schedule.id, &schedule.spec, &self.records);
        loop {
            let began = clock::now();
            let read = records.read(id).await?;
            let seen = read.as_ref().and_then(|record| record.seen);
            let now = self.now();
            let begin = schedule.created.or(seen).unwrap_or(now);
            let Ok(plan) = plan::plan(schedule, begin, self.policy(schedule)) else {
                // It was checked before.
                return Ok(());
            };
            let mut record = match read {
                Some(record) => record,
                None => {
                    let mut first = plan.first_record(schedule.shown.last, !spec.suspend, now);
                    (first.missed, first.last_missed) =
                        (schedule.shown.missed, schedule.shown.last_missed);
                    records.store(id, first.clone()).await?;
                    first
                }
            };
            look.times = times(&record);
            // Its events would wait for a function that may never come, and the schedule goes on when it does.
            if !has_function {
                look.times.next = plan.next_after(record.last.max(Some(now)));
                look.state = ScheduleState::FunctionNotFound;
                return Ok(());
            }
            loop {
                if clock::since(began) > STALE {
                    break;
                }
                let sender = ScheduleSender {
                    name: &self.name,
                    tried: look.tried,
                };
                let step = plan.next_step(Some(&record), !spec.suspend, sender, self.now());
                match step {
                    ScheduleStep::Wait(wake) => {
                        look.wake = wake;
                        look.state = match wake {
                            _ if spec.suspend => ScheduleState::Suspended,
                            Some(_) => ScheduleState::Scheduled,
                            None => ScheduleState::NoFurtherTime,
                        };
                        look.times = times(&record);
                        if !spec.suspend {
                            look.times.next = plan.next_after(record.last);
                        }
                        return Ok(());
                    }
                    ScheduleStep::Store(next) => {
                        records.store(id, next.clone()).await?;
                        self.count_missed(schedule, next.missed.saturating_sub(record.missed));
                        record = next;
                    }
                    ScheduleStep::Send(sending) => {
                        // Another attempt may have got through without an answer.
                        let is_first = sending.by == self.name && look.tried != Some(sending.time);
                        look.tried = Some(sending.time);
                        let (event, recording) = self.event(schedule, &sending);
                        let sent = self.events.accept(event).await;
                        if let Some(recording) = recording {
                            recording.end_with_event(sent.is_ok());
                        }
                        if matches!(sent, Err(QueueError::Full(_))) && is_first {
                            records.store(id, record.refused()).await?;
                            look.tried = None;
                        }
                        sent?;
                        let next = record.sent();
                        records.store(id, next.clone()).await?;
                        self.count_sent(schedule, &sending);
                        self.count_missed(schedule, sending.missed);
                        record = next;
                    }
                }
            }
        }
    }

    /// What the function declares of its events.
    fn policy(&self, schedule: &ScheduleDeployment) -> EventPolicy {
        let entry = self.runner().functions.get(&self.target(schedule));
        let declared = entry.map(|entry| entry.deployment.spec.asynchronous.policy());
        declared.unwrap_or_else(|| AsyncSpec::default().policy())
    }

    /// The event, and the span of its call, which begins now.
    fn event(
        &self,
        schedule: &ScheduleDeployment,
        sending: &Sending,
    ) -> (QueuedEvent, Option<Box<Recording>>) {
        let target = self.target(schedule);
        let spec = &schedule.spec;
        let random = |place: u8| {
            self.random
                .hash_one((&schedule.id.uid, sending.time, place))
        };
        let fresh = Fresh {
            seconds: clock::seconds() as u32,
            random: &random,
        };
        let mut trace = TraceContext::of_call(TraceHeaders::default(), fresh);
        trace.calls(&target.function);
        let request_id = event_id(&schedule.id.uid, sending.time);
        let id = Arc::from(request_id.as_str());
        let own = trace.to_xray(SpanId::of_random(random(2)), false);
        let recording = self.runner().traces.as_ref().map(|traces| {
            let (call, bits) = ((&id, clock::now()), fresh_bits);
            let mut recording = Recording::begin(traces, trace, call, Trigger::Timer, bits);
            recording.calls(&target);
            recording
        });
        let recorded = recording.as_ref().map(|call| call.header_of_event());
        let input = spec.input.as_ref().map(|input| input.to_json());
        let event = QueuedEvent {
            head: EventHead {
                request_id,
                function_arn: self.scope.arn(target.name().as_str()),
                target,
                client_context: None,
                trace: recorded.unwrap_or(own),
                trace_state: None,
                progress: Progress::new(self.now()),
                outcome: None,
                overrides: EventOverrides {
                    max_age: spec.asynchronous.max_age.map(|age| age.get()),
                    // 0 to 2.
                    retries: spec.asynchronous.retries.map(|retries| retries.get() as u8),
                },
            },
            payload: Bytes::from(input.unwrap_or_else(|| "{}".to_owned())),
        };
        (event, recording)
    }

    fn count_sent(&self, schedule: &ScheduleDeployment, sending: &Sending) {
        let late = self.now().since(sending.at);
        if let Some(entry) = self.runner().functions.get(&self.target(schedule)) {
            entry.metrics.schedule_sent(late >= LATE);
        }
        tracing::debug!(schedule = %schedule.name, late_ms = late.as_millis() as u64, "a schedule has sent its event");
    }

    fn count_missed(&self, schedule: &ScheduleDeployment, count: u64) {
        if count == 0 {
            return;
        }
        if let Some(entry) = self.runner().functions.get(&self.target(schedule)) {
            entry.metrics.schedule_missed(count);
        }
        tracing::warn!(schedule = %schedule.name, count, "times of a schedule were missed");
    }
}

fn times(record: &ScheduleRecord) -> ScheduleTimes {
    ScheduleTimes {
        last: record.sent,
        next: None,
        missed: record.missed,
        last_missed: record.last_missed,
    }
}
