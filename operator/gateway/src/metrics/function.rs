//! What a gateway counts of one function: one [`FunctionMetrics`] for each pool.
//!
//! `driver`, `http::invoke` and the [`Tally`] of each invocation count through handles that each pool gets once, so that
//! an invocation looks up no label: it costs some atomic additions. `functions` writes them out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;
use pilotlight_core::events::delivery::{AfterDelivery, AfterEnd, Delivery};
use pilotlight_core::events::retry::{Attempt, EventEnd};
use pilotlight_core::ids::PoolId;
use pilotlight_core::instance::RequestId;
use pilotlight_core::instance::failure::FailureKind;
use pilotlight_core::instance::phases::{Phase, Phases};
use pilotlight_core::invoke::pool::{Counts, End, Settings};
use pilotlight_core::metrics::embedded::Dropped;
use pilotlight_core::traces::context::of_xray;
use pilotlight_wire::invoke::Outcome;
use pilotlight_wire::state::{Durations, InstanceCounts, Totals};

use crate::clock;
use crate::histogram::{Exemplar, Histogram};

/// How an invocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutcomeLabel {
    Success,
    FunctionError,
    Throttled,
    NotReady,
    Lost,
    Refused,
}

pub(super) const OUTCOMES: [&str; 6] = [
    "success",
    "function_error",
    "throttled",
    "not_ready",
    "lost",
    "refused",
];

/// Why an invocation ended as `function_error`: the handler said so, or the kinds of [`FailureKind`].
pub(super) const HANDLER: &str = "handler";
pub(super) const STATES: [&str; 4] = ["starting", "idle", "busy", "stopping"];
/// How an attempt to send the record of an event ended.
pub(super) const DELIVERIES: [&str; 3] = ["delivered", "failed", "refused"];
/// How an attempt to run an event ended.
pub(super) const ATTEMPTS: [&str; 3] = ["succeeded", "failed", "not_begun"];
/// What became of a time of a schedule.
pub(super) const SCHEDULE_TIMES: [&str; 3] = ["sent", "sent_late", "missed"];
pub(super) const ENDS: [&str; 3] = ["stopped", "not_started", "lost"];

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct FunctionMetrics {
    /// The labels as Prometheus reads them: `namespace="…",function="…",qualifier="…"`.
    pub(super) labels: String,
    pub(super) invocations: [AtomicU64; 6],
    /// By [`HANDLER`] and [`FailureKind::ALL`].
    pub(super) errors: [AtomicU64; 7],
    pub(super) cold_starts: AtomicU64,
    pub(super) queued: AtomicU64,
    pub(super) in_flight: AtomicU64,
    pub(super) instances: [AtomicU64; 4],
    /// Since when the oldest invocation waits, in nanoseconds of [`nanoseconds_of`]; 0 if none waits.
    waiting_since: AtomicU64,
    pub(super) started: AtomicU64,
    pub(super) ended: [AtomicU64; 3],
    pub(super) limit: AtomicU64,
    pub(super) queue_limit: AtomicU64,
    pub(super) provisioned: AtomicU64,
    /// In bytes.
    pub(super) memory: AtomicU64,
    pub(super) duration: Histogram,
    pub(super) lease: Histogram,
    pub(super) wait: Histogram,
    pub(super) cold: Histogram,
    pub(super) init: Histogram,
    pub(super) memory_used: RatioHistogram,
    pub(super) dropped: [AtomicU64; 3],
    /// Events of asynchronous calls.
    pub(super) events_accepted: AtomicU64,
    /// By [`ATTEMPTS`].
    pub(super) event_attempts: [AtomicU64; 3],
    /// By [`EventEnd::ALL`].
    pub(super) event_ends: [AtomicU64; 4],
    /// By [`DELIVERIES`].
    pub(super) deliveries: [AtomicU64; 3],
    /// Records that were given up.
    pub(super) undelivered: AtomicU64,
    pub(super) dead_letters: AtomicU64,
    /// Events that have not ended, and the age of the oldest one in milliseconds, as the owner has seen them last.
    pub(super) events_waiting: AtomicU64,
    pub(super) oldest_event: AtomicU64,
    /// Times of schedules: by [`SCHEDULE_TIMES`].
    pub(super) schedule_times: [AtomicU64; 3],
}

#[derive(Clone, Debug)]
pub(super) struct RatioHistogram(pub(super) Histogram);

