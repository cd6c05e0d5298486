//! The gateway's metrics: in Prometheus' text format at `/metrics`, and for the state API.
//!
//! `driver`, `http::invoke` and the [`Tally`] of each invocation count through handles that each pool gets once, so that an
//! invocation looks up no label. All labels have fixed sets of values, except the names of the pool, which are
//! dropped when its function is deleted.

mod access;
pub(crate) mod intake;
pub(crate) mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotlight_core::ids::PoolId;
use pilotlight_core::instance::phases::{Phase, Phases};
use pilotlight_core::invoke::pool::Counts;
use pilotlight_wire::invoke::Outcome;
use pilotlight_wire::state::{Durations, InstanceCounts, Totals};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

pub(crate) use self::access::AccessMetrics;
use self::intake::IntakeMetrics;
use self::tls::TlsMetrics;
use crate::clock;
use crate::histogram::DurationHistogram;

/// How an invocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "label values are in snake case")]
pub(crate) enum OutcomeLabel {
    success,
    function_error,
    throttled,
    not_ready,
    lost,
    refused,
}

const OUTCOMES: [OutcomeLabel; 6] = [
    OutcomeLabel::success,
    OutcomeLabel::function_error,
    OutcomeLabel::throttled,
    OutcomeLabel::not_ready,
    OutcomeLabel::lost,
    OutcomeLabel::refused,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "label values are in snake case")]
enum InstanceState {
    starting,
    idle,
    busy,
    stopping,
}

const STATES: [InstanceState; 4] = [
    InstanceState::starting,
    InstanceState::idle,
    InstanceState::busy,
    InstanceState::stopping,
];

/// The labels of one pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPool {
    namespace: String,
    function: String,
    qualifier: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    #[prometheus(flatten)]
    pool: OfPool,
    outcome: OutcomeLabel,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    #[prometheus(flatten)]
    pool: OfPool,
    state: InstanceState,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPhase {
    phase: &'static str,
}

/// All metrics of this gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    invocations: Family<OfOutcome, Counter>,
    cold_starts: Family<OfPool, Counter>,
    phases: Family<OfPhase, DurationHistogram>,
    forwarded: Counter,
    queued: Family<OfPool, Gauge>,
    in_flight: Family<OfPool, Gauge>,
    instances: Family<OfState, Gauge>,
    duration: Family<OfPool, DurationHistogram>,
    unreadable: Gauge,
    pub(crate) intake: IntakeMetrics,
    pub(crate) access: AccessMetrics,
    pub(crate) tls: TlsMetrics,
}

/// The handles of one pool, which the driver and the request handlers share.
#[derive(Debug)]
pub(crate) struct FunctionMetrics {
    invocations: [Counter; 6],
    cold_starts: Counter,
    queued: Gauge,
    in_flight: Gauge,
    instances: [Gauge; 4],
    duration: DurationHistogram,
}

impl OfPool {
    fn of(pool: &PoolId) -> Self {
        OfPool {
            namespace: pool.namespace().to_string(),
            function: pool.name().to_string(),
            qualifier: pool.qualifier.as_str(),
        }
    }
}

/// Counts one invocation when it ends.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    function: Arc<FunctionMetrics>,
    arrived: Instant,
}

impl Tally {
    pub(crate) fn new(function: Arc<FunctionMetrics>, arrived: Instant) -> Self {
        Tally { function, arrived }
    }

    pub(crate) fn ended(self, outcome: OutcomeLabel) {
        let took = clock::since(self.arrived);
        self.function.ended(outcome, took);
    }
}

