//! How long and how often each thing is measured.
//!
//! Owns the two sizes of a run; a full one takes less than four minutes. `bench` follows the plan and `report`
//! prints it. The plan does not change what is measured.

use std::time::Duration;

/// The lengths of one run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) is_quick: bool,
    pub(crate) latency_rounds: usize,
    /// How long one system is measured with one payload in each round.
    pub(crate) latency_slice: Duration,
    pub(crate) throughput_rounds: usize,
    pub(crate) throughput_slice: Duration,
    /// The beginning of each slice, which does not count.
    pub(crate) warm_up: Duration,
    /// Connections, and instances or upstream processes for them.
    pub(crate) connections: usize,
    /// How long processor time is measured without traffic.
    pub(crate) idle: Duration,
    pub(crate) cold_starts: usize,
}

impl Plan {
    pub(crate) fn full() -> Self {
        Plan {
            is_quick: false,
            latency_rounds: 12,
            latency_slice: Duration::from_millis(500),
            throughput_rounds: 10,
            throughput_slice: Duration::from_millis(2000),
            warm_up: Duration::from_millis(100),
            connections: 32,
            idle: Duration::from_secs(10),
            cold_starts: 15,
        }
    }

    pub(crate) fn quick() -> Self {
        Plan {
            is_quick: true,
            latency_rounds: 2,
            latency_slice: Duration::from_millis(200),
            throughput_rounds: 2,
            throughput_slice: Duration::from_millis(500),
            idle: Duration::from_secs(2),
            cold_starts: 3,
            ..Plan::full()
        }
    }
}
