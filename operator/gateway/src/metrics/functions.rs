//! The metrics of all functions: who has series of its own, what the functions' logs add, and the text of all.
//!
//! `Metrics` holds one. The number of series is bounded: beyond `Config::own_series` functions the rest share the series
//! with the labels `(other)` (`core::metrics::places`). Every function still has counts of its own, which the state API
//! reads. Metrics that functions write into their logs are bounded by `core::metrics::embedded`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pilotlight_core::events::retry::EventEnd;
use pilotlight_core::ids::PoolId;
use pilotlight_core::instance::failure::FailureKind;
use pilotlight_core::metrics::embedded::{self, Dropped, Embedded};
use pilotlight_core::metrics::places::{Places, SeriesPlace};
use pilotlight_logs::entry::Entry;
use pilotlight_logs::report::Report;
use pilotlight_wire::exposition::Format;
use pilotlight_wire::log_record::LogSource;

use super::function::{
    ATTEMPTS, DELIVERIES, ENDS, FunctionMetrics, HANDLER, OUTCOMES, SCHEDULE_TIMES, STATES, get,
};
use super::text::{Kind, Text, label, number};
use crate::clock;
use crate::histogram::Histogram;

/// The labels of the functions that share their series. No name has such characters.
const OTHERS: &str = "namespace=\"(other)\",function=\"(other)\",qualifier=\"(other)\"";

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Functions {
    known: Arc<Mutex<CountedFunctions>>,
    /// Apart from `known`, since records come more often than functions change.
    embedded: Arc<Mutex<Embedded<PoolId>>>,
}

#[derive(Debug)]
struct CountedFunctions {
    all: BTreeMap<PoolId, Arc<FunctionMetrics>>,
    places: Places<PoolId>,
    /// The counts of deleted functions that shared the series of the others, which must not decrease.
    gone: FunctionMetrics,
}

/// The series of one function, or of all others.
struct Row<'a> {
    labels: &'a str,
    metrics: &'a FunctionMetrics,
    /// `None`: of all others.
    pool: Option<&'a PoolId>,
}

/// The name, the help, the label, its values, and the counts by them.
type Counters<'a> = (
    &'static str,
    &'a str,
    &'a str,
    &'a [&'a str],
    fn(&FunctionMetrics) -> Vec<u64>,
);

type HistogramOf = fn(&FunctionMetrics) -> &Histogram;
type LimitOf = fn(&FunctionMetrics) -> u64;

impl Functions {
    /// `own_series`: how many functions have series of their own.
    pub(super) fn new(own_series: usize) -> Self {
        let known = CountedFunctions {
            all: BTreeMap::new(),
            places: Places::new(own_series),
            gone: FunctionMetrics::default(),
        };
        Functions {
            known: Arc::new(Mutex::new(known)),
            embedded: Arc::default(),
        }
    }

    pub(super) fn get(&self, pool: &PoolId) -> Arc<FunctionMetrics> {
        let mut known = self.known();
        let known = known.all.entry(pool.clone());
        known
            .or_insert_with(|| Arc::new(FunctionMetrics::of(pool)))
            .clone()
    }

    pub(super) fn forget(&self, pool: &PoolId) {
        let mut known = self.known();
        let place = known.places.remove(pool);
        let metrics = known.all.remove(pool);
        if let (SeriesPlace::Others, Some(metrics)) = (place, metrics) {
            metrics.emptied();
            known.gone.add(&metrics);
        }
        self.embedded().remove(pool);
    }

    /// A record of a function's log: what it says in figures is counted.
    pub(super) fn observe(&self, record: &Entry) {
        let pool = || PoolId {
            function: record.key(),
            qualifier: record.qualifier,
        };
        let function = |pool: &PoolId| self.known().all.get(pool).cloned();
        if record.source == LogSource::Platform {
            if let Some(bytes) = Report::memory_used_of(record)
                && let Some(function) = function(&pool())
            {
                function.memory_used(bytes);
            }
            return;
        }
        let Some(reading) = embedded::read(&record.text) else {
            return;
        };
        // A record that comes after the end of its function counts nowhere, or it would count for ever.
        let pool = pool();
        let Some(function) = function(&pool) else {
            return;
        };
        let dropped = self.embedded().add(clock::now(), &pool, reading);
        dropped
            .into_iter()
            .for_each(|dropped| function.dropped(dropped));
    }

