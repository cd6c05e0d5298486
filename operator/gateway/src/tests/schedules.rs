//! Schedules: one event for each time, through restarts, lost answers and changes of owner.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pilotlight_api::{ScheduleSpec, read_all};
use pilotlight_core::events::retry::EventTime;
use pilotlight_core::ids::Namespace;
use pilotlight_events::queue::QueueError;
use pilotlight_events::schedule::firing::{ScheduleRecord, event_id};
use pilotlight_events::schedule::records::{ScheduleId, ScheduleRecords};
use pilotlight_events::sqlite::SqliteQueue;
use tempfile::TempDir;
use tokio::time::Instant;

use super::events::clock;
use super::instance::Instance;
use super::peers::two_with;
use super::stage::{Stage, function, on_stage, settled};
use crate::config::{Config, EventsConfig};
use crate::schedules::{ScheduleDeployment, ScheduleReport, ScheduleState, ScheduleTimes};

const HELLO: &str = "namespace=\"local\",function=\"hello\",qualifier=\"$LATEST\"";
const MINUTE: Duration = Duration::from_secs(60);
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// A schedule of `hello` that was made now, with these fields of its `spec`.
fn schedule(spec: &str) -> ScheduleDeployment {
    let manifest = format!(
        "apiVersion: pilotlight.dev/v1alpha1\nkind: Schedule\nmetadata: {{name: often}}\n\
         spec: {{function: hello, {spec}}}\n"
    );
    let documents = read_all("s.yaml".as_ref(), &manifest).expect("a manifest");
    ScheduleDeployment {
        id: id(),
        name: "often".parse().expect("a name"),
        created: Some(whole(clock())),
        generation: Some(1),
        spec: documents.schedules[0].schedule.spec.clone(),
        shown: ScheduleTimes::default(),
    }
}

fn id() -> ScheduleId {
    ScheduleId {
        namespace: Namespace::local(),
        uid: "8f3c-4a1e".to_owned(),
    }
}