impl Default for RatioHistogram {
    fn default() -> Self {
        RatioHistogram(Histogram::of_ratios())
    }
}

/// Counts one invocation when it ends.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    function: Arc<FunctionMetrics>,
    arrived: Instant,
    /// When an instance was asked to run it, for the last time.
    leased: Option<Instant>,
    failure: Option<FailureKind>,
    /// Set if whoever counts the invocation does not have it.
    call: Option<Call>,
}

/// What an example of a metric names.
#[derive(Clone, Debug)]
struct Call {
    request_id: Arc<str>,
    trace: HeaderValue,
}

impl Tally {
    pub(crate) fn new(function: Arc<FunctionMetrics>, arrived: Instant) -> Self {
        Tally {
            function,
            arrived,
            leased: None,
            failure: None,
            call: None,
        }
    }

    /// An instance is about to be asked to run it.
    pub(crate) fn leased(&mut self) {
        self.leased = Some(clock::now());
    }

    /// The instance says which failure it was.
    pub(crate) fn failed(&mut self, failure: Option<FailureKind>) {
        self.failure = failure;
    }

    /// Remembers the invocation, for who does not have it any more when it ends.
    pub(crate) fn of(self, request_id: &RequestId, trace: &HeaderValue) -> Self {
        let call = Call {
            request_id: request_id.clone(),
            trace: trace.clone(),
        };
        Tally {
            call: Some(call),
            ..self
        }
    }

    pub(crate) fn ended(mut self, outcome: OutcomeLabel) {
        let call = self.call.take();
        self.count(outcome, |at, value| {
            let call = call.as_ref();
            call.map(|call| exemplar(&call.request_id, &call.trace, at, value))
        });
    }

    /// `trace`: the header of X-Ray, which an example names beside the request id.
    pub(crate) fn ended_as(self, outcome: OutcomeLabel, call: (&RequestId, &HeaderValue)) {
        self.count(outcome, |at, value| {
            Some(exemplar(call.0, call.1, at, value))
        });
    }

    fn count(self, outcome: OutcomeLabel, call: impl Fn(f64, f64) -> Option<Exemplar>) {
        let (function, now) = (&self.function, clock::now());
        one(&function.invocations[outcome as usize]);
        if outcome == OutcomeLabel::FunctionError {
            let place = self.failure.map_or(0, |failure| 1 + failure as usize);
            one(&function.errors[place]);
        }
        if let Some(leased) = self.leased {
            function
                .lease
                .observe(now.saturating_duration_since(leased));
            function
                .wait
                .observe(leased.saturating_duration_since(self.arrived));
        }
        let took = now.saturating_duration_since(self.arrived);
        let example = || call(clock::unix_time(), took.as_secs_f64());
        function.duration.observe_example(took, now, example);
    }
}

fn exemplar(request_id: &Arc<str>, trace: &HeaderValue, at: f64, value: f64) -> Exemplar {
    Exemplar {
        request_id: request_id.clone(),
        trace_id: trace
            .to_str()
            .ok()
            .and_then(of_xray)
            .map(|context| context.trace.to_string()),
        value,
        at,
    }
}

impl OutcomeLabel {
    pub(crate) fn as_str(self) -> &'static str {
        OUTCOMES[self as usize]
    }

    /// `Some` if it is no success: what a trace says.
    pub(crate) fn error(self) -> Option<&'static str> {
        match self {
            OutcomeLabel::Success => None,
            OutcomeLabel::FunctionError => Some("the function failed"),
            OutcomeLabel::Throttled => Some("a limit was reached, and nothing was executed"),
            OutcomeLabel::NotReady => Some("no instance can be started"),
            OutcomeLabel::Lost => Some("its instance or its gateway was lost"),
            OutcomeLabel::Refused => Some("no gateway took it"),
        }
    }

    pub(crate) fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Answered(answer) if answer.is_error => OutcomeLabel::FunctionError,
            Outcome::Answered(_) => OutcomeLabel::Success,
            Outcome::Lost => OutcomeLabel::Lost,
            Outcome::NotReady(_) => OutcomeLabel::NotReady,
            Outcome::Throttled(_) => OutcomeLabel::Throttled,
            Outcome::NotFound | Outcome::NotPlaced | Outcome::Stopping | Outcome::Invalid(_) => {
                OutcomeLabel::Refused
            }
        }
    }
}

