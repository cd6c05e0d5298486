//! A histogram that many threads fill without a lock, with an example of each bucket.
//!
//! `metrics` has some for each function and one for each phase of cold starts. It is written as a Prometheus
//! histogram (`/metrics`) and read for the state API (`wire::state`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pilotlight_wire::state::Durations;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper bounds of durations, in seconds.
const DURATIONS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 900.0,
];
/// Upper bounds of shares of a whole.
const RATIOS: [f64; 8] = [0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0];

/// How often a bucket's example changes at most. Prometheus takes one of each bucket at each scrape.
const EXAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Cheap to clone; all clones are one histogram.
#[derive(Clone, Debug)]
pub(crate) struct Histogram(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    bounds: &'static [f64],
    /// By bound; the last one is for all that is larger.
    counts: Box<[AtomicU64]>,
    /// The sum of all values, in billionths.
    sum: AtomicU64,
    /// By bound, once there is one.
    examples: OnceLock<Box<[Example]>>,
}

/// One of the values of a bucket, and the invocation that it is of.
#[derive(Debug)]
struct Example {
    /// When the next one may replace it, in seconds of the clock of `seconds_of`.
    due: AtomicU64,
    kept: Mutex<Option<Exemplar>>,
}

/// An invocation that a scraper can look up.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Exemplar {
    pub(crate) request_id: Arc<str>,
    pub(crate) trace_id: Option<String>,
    pub(crate) value: f64,
    /// Seconds since 1970.
    pub(crate) at: f64,
}

impl Histogram {
    pub(crate) fn of_durations() -> Self {
        Self::new(&DURATIONS)
    }

    pub(crate) fn of_ratios() -> Self {
        Self::new(&RATIOS)
    }

    fn new(bounds: &'static [f64]) -> Self {
        Histogram(Arc::new(Counts {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
            examples: OnceLock::new(),
        }))
    }

    pub(crate) fn observe(&self, duration: Duration) {
        // A u64 holds 584 years.
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.count(duration.as_secs_f64(), nanoseconds);
    }

    pub(crate) fn observe_ratio(&self, ratio: f64) {
        self.count(ratio, (ratio * 1e9) as u64);
    }

    /// `example`: what the value is of. It is asked for at most once in [`EXAMPLE_INTERVAL`] for each bucket, so that
    /// most values cost one more comparison.
    pub(crate) fn observe_example(
        &self,
        duration: Duration,
        now: Instant,
        example: impl FnOnce() -> Option<Exemplar>,
    ) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let place = self.count(duration.as_secs_f64(), nanoseconds);
        let examples = self.0.examples.get_or_init(|| {
            let places = 0..self.0.counts.len();
            places.map(|_| Example::default()).collect()
        });
        examples[place].offer(seconds_of(now), example);
    }

    fn count(&self, value: f64, billionths: u64) -> usize {
        let place = self.0.bounds.partition_point(|bound| *bound < value);
        self.0.counts[place].fetch_add(1, Ordering::Relaxed);
        self.0.sum.fetch_add(billionths, Ordering::Relaxed);
        place
    }

    /// Adds the counts of another histogram with the same bounds.
    pub(crate) fn add(&self, other: &Histogram) {
        for (count, more) in self.0.counts.iter().zip(&other.0.counts) {
            count.fetch_add(more.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let more = other.0.sum.load(Ordering::Relaxed);
        self.0.sum.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn durations(&self) -> Durations {
        Durations {
            bounds: self.0.bounds.to_vec(),
            counts: self.counts(),
        }
    }

    /// The count of each bucket by itself, the last one for all that is larger.
    pub(crate) fn counts(&self) -> Vec<u64> {
        let counts = self.0.counts.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).collect()
    }

    pub(crate) fn bounds(&self) -> &'static [f64] {
        self.0.bounds
    }

    pub(crate) fn sum(&self) -> f64 {
        Duration::from_nanos(self.0.sum.load(Ordering::Relaxed)).as_secs_f64()
    }

    pub(crate) fn example(&self, place: usize) -> Option<Exemplar> {
        let example = self.0.examples.get()?.get(place)?;
        let kept = example.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clone()
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::of_durations()
    }
}

impl Default for Example {
    fn default() -> Self {
        Example {
            due: AtomicU64::new(0),
            kept: Mutex::new(None),
        }
    }
}

impl Example {
    fn offer(&self, now: u64, example: impl FnOnce() -> Option<Exemplar>) {
        let due = self.due.load(Ordering::Relaxed);
        if now < due {
            return;
        }
        let (next, order) = (now + EXAMPLE_INTERVAL.as_secs(), Ordering::Relaxed);
        // If two threads come at once, one example is enough.
        if self.due.compare_exchange(due, next, order, order).is_ok()
            && let Some(example) = example()
        {
            *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(example);
        }
    }
}

/// Seconds since the first call.
fn seconds_of(now: Instant) -> u64 {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let first = *FIRST.get_or_init(|| now);
    now.saturating_duration_since(first).as_secs()
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts = self.counts();
        let bounds = self.0.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
        encoder.encode_histogram::<NoLabelSet>(self.sum(), counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn prometheus_reads_cumulative_counts_and_the_state_single_ones() {
        let histogram = Histogram::of_durations();
        let mut registry = Registry::default();
        registry.register("d", "Durations", histogram.clone());
        for milliseconds in [1, 2, 2_000_000] {
            histogram.observe(Duration::from_millis(milliseconds));
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a text");
        for line in [
            "d_sum 2000.003",
            "d_count 3",
            "d_bucket{le=\"0.0005\"} 0",
            "d_bucket{le=\"0.001\"} 1",
            "d_bucket{le=\"0.0025\"} 2",
            "d_bucket{le=\"900.0\"} 2",
            "d_bucket{le=\"+Inf\"} 3",
        ] {
            assert!(
                text.lines().any(|written| written == line),
                "{line}\n{text}"
            );
        }
        let durations = histogram.durations();
        assert_eq!(durations.counts[..4], [0, 1, 1, 0]);
        assert_eq!((durations.counts[14], durations.counts.len()), (1, 15));
    }

    #[test]
    fn a_bucket_keeps_an_example_and_changes_it_after_a_while() {
        let histogram = Histogram::of_durations();
        let start = Instant::now();
        let took = Duration::from_millis(3);
        let example = |id: &str| Exemplar {
            request_id: id.into(),
            trace_id: None,
            value: took.as_secs_f64(),
            at: 0.0,
        };
        let ids = |at: Instant, id| {
            histogram.observe_example(took, at, || Some(example(id)));
            histogram.example(3).map(|kept| kept.request_id.to_string())
        };
        assert_eq!(histogram.example(3), None);
        assert_eq!(ids(start, "first").as_deref(), Some("first"));
        assert_eq!(ids(start, "second").as_deref(), Some("first"));
        let later = start + 2 * EXAMPLE_INTERVAL;
        assert_eq!(ids(later, "third").as_deref(), Some("third"));
        assert_eq!((histogram.example(2), histogram.counts()[3]), (None, 3));
    }

    #[test]
    fn ratios_have_their_own_bounds_and_add_up() {
        let (one, other) = (Histogram::of_ratios(), Histogram::of_ratios());
        for (histogram, ratio) in [(&one, 0.3), (&other, 0.3), (&other, 1.2)] {
            histogram.observe_ratio(ratio);
        }
        one.add(&other);
        assert_eq!(one.counts(), [0, 0, 2, 0, 0, 0, 0, 0, 1]);
        assert!((one.sum() - 1.8).abs() < 1e-6, "{}", one.sum());
    }
}
