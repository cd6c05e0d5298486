//! A histogram of durations that many threads fill without a lock.
//!
//! `metrics` has one for each function and for each phase of cold starts. It is written as a Prometheus
//! histogram (`/metrics`) and read for the state API (`wire::state`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pilotlight_wire::state::Durations;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper bounds, in seconds.
const BOUNDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 900.0,
];

/// Cheap to clone; all clones are one histogram.
#[derive(Clone, Debug, Default)]
pub(crate) struct DurationHistogram(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// By bound; the last one is for all that took longer.
    counts: [AtomicU64; BOUNDS.len() + 1],
    /// The sum of all durations, in nanoseconds.
    sum: AtomicU64,
}

impl DurationHistogram {
    pub(crate) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let place = BOUNDS.partition_point(|bound| *bound < seconds);
        self.0.counts[place].fetch_add(1, Ordering::Relaxed);
        // A u64 holds 584 years.
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.0.sum.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub(crate) fn durations(&self) -> Durations {
        let counts = self.0.counts.iter();
        Durations {
            bounds: BOUNDS.to_vec(),
            counts: counts.map(|count| count.load(Ordering::Relaxed)).collect(),
        }
    }
}

impl TypedMetric for DurationHistogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for DurationHistogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts = self.durations().counts;
        let sum = Duration::from_nanos(self.0.sum.load(Ordering::Relaxed)).as_secs_f64();
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
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
        let histogram = DurationHistogram::default();
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
}