impl FunctionMetrics {
    pub(super) fn of(pool: &PoolId) -> Self {
        // None of these names has a character that would have to be escaped.
        let labels = format!(
            "namespace=\"{}\",function=\"{}\",qualifier=\"{}\"",
            pool.namespace(),
            pool.name(),
            pool.qualifier
        );
        FunctionMetrics {
            labels,
            ..FunctionMetrics::default()
        }
    }

    /// `waiting_since`: when the oldest invocation that waits has arrived.
    pub(crate) fn observe(&self, counts: Counts, queued: usize, waiting_since: Option<Instant>) {
        let states = [counts.starting, counts.idle, counts.busy, counts.stopping];
        for (gauge, count) in self.instances.iter().zip(states) {
            set(gauge, count as u64);
        }
        set(&self.in_flight, counts.busy as u64);
        set(&self.queued, queued as u64);
        set(&self.waiting_since, waiting_since.map_or(0, nanoseconds_of));
    }

    /// What the function may use. `memory`: in bytes.
    pub(crate) fn limited(&self, settings: Settings, memory: u64) {
        set(&self.limit, settings.limit as u64);
        set(&self.queue_limit, settings.queue as u64);
        set(&self.provisioned, settings.provisioned as u64);
        set(&self.memory, memory);
    }

    pub(crate) fn cold_start(&self) {
        one(&self.cold_starts);
    }

    /// How long a cold start took.
    pub(crate) fn phases(&self, phases: &Phases) {
        if let Some(init) = phases.get(Phase::Init) {
            self.init.observe(init);
        }
        self.cold.observe(phases.iter().map(|(_, took)| took).sum());
    }

    pub(crate) fn instance_started(&self) {
        one(&self.started);
    }

    pub(crate) fn instance_ended(&self, end: End) {
        one(&self.ended[match end {
            End::Stopped => 0,
            End::NotStarted => 1,
            End::Lost => 2,
        }]);
    }

    /// The peak of the memory use, as an instance reports it.
    pub(crate) fn memory_used(&self, bytes: u64) {
        let memory = get(&self.memory);
        if memory > 0 {
            self.memory_used
                .0
                .observe_ratio(bytes as f64 / memory as f64);
        }
    }

    /// A metric in the function's log is not counted.
    pub(crate) fn dropped(&self, dropped: Dropped) {
        let mut all = Dropped::ALL.iter();
        if let Some(place) = all.position(|one| *one == dropped) {
            one(&self.dropped[place]);
        }
    }

    pub(crate) fn event_accepted(&self) {
        one(&self.events_accepted);
    }

    pub(crate) fn event_attempt(&self, attempt: Attempt) {
        one(&self.event_attempts[match attempt {
            Attempt::Succeeded => 0,
            Attempt::Failed => 1,
            Attempt::NotBegun => 2,
        }]);
    }

    /// `has_destination`: whether its record goes somewhere.
    pub(crate) fn event_ended(&self, end: EventEnd, has_destination: bool) {
        if end.then(has_destination) == AfterEnd::Dead {
            one(&self.dead_letters);
        }
        let mut all = EventEnd::ALL.iter();
        if let Some(place) = all.position(|one| *one == end) {
            one(&self.event_ends[place]);
        }
    }

    pub(crate) fn events_waiting(&self, count: u64, age: Duration) {
        set(&self.events_waiting, count);
        set(&self.oldest_event, age.as_millis() as u64);
    }

    /// An attempt to send the record of an event, and what follows it.
    pub(crate) fn event_delivery(&self, delivery: Delivery, after: AfterDelivery) {
        one(&self.deliveries[match delivery {
            Delivery::Delivered => 0,
            Delivery::Failed => 1,
            Delivery::Refused => 2,
        }]);
        if let AfterDelivery::GivenUp { is_dead } = after {
            one(&self.undelivered);
            if is_dead {
                one(&self.dead_letters);
            }
        }
    }

    /// A schedule has sent an event. `is_late`: long after its moment.
    pub(crate) fn schedule_sent(&self, is_late: bool) {
        one(&self.schedule_times[usize::from(is_late)]);
    }

    pub(crate) fn schedule_missed(&self, count: u64) {
        self.schedule_times[2].fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self) {
        one(&self.invocations[OutcomeLabel::Refused as usize]);
    }

