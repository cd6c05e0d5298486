//! The results of a run, and the few statistics that the report needs.
//!
//! Filled by the measuring modules; `report` and `plot` read it. Figures are measured in rounds and compared within
//! each round.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::machine::Machine;
use crate::process_stats::{Activity, Memory};
use crate::stage::{Function, System};
use pilotlight_load::timing::{Times, no_times};

/// All of one run.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    /// The share of the cores that others took while the bench rested.
    pub(crate) others: f64,
    pub(crate) latency: Vec<LatencySeries>,
    pub(crate) throughput: Vec<ThroughputSeries>,
    pub(crate) footprints: Vec<Footprint>,
    pub(crate) cold_starts: Vec<ColdStarts>,
    /// The time of the Python handler itself.
    pub(crate) hello_handler: Duration,
    /// The number of instances that one connection started.
    pub(crate) instances: usize,
}

/// The calls of one system with one payload.
#[derive(Debug)]
pub(crate) struct LatencySeries {
    pub(crate) system: System,
    pub(crate) function: Function,
    pub(crate) bytes: usize,
    pub(crate) rounds: Vec<Times>,
}

/// The calls of one system over all connections: calls per second and their times.
#[derive(Debug)]
pub(crate) struct ThroughputSeries {
    pub(crate) system: System,
    pub(crate) function: Function,
    pub(crate) rounds: Vec<(f64, Times)>,
    /// Processor time over all rounds, by part, and the number of calls that used it.
    pub(crate) cpu: [Duration; PARTS.len()],
    pub(crate) calls: f64,
}

/// The parts that use processor time while calls are made.
pub(crate) const PARTS: [&str; 4] = ["client", "proxy or gateway", "supervisors", "functions"];

/// One process.
#[derive(Debug)]
pub(crate) struct Footprint {
    pub(crate) name: String,
    /// After its first call.
    pub(crate) first: Memory,
    /// After the load.
    pub(crate) loaded: Memory,
    pub(crate) idle: Activity,
}

#[derive(Debug)]
pub(crate) struct ColdStarts {
    pub(crate) function: Function,
    pub(crate) bare: Vec<Duration>,
    pub(crate) pilotlight: Vec<Duration>,
}

/// The middle and the ends of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` without values.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values.get(middle.checked_sub(1)?)? + values[middle]) / 2.0,
            _ => values[middle],
        };
        Some(Spread {
            median,
            min: *values.first()?,
            max: *values.last()?,
        })
    }
}

impl LatencySeries {
    /// The values of all rounds together.
    pub(crate) fn pooled(&self) -> Result<Times> {
        pool(&self.rounds)
    }

    fn quantiles(&self, quantile: f64) -> impl Iterator<Item = f64> {
        self.rounds
            .iter()
            .map(move |times| milliseconds(times, quantile))
    }

    /// The difference to `base` at a quantile, in milliseconds, for each round.
    pub(crate) fn added(&self, base: &LatencySeries, quantile: f64) -> Result<Spread> {
        let pairs = self.quantiles(quantile).zip(base.quantiles(quantile));
        Spread::of(pairs.map(|(own, base)| own - base)).context("no rounds")
    }

    /// The ratio to `base` at a quantile, for each round.
    pub(crate) fn ratio(&self, base: &LatencySeries, quantile: f64) -> Result<Spread> {
        let pairs = self.quantiles(quantile).zip(base.quantiles(quantile));
        Spread::of(pairs.map(|(own, base)| own / base)).context("no rounds")
    }
}

impl ThroughputSeries {
    pub(crate) fn rate(&self) -> Result<Spread> {
        Spread::of(self.rounds.iter().map(|(rate, _)| *rate)).context("no rounds")
    }

    pub(crate) fn ratio(&self, base: &ThroughputSeries) -> Result<Spread> {
        let pairs = self.rounds.iter().zip(&base.rounds);
        Spread::of(pairs.map(|((own, _), (base, _))| own / base)).context("no rounds")
    }

    pub(crate) fn pooled(&self) -> Result<Times> {
        pool(self.rounds.iter().map(|(_, times)| times))
    }

    /// Processor time of one call, in microseconds.
    pub(crate) fn cpu_per_call(&self) -> [f64; PARTS.len()] {
        self.cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / self.calls)
    }
}

impl ColdStarts {
    pub(crate) fn new(function: Function) -> Self {
        ColdStarts {
            function,
            bare: Vec::new(),
            pilotlight: Vec::new(),
        }
    }

    /// The time that the platform adds, in milliseconds, for each start.
    pub(crate) fn added(&self) -> Result<Spread> {
        let pairs = self.pilotlight.iter().zip(&self.bare);
        let added = pairs.map(|(own, bare)| (own.as_secs_f64() - bare.as_secs_f64()) * 1e3);
        Spread::of(added).context("no cold starts")
    }

    pub(crate) fn ratio(&self) -> Result<Spread> {
        let pairs = self.pilotlight.iter().zip(&self.bare);
        let ratios = pairs.map(|(own, bare)| own.as_secs_f64() / bare.as_secs_f64());
        Spread::of(ratios).context("no cold starts")
    }
}

impl Results {
    pub(crate) fn latency(
        &self,
        system: System,
        function: Function,
        bytes: usize,
    ) -> Result<&LatencySeries> {
        let wanted = |series: &&LatencySeries| {
            (series.system, series.function, series.bytes) == (system, function, bytes)
        };
        self.latency
            .iter()
            .find(wanted)
            .context("a contestant that was not measured")
    }

    pub(crate) fn throughput(&self, system: System) -> Result<&ThroughputSeries> {
        let series = self
            .throughput
            .iter()
            .find(|series| series.system == system);
        series.context("a contestant that was not measured")
    }
}

pub(crate) fn milliseconds(times: &Times, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1e6
}

fn pool<'a>(rounds: impl IntoIterator<Item = &'a Times>) -> Result<Times> {
    let mut all = no_times()?;
    for times in rounds {
        all.add(times)?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_of_odd_and_even_counts() {
        let spread = Spread::of([3.0, 1.0, 2.0]);
        assert_eq!(
            spread,
            Some(Spread {
                median: 2.0,
                min: 1.0,
                max: 3.0
            })
        );
        let spread = Spread::of([4.0, 1.0]);
        assert_eq!(
            spread,
            Some(Spread {
                median: 2.5,
                min: 1.0,
                max: 4.0
            })
        );
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn differences_are_taken_within_a_round() {
        let series = |rounds: [u64; 3]| {
            let rounds = rounds.map(|nanoseconds| {
                let mut times = no_times().expect("a histogram");
                times.record(nanoseconds).expect("in range");
                times
            });
            let (system, function) = (System::Pilotlight, Function::Hello);
            LatencySeries {
                system,
                function,
                bytes: 0,
                rounds: rounds.into(),
            }
        };
        // Drift of the machine from round to round, and a constant difference.
        let (base, own) = (
            series([1_000_000, 5_000_000, 9_000_000]),
            series([2_000_000, 6_000_000, 10_000_000]),
        );
        let added = own.added(&base, 0.5).expect("rounds");
        assert!(
            (added.median - 1.0).abs() < 0.01 && (added.max - added.min).abs() < 0.02,
            "{added:?}"
        );
    }
}