impl OutcomeLabel {
    pub(crate) fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Answered(answer) if answer.is_error => OutcomeLabel::function_error,
            Outcome::Answered(_) => OutcomeLabel::success,
            Outcome::Lost => OutcomeLabel::lost,
            Outcome::NotReady(_) => OutcomeLabel::not_ready,
            Outcome::Throttled(_) => OutcomeLabel::throttled,
            Outcome::NotFound | Outcome::NotPlaced | Outcome::Stopping | Outcome::Invalid(_) => {
                OutcomeLabel::refused
            }
        }
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("pilotlight");
        let invocations = Family::default();
        registry.register(
            "invocations",
            "Invocations that ended, by outcome",
            invocations.clone(),
        );
        let cold_starts = Family::default();
        registry.register(
            "cold_starts",
            "Calls that waited for an instance to come up",
            cold_starts.clone(),
        );
        let phases = Family::default();
        registry.register_with_unit(
            "cold_start_phase",
            "How long cold starts took, by phase",
            Unit::Seconds,
            phases.clone(),
        );
        let forwarded = Counter::default();
        registry.register(
            "forwarded",
            "Calls sent on to the gateway that owns the function",
            forwarded.clone(),
        );
        let queued = Family::default();
        registry.register(
            "queued",
            "Invocations that wait for an instance",
            queued.clone(),
        );
        let in_flight = Family::default();
        registry.register("in_flight", "Invocations in an instance", in_flight.clone());
        let instances = Family::default();
        registry.register("instances", "Instances, by state", instances.clone());
        let duration = Family::default();
        registry.register_with_unit(
            "invocation_duration",
            "Time from the arrival of the request to its answer, including the wait in the queue",
            Unit::Seconds,
            duration.clone(),
        );
        let unreadable = Gauge::default();
        registry.register(
            "unreadable_functions",
            "Functions with a spec that this version cannot read",
            unreadable.clone(),
        );
        let intake = IntakeMetrics::register(&mut registry);
        let access = AccessMetrics::register(&mut registry);
        let tls = TlsMetrics::register(&mut registry);
        let registry = Arc::new(registry);
        Metrics {
            registry,
            invocations,
            cold_starts,
            phases,
            forwarded,
            queued,
            in_flight,
            instances,
            duration,
            unreadable,
            intake,
            access,
            tls,
        }
    }

    pub(crate) fn unreadable(&self, functions: usize) {
        self.unreadable.set(functions as i64);
    }

    pub(crate) fn function(&self, pool: &PoolId) -> Arc<FunctionMetrics> {
        let labels = OfPool::of(pool);
        Arc::new(FunctionMetrics {
            invocations: OUTCOMES.map(|outcome| {
                let pool = labels.clone();
                self.invocations
                    .get_or_create_owned(&OfOutcome { pool, outcome })
            }),
            cold_starts: self.cold_starts.get_or_create_owned(&labels),
            queued: self.queued.get_or_create_owned(&labels),
            in_flight: self.in_flight.get_or_create_owned(&labels),
            instances: STATES.map(|state| {
                let pool = labels.clone();
                self.instances.get_or_create_owned(&OfState { pool, state })
            }),
            duration: self.duration.get_or_create_owned(&labels),
        })
    }

    pub(crate) fn cold_start(&self, phases: &Phases) {
        for (phase, duration) in phases.iter() {
            let phase = phase.as_str();
            let histogram = self.phases.get_or_create(&OfPhase { phase });
            histogram.observe(duration);
        }
    }

    /// How long cold starts took, by phase.
    pub(crate) fn phases(&self) -> BTreeMap<String, Durations> {
        let phases = Phase::ALL.into_iter().filter_map(|phase| {
            let phase = phase.as_str();
            let histogram = self.phases.get(&OfPhase { phase })?;
            Some((phase.to_owned(), histogram.durations()))
        });
        phases.collect()
    }

    pub(crate) fn forwarded(&self) {
        self.forwarded.inc();
    }

    pub(crate) fn forget(&self, pool: &PoolId) {
        let labels = OfPool::of(pool);
        for outcome in OUTCOMES {
            self.invocations.remove(&OfOutcome {
                pool: labels.clone(),
                outcome,
            });
        }
        for state in STATES {
            self.instances.remove(&OfState {
                pool: labels.clone(),
                state,
            });
        }
        self.cold_starts.remove(&labels);
        self.queued.remove(&labels);
        self.in_flight.remove(&labels);
        self.duration.remove(&labels);
    }

    pub(crate) fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl FunctionMetrics {
    pub(crate) fn observe(&self, counts: Counts, queued: usize) {
        let states = [counts.starting, counts.idle, counts.busy, counts.stopping];
        for (gauge, count) in self.instances.iter().zip(states) {
            gauge.set(count as i64);
        }
        self.in_flight.set(counts.busy as i64);
        self.queued.set(queued as i64);
    }

    pub(crate) fn cold_start(&self) {
        self.cold_starts.inc();
    }

    fn ended(&self, outcome: OutcomeLabel, took: Duration) {
        self.invocations[outcome as usize].inc();
        self.duration.observe(took);
    }

    pub(crate) fn refused(&self) {
        self.invocations[OutcomeLabel::refused as usize].inc();
    }

    pub(crate) fn instances(&self) -> InstanceCounts {
        let [starting, idle, busy, stopping] = self.instances.each_ref().map(count);
        InstanceCounts {
            starting,
            idle,
            busy,
            stopping,
        }
    }

    pub(crate) fn queued(&self) -> u64 {
        count(&self.queued)
    }

    pub(crate) fn totals(&self) -> Totals {
        let of = |outcome: OutcomeLabel| self.invocations[outcome as usize].get();
        let invocations = OUTCOMES.map(of).iter().sum();
        Totals {
            invocations,
            // The counters are read one by one while invocations end, so that the sum may lag behind one of them.
            failed: invocations.saturating_sub(of(OutcomeLabel::success)),
            errors: of(OutcomeLabel::function_error),
            throttles: of(OutcomeLabel::throttled),
            cold_starts: self.cold_starts.get(),
        }
    }

    pub(crate) fn durations(&self) -> Durations {
        self.duration.durations()
    }
}

fn count(gauge: &Gauge) -> u64 {
    u64::try_from(gauge.get()).unwrap_or(0)
}