    /// Whether anything happened yet: then one of its series is more than 0.
    pub(super) fn was_active(&self) -> bool {
        let counters = self
            .invocations
            .iter()
            .chain(&self.instances)
            .chain(&self.dropped)
            .chain(&self.event_ends)
            .chain(&self.schedule_times);
        let singles = [&self.queued, &self.started, &self.events_accepted];
        let mut all = counters.chain(singles);
        all.any(|count| get(count) > 0)
    }

    /// Adds all counts of another function, but for the limits.
    pub(super) fn add(&self, other: &FunctionMetrics) {
        let pairs: [(&[AtomicU64], &[AtomicU64]); 9] = [
            (&self.invocations, &other.invocations),
            (&self.errors, &other.errors),
            (&self.instances, &other.instances),
            (&self.ended, &other.ended),
            (&self.dropped, &other.dropped),
            (&self.event_attempts, &other.event_attempts),
            (&self.event_ends, &other.event_ends),
            (&self.deliveries, &other.deliveries),
            (&self.schedule_times, &other.schedule_times),
        ];
        let singles = [
            (&self.cold_starts, &other.cold_starts),
            (&self.queued, &other.queued),
            (&self.in_flight, &other.in_flight),
            (&self.started, &other.started),
            (&self.events_accepted, &other.events_accepted),
            (&self.undelivered, &other.undelivered),
            (&self.dead_letters, &other.dead_letters),
            (&self.events_waiting, &other.events_waiting),
        ];
        let pairs = pairs
            .into_iter()
            .flat_map(|(all, more)| all.iter().zip(more));
        for (sum, more) in pairs.chain(singles) {
            sum.fetch_add(get(more), Ordering::Relaxed);
        }
        let (own, more) = (&self.waiting_since, get(&other.waiting_since));
        // The oldest of all: 0 is nobody.
        if more > 0 && (get(own) == 0 || more < get(own)) {
            set(own, more);
        }
        for (sum, more) in self.histograms().into_iter().zip(other.histograms()) {
            sum.add(more);
        }
    }

    fn histograms(&self) -> [&Histogram; 6] {
        [
            &self.duration,
            &self.lease,
            &self.wait,
            &self.cold,
            &self.init,
            &self.memory_used.0,
        ]
    }

    /// No instance lives and no call waits any more; what was counted stays.
    pub(super) fn emptied(&self) {
        self.observe(Counts::default(), 0, None);
    }

    /// How long the oldest invocation has waited.
    pub(super) fn queue_age(&self) -> Duration {
        let since = get(&self.waiting_since);
        match since {
            0 => Duration::ZERO,
            since => Duration::from_nanos(nanoseconds_of(clock::now()).saturating_sub(since)),
        }
    }

    pub(crate) fn instances(&self) -> InstanceCounts {
        let [starting, idle, busy, stopping] = self.instances.each_ref().map(get);
        InstanceCounts {
            starting,
            idle,
            busy,
            stopping,
        }
    }

    pub(crate) fn queued(&self) -> u64 {
        get(&self.queued)
    }

    pub(crate) fn totals(&self) -> Totals {
        let of = |outcome: OutcomeLabel| get(&self.invocations[outcome as usize]);
        let invocations = self.invocations.iter().map(get).sum();
        Totals {
            invocations,
            // The counters are read one by one while invocations end, so that the sum may lag behind one of them.
            failed: u64::saturating_sub(invocations, of(OutcomeLabel::Success)),
            errors: of(OutcomeLabel::FunctionError),
            throttles: of(OutcomeLabel::Throttled),
            cold_starts: get(&self.cold_starts),
        }
    }

    pub(crate) fn durations(&self) -> Durations {
        self.duration.durations()
    }
}

pub(super) fn get(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn set(gauge: &AtomicU64, value: u64) {
    gauge.store(value, Ordering::Relaxed);
}

fn one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Nanoseconds since the first call, at least 1. All waiting invocations are measured by it, so the first call is by one that
/// waits, and what arrived before it did so by less than a scrape can tell.
fn nanoseconds_of(at: Instant) -> u64 {
    static ORIGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let origin = *ORIGIN.get_or_init(|| at);
    let since = at.saturating_duration_since(origin).as_nanos();
    u64::try_from(since).unwrap_or(u64::MAX).max(1)
}