    pub(super) fn encode(&self, format: Format) -> String {
        let mut known = self.known();
        let CountedFunctions { all, places, gone } = &mut *known;
        places.settle(
            all.iter()
                .map(|(pool, metrics)| (pool, metrics.was_active())),
        );
        let others = FunctionMetrics::default();
        others.add(gone);
        let mut rows = Vec::new();
        for (pool, metrics) in all.iter() {
            match places.of(pool) {
                SeriesPlace::Own => rows.push(Row {
                    labels: &metrics.labels,
                    metrics,
                    pool: Some(pool),
                }),
                SeriesPlace::Others => others.add(metrics),
                SeriesPlace::None => {}
            }
        }
        if others.was_active() {
            rows.push(Row {
                labels: OTHERS,
                metrics: &others,
                pool: None,
            });
        }
        let mut text = Text::new(format);
        text.metric(
            "pilotlight_functions_without_own_series",
            Kind::Gauge,
            "Functions that share the series with the label (other)",
        );
        text.sample(&[], places.others());
        write_all(&mut text, &rows);
        write_embedded(&mut text, &rows, &self.embedded());
        text.finish()
    }

    fn known(&self) -> MutexGuard<'_, CountedFunctions> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn embedded(&self) -> MutexGuard<'_, Embedded<PoolId>> {
        self.embedded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_all(text: &mut Text, rows: &[Row<'_>]) {
    let counters: [Counters<'_>; 13] = [
        (
            "pilotlight_invocations",
            "Invocations that ended, by outcome",
            "outcome",
            &OUTCOMES,
            |one| one.invocations.iter().map(get).collect(),
        ),
        (
            "pilotlight_function_errors",
            "Invocations that ended in an error of the function, by reason",
            "reason",
            &reasons(),
            |one| one.errors.iter().map(get).collect(),
        ),
        (
            "pilotlight_cold_starts",
            "Calls that waited for an instance to come up",
            "",
            &[""],
            |one| vec![get(&one.cold_starts)],
        ),
        (
            "pilotlight_instances_started",
            "Instances whose start was begun",
            "",
            &[""],
            |one| vec![get(&one.started)],
        ),
        (
            "pilotlight_instances_ended",
            "Instances that ended, by reason",
            "reason",
            &ENDS,
            |one| one.ended.iter().map(get).collect(),
        ),
        (
            "pilotlight_function_metrics_dropped",
            "Metrics in the function's log that were not counted, by reason",
            "reason",
            &Dropped::ALL.map(Dropped::as_str),
            |one| one.dropped.iter().map(get).collect(),
        ),
        (
            "pilotlight_events_accepted",
            "Events of asynchronous calls that were stored",
            "",
            &[""],
            |one| vec![get(&one.events_accepted)],
        ),
        (
            "pilotlight_event_attempts",
            "Attempts to run an event, by what became of them",
            "outcome",
            &ATTEMPTS,
            |one| one.event_attempts.iter().map(get).collect(),
        ),
        (
            "pilotlight_events_ended",
            "Events that ended, by condition",
            "condition",
            &EventEnd::ALL.map(EventEnd::condition),
            |one| one.event_ends.iter().map(get).collect(),
        ),
        (
            "pilotlight_event_deliveries",
            "Attempts to send the record of an event to its destination, by what became of them",
            "outcome",
            &DELIVERIES,
            |one| one.deliveries.iter().map(get).collect(),
        ),
        (
            "pilotlight_event_records_given_up",
            "Records of events that their destinations did not get",
            "",
            &[""],
            |one| vec![get(&one.undelivered)],
        ),
        (
            "pilotlight_dead_letters",
            "Events that were kept as dead letters",
            "",
            &[""],
            |one| vec![get(&one.dead_letters)],
        ),
        (
            "pilotlight_schedule_times",
            "Times of schedules that have passed, by what became of them",
            "outcome",
            &SCHEDULE_TIMES,
            |one| one.schedule_times.iter().map(get).collect(),
        ),
    ];
    for (name, help, by, values, counts) in counters {
        text.metric(name, Kind::Counter, help);
        for row in rows {
            for (value, count) in values.iter().zip(counts(row.metrics)) {
                let by = if by.is_empty() {
                    String::new()
                } else {
                    label(by, value)
                };
                text.sample(&[row.labels, &by], count);
            }
        }
    }
    write_gauges(text, rows);
    let histograms: [(&'static str, &str, HistogramOf); 6] = [
        (
            "pilotlight_invocation_duration_seconds",
            "Time from the arrival of the request to its answer, including the wait in the queue",
            |one| &one.duration,
        ),
        (
            "pilotlight_lease_duration_seconds",
            "Time from the moment an instance was asked to run an invocation to its answer",
            |one| &one.lease,
        ),
        (
            "pilotlight_queue_wait_seconds",
            "Time that an invocation waited for an instance, of those that got one",
            |one| &one.wait,
        ),
        (
            "pilotlight_cold_start_duration_seconds",
            "How long a call waited for a new instance, with its init",
            |one| &one.cold,
        ),
        (
            "pilotlight_init_duration_seconds",
            "How long the init took in a cold start",
            |one| &one.init,
        ),
        (
            "pilotlight_memory_used_ratio",
            "Peak of the memory use after each invocation, as a part of the function's memory",
            |one| &one.memory_used.0,
        ),
    ];
    for (name, help, histogram) in histograms {
        text.metric(name, Kind::Histogram, help);
        for row in rows {
            text.histogram(row.labels, histogram(row.metrics));
        }
    }
}

fn write_gauges(text: &mut Text, rows: &[Row<'_>]) {
    text.metric("pilotlight_instances", Kind::Gauge, "Instances, by state");
    for row in rows {
        for (state, count) in STATES.iter().zip(&row.metrics.instances) {
            text.sample(&[row.labels, &label("state", state)], get(count));
        }
    }
    text.metric(
        "pilotlight_in_flight",
        Kind::Gauge,
        "Invocations in an instance",
    );
    for row in rows {
        text.sample(&[row.labels], get(&row.metrics.in_flight));
    }
    text.metric(
        "pilotlight_queued",
        Kind::Gauge,
        "Invocations that wait for an instance",
    );
    for row in rows {
        text.sample(&[row.labels], get(&row.metrics.queued));
    }
    text.metric(
        "pilotlight_events_waiting",
        Kind::Gauge,
        "Events of asynchronous calls that have not ended, at the owner of the function",
    );
    for row in rows {
        text.sample(&[row.labels], get(&row.metrics.events_waiting));
    }
    text.metric(
        "pilotlight_oldest_event_seconds",
        Kind::Gauge,
        "How old the oldest of these events is",
    );
    for row in rows {
        let millis = get(&row.metrics.oldest_event);
        let age = Duration::from_millis(millis);
        text.sample(&[row.labels], number(age.as_secs_f64()));
    }
    text.metric(
        "pilotlight_queue_age_seconds",
        Kind::Gauge,
        "How long the oldest invocation that waits for an instance has waited",
    );
    for row in rows {
        text.sample(&[row.labels], number(row.metrics.queue_age().as_secs_f64()));
    }
    // A sum of limits would mean nothing, so the others have none.
    let limits: [(&'static str, &str, LimitOf); 4] = [
        (
            "pilotlight_concurrency_limit",
            "Instances that the function may have",
            |one| get(&one.limit),
        ),
        (
            "pilotlight_queue_limit",
            "Invocations that may wait for an instance",
            |one| get(&one.queue_limit),
        ),
        (
            "pilotlight_provisioned_instances",
            "Instances that are kept initialised without calls",
            |one| get(&one.provisioned),
        ),
        (
            "pilotlight_memory_limit_bytes",
            "Memory that an instance of the function may use",
            |one| get(&one.memory),
        ),
    ];
    for (name, help, limit) in limits {
        text.metric(name, Kind::Gauge, help);
        for row in rows.iter().filter(|row| row.pool.is_some()) {
            text.sample(&[row.labels], limit(row.metrics));
        }
    }
}

/// The metrics that functions write into their logs. Those of functions without series of their own are not shown.
fn write_embedded(text: &mut Text, rows: &[Row<'_>], embedded: &Embedded<PoolId>) {
    text.metric(
        "pilotlight_function_metric_series",
        Kind::Gauge,
        "Sums of metrics that functions write into their logs",
    );
    text.sample(&[], embedded.total());
    let sums = || {
        let own = rows.iter().filter_map(|row| Some((row.labels, row.pool?)));
        own.flat_map(|(labels, pool)| {
            let sums = embedded.of(pool);
            sums.map(move |(key, sum)| (format!("{labels},{}", labels_of(key)), *sum))
        })
    };
    text.metric(
        "pilotlight_function_metric",
        Kind::Summary,
        "Values of a metric that the function writes into its log",
    );
    for (labels, sum) in sums() {
        text.summary(&[&labels], sum.count, sum.sum);
    }
    text.metric(
        "pilotlight_function_metric_last",
        Kind::Gauge,
        "The last value of a metric that the function writes into its log",
    );
    for (labels, sum) in sums() {
        text.sample(&[&labels], number(sum.last));
    }
}

fn labels_of(key: &embedded::Key) -> String {
    let mut labels = vec![
        label("metric_namespace", &key.namespace),
        label("metric", &key.metric),
        label("unit", key.unit),
    ];
    let dimensions = key.dimensions.iter();
    labels.extend(dimensions.map(|(name, value)| label(&format!("dimension_{name}"), value)));
    labels.join(",")
}

fn reasons() -> [&'static str; 7] {
    let mut reasons = [HANDLER; 7];
    for (reason, kind) in reasons[1..].iter_mut().zip(FailureKind::ALL) {
        *reason = kind.as_str();
    }
    reasons
}