fn whole(time: EventTime) -> EventTime {
    EventTime(time.0 / 1000 * 1000)
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn queue(folder: &TempDir) -> Arc<SqliteQueue> {
    Arc::new(SqliteQueue::open(folder.path(), 1024 * 1024).expect("a queue"))
}

fn config(queue: Arc<SqliteQueue>, records: Arc<dyn ScheduleRecords>) -> Config {
    Config {
        events: Some(EventsConfig { queue, clock }),
        schedules: Some(records),
        ..Config::default()
    }
}

async fn stage(folder: &TempDir, spec: &str) -> Stage {
    let queue = queue(folder);
    let stage = Stage::new(config(queue.clone(), queue), None);
    stage.gateway.deploy(vec![function(spec)]).await;
    stage
}

fn report(stage: &Stage) -> Option<ScheduleReport> {
    let reports = stage.gateway.schedule_reports();
    let reports = reports.borrow();
    reports.get(&id()).cloned()
}

fn times(stage: &Stage) -> ScheduleTimes {
    report(stage).expect("a report").times
}

async fn passed(stage: &Stage, outcome: &str) -> f64 {
    let name = format!("pilotlight_schedule_times_total{{{HELLO},outcome=\"{outcome}\"}}");
    stage.metric(&name).await
}

/// The request ids of all events that come within this time, each answered at once.
async fn served(instance: &mut Instance, during: Duration) -> Vec<String> {
    let (mut ids, end) = (Vec::new(), Instant::now() + during);
    while Instant::now() < end {
        if instance.has_event() {
            let event = instance.event().await;
            ids.push(event.request_id.clone());
            instance.answers(&event, "0").await;
        } else {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }
    ids
}

#[tokio::test(start_paused = true)]
async fn a_schedule_sends_its_input_at_each_of_its_times() {
    on_stage(async {
        let folder = folder();
        let mut stage = stage(&folder, "keepAlive: 3600").await;
        let often = schedule("schedule: rate(1 minute), input: {days: [1]}");
        let start = often.created.expect("a time");
        stage.gateway.set_schedules(vec![often]);
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        assert_eq!(event.payload, "{\"days\":[1]}");
        assert_eq!(event.request_id, event_id("8f3c-4a1e", start));
        instance.answers(&event, "0").await;
        let ids = served(&mut instance, 5 * MINUTE + Duration::from_secs(1)).await;
        let expected = (1..=5).map(|n| event_id("8f3c-4a1e", start.after(n * MINUTE)));
        assert_eq!(ids, Vec::from_iter(expected));
        assert_eq!(
            (passed(&stage, "sent").await, passed(&stage, "missed").await),
            (6.0, 0.0)
        );
        let times = times(&stage);
        assert_eq!(times.last, Some(start.after(5 * MINUTE)));
        assert_eq!(times.next, Some(start.after(6 * MINUTE)));
        let listed = stage.get("/pilotlight/v1/schedules").await.json();
        let line = &listed["schedules"][0];
        assert_eq!(
            (&line["name"], &line["function"]),
            (&"often".into(), &"hello".into())
        );
        assert_eq!(
            (&line["last"], &line["next"]),
            (
                &times.last.map(|at| at.0).into(),
                &times.next.map(|at| at.0).into()
            )
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_next_process_goes_on_where_the_last_one_ended() {
    on_stage(async {
        let folder = folder();
        let often = schedule("schedule: rate(1 minute)");
        let start = often.created.expect("a time");
        let mut first = stage(&folder, "").await;
        first.gateway.set_schedules(vec![often.clone()]);
        let mut instance = first.instance().await;
        let mut ids = served(&mut instance, MINUTE + Duration::from_secs(1)).await;
        first.gateway.shutdown().await;
        drop((instance, first));
        tokio::time::sleep(3 * MINUTE).await;
        let mut next = stage(&folder, "").await;
        next.gateway.set_schedules(vec![often]);
        let mut instance = next.instance().await;
        ids.extend(served(&mut instance, MINUTE).await);
        // Of the three times that passed meanwhile the last one counts.
        let expected = [0, 1, 4, 5].map(|n| event_id("8f3c-4a1e", start.after(n * MINUTE)));
        assert_eq!(ids, expected);
        assert_eq!(times(&next).missed, 2);
        assert_eq!(times(&next).last_missed, Some(start.after(3 * MINUTE)));
        assert_eq!(passed(&next, "missed").await, 2.0);
    })
    .await;
}

/// Records that lose answers, or cannot be reached.
#[derive(Debug)]
struct Unreliable {
    records: Arc<SqliteQueue>,
    /// After so many records no answer comes any more, until it is reset.
    answers: AtomicUsize,
    is_away: AtomicBool,
}

impl Unreliable {
    fn new(records: Arc<SqliteQueue>) -> Arc<Self> {
        Arc::new(Unreliable {
            records,
            answers: AtomicUsize::new(usize::MAX),
            is_away: AtomicBool::new(false),
        })
    }

    fn check(&self) -> Result<(), QueueError> {
        match self.is_away.load(Ordering::Relaxed) {
            true => Err(QueueError::Unavailable("it is away".to_owned())),
            false => Ok(()),
        }
    }
}

impl ScheduleRecords for Unreliable {
    fn read<'a>(
        &'a self,
        schedule: &'a ScheduleId,
    ) -> BoxFuture<'a, Result<Option<ScheduleRecord>, QueueError>> {
        async move {
            self.check()?;
            self.records.read(schedule).await
        }
        .boxed()
    }

    fn store<'a>(
        &'a self,
        schedule: &'a ScheduleId,
        record: ScheduleRecord,
    ) -> BoxFuture<'a, Result<(), QueueError>> {
        async move {
            self.check()?;
            let left = self.answers.load(Ordering::Relaxed);
            if left == 0 {
                return std::future::pending().await;
            }
            self.answers.store(left - 1, Ordering::Relaxed);
            self.records.store(schedule, record).await
        }
        .boxed()
    }

    fn forget<'a>(&'a self, schedule: &'a ScheduleId) -> BoxFuture<'a, Result<(), QueueError>> {
        self.records.forget(schedule)
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_stored_when_its_sender_ends_is_not_sent_again() {
    on_stage(async {
        let folder = folder();
        let queue = queue(&folder);
        let records = Unreliable::new(queue.clone());
        // The first one, and that it sends; not that it has sent.
        records.answers.store(2, Ordering::Relaxed);
        let often = schedule("schedule: rate(10 minutes)");
        let start = often.created.expect("a time");
        let mut first = Stage::new(config(queue.clone(), records.clone()), None);
        first.gateway.deploy(vec![function("")]).await;
        first.gateway.set_schedules(vec![often.clone()]);
        let mut instance = first.instance().await;
        assert_eq!(served(&mut instance, MINUTE).await.len(), 1);
        first.gateway.shutdown().await;
        drop((instance, first));
        let sending = queue.read(&id()).await.expect("a record").expect("one");
        assert!(sending.sending.is_some() && sending.sent.is_none());
        let mut next = Stage::new(config(queue.clone(), queue.clone()), None);
        next.gateway.deploy(vec![function("")]).await;
        next.gateway.set_schedules(vec![often]);
        settled().await;
        assert!(next.starts().await.is_empty(), "its event has run");
        assert_eq!(times(&next).last, Some(start));
        tokio::time::sleep(9 * MINUTE).await;
        let mut instance = next.instance().await;
        let ids = served(&mut instance, MINUTE).await;
        assert_eq!(ids, [event_id("8f3c-4a1e", start.after(10 * MINUTE))]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_time_that_waits_for_the_queue_is_sent_late_or_missed() {
    on_stage(async {
        let folder = folder();
        let queue = queue(&folder);
        let records = Unreliable::new(queue.clone());
        let mut stage = Stage::new(config(queue, records.clone()), None);
        stage
            .gateway
            .deploy(vec![function("keepAlive: 3600")])
            .await;
        let hourly = schedule("schedule: rate(20 minutes), async: {maxAge: 300}");
        let start = hourly.created.expect("a time");
        stage.gateway.set_schedules(vec![hourly]);
        let mut instance = stage.instance().await;
        assert_eq!(served(&mut instance, 19 * MINUTE).await.len(), 1);
        records.is_away.store(true, Ordering::Relaxed);
        assert_eq!(served(&mut instance, 3 * MINUTE).await.len(), 0);
        let state = report(&stage).expect("a report").state;
        assert!(
            matches!(state, ScheduleState::QueueUnavailable(_)),
            "{state:?}"
        );
        records.is_away.store(false, Ordering::Relaxed);
        let late = served(&mut instance, 17 * MINUTE).await;
        assert_eq!(late, [event_id("8f3c-4a1e", start.after(20 * MINUTE))]);
        assert_eq!(passed(&stage, "sent_late").await, 1.0);
        records.is_away.store(true, Ordering::Relaxed);
        assert_eq!(served(&mut instance, 10 * MINUTE).await.len(), 0);
        records.is_away.store(false, Ordering::Relaxed);
        assert_eq!(served(&mut instance, MINUTE).await.len(), 0);
        assert_eq!(times(&stage).missed, 1);
        assert_eq!(times(&stage).last_missed, Some(start.after(40 * MINUTE)));
        assert_eq!(passed(&stage, "missed").await, 1.0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_owner_of_a_function_sends_the_events_of_its_schedules() {
    on_stage(async {
        let folder = folder();
        let queue = queue(&folder);
        let config = || config(queue.clone(), queue.clone());
        let both = two_with("keepAlive: 3600", (config(), config())).await;
        let ((mut first, second_as_peer), (second, first_as_peer)) = both;
        first_as_peer.owns_all(true);
        let often = schedule("schedule: rate(1 minute)");
        let start = often.created.expect("a time");
        for stage in [&first, &second] {
            stage.gateway.set_schedules(vec![often.clone()]);
        }
        let mut instance = first.instance().await;
        let mut ids = served(&mut instance, 2 * MINUTE + Duration::from_secs(1)).await;
        assert!(report(&first).is_some() && report(&second).is_none());
        // For a moment both take themselves for the owner.
        first_as_peer.owns_all(false);
        ids.extend(served(&mut instance, 2 * MINUTE).await);
        second_as_peer.owns_all(true);
        ids.extend(served(&mut instance, 2 * MINUTE).await);
        let expected = (0..=6).map(|n| event_id("8f3c-4a1e", start.after(n * MINUTE)));
        assert_eq!(ids, Vec::from_iter(expected));
        assert!(report(&first).is_none() && report(&second).is_some());
        assert_eq!(times(&second).missed, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_a_schedule_declares_of_its_events_holds_instead_of_what_its_function_declares() {
    on_stage(async {
        let folder = folder();
        let mut stage = stage(&folder, "keepAlive: 3600").await;
        let once = schedule("schedule: rate(1 day), async: {retries: 0}");
        stage.gateway.set_schedules(vec![once]);
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        instance.posts(&event, "error", "{}").await;
        instance.asks();
        assert_eq!(served(&mut instance, 10 * MINUTE).await.len(), 0);
        let exhausted =
            format!("pilotlight_events_ended_total{{{HELLO},condition=\"RetriesExhausted\"}}");
        assert_eq!(stage.metric(&exhausted).await, 1.0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_sends_nothing_says_why() {
    on_stage(async {
        let folder = folder();
        let stage = stage(&folder, "").await;
        let often = schedule("schedule: rate(1 minute)");
        let with = |change: &dyn Fn(&mut ScheduleSpec)| {
            let mut schedule = often.clone();
            change(&mut schedule.spec);
            stage.gateway.set_schedules(vec![schedule]);
        };
        let state = async || {
            settled().await;
            report(&stage).map(|report| report.state)
        };
        with(&|spec| spec.function = "nobody".parse().expect("a name"));
        assert_eq!(state().await, Some(ScheduleState::FunctionNotFound));
        with(&|spec| spec.suspend = true);
        assert_eq!(state().await, Some(ScheduleState::Suspended));
        with(&|spec| {
            let wrong = "61 3 * * *".to_owned();
            spec.schedule = wrong.try_into().expect("its form is right");
        });
        let Some(ScheduleState::Invalid(wrong)) = state().await else {
            panic!("{:?}", report(&stage));
        };
        assert!(
            wrong.to_string().starts_with("spec.schedule: `61 3 * * *`"),
            "{wrong}"
        );
        with(&|spec| {
            let end = "2000-01-01T00:00:00Z".to_owned();
            spec.end = Some(end.try_into().expect("a time"));
        });
        assert_eq!(state().await, Some(ScheduleState::NoFurtherTime));
        stage.gateway.set_schedules(Vec::new());
        assert_eq!(state().await, None);
        let none = Stage::of(function("")).await;
        none.gateway.set_schedules(vec![often.clone()]);
        assert_eq!(
            report(&none).map(|report| report.state),
            Some(ScheduleState::NoQueue)
        );
    })
    .await;
}
