//! A gateway's metrics as `top` reads them, and what lies between two looks at them.
//!
//! Understands what Pilotlight's gateways write, not all of the OpenMetrics format. Of several
//! gateways the same sample is told once by each: they are summed.

use std::collections::BTreeMap;

/// A function's figures. Gauges are of one moment, counters go up.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Function {
    pub(super) starting: f64,
    pub(super) idle: f64,
    pub(super) busy: f64,
    pub(super) queued: f64,
    pub(super) calls: f64,
    /// Those of the calls that were not answered by the handler's own result.
    pub(super) failed: f64,
    pub(super) cold_starts: f64,
    pub(super) durations: Histogram,
}

/// Calls by their duration: how many took at most so many seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Histogram(Vec<(f64, f64)>);

/// One look at all gateways.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Samples {
    pub(super) functions: BTreeMap<String, Function>,
    /// Of cold starts, by phase.
    pub(super) phases: BTreeMap<String, Histogram>,
}

impl Samples {
    pub(super) fn read(text: &str) -> Self {
        let mut samples = Samples::default();
        for line in text.lines() {
            if let Some((name, labels, value)) = sample(line) {
                samples.add(name, &labels, value);
            }
        }
        samples
    }

    fn add(&mut self, name: &str, labels: &BTreeMap<&str, &str>, value: f64) {
        let bound = || match labels.get("le") {
            Some(&"+Inf") => Some(f64::INFINITY),
            Some(bound) => bound.parse().ok(),
            None => None,
        };
        if name == "pilotlight_cold_start_phase_seconds_bucket" {
            if let (Some(phase), Some(bound)) = (labels.get("phase"), bound()) {
                let phase = self.phases.entry((*phase).to_owned()).or_default();
                phase.add(bound, value);
            }
            return;
        }
        let Some(function) = labels.get("function") else {
            return;
        };
        let function = self.functions.entry((*function).to_owned()).or_default();
        let state = labels.get("state").copied();
        match (name, state) {
            ("pilotlight_instances", Some("starting")) => function.starting += value,
            ("pilotlight_instances", Some("idle")) => function.idle += value,
            ("pilotlight_instances", Some("busy")) => function.busy += value,
            ("pilotlight_queued", _) => function.queued += value,
            ("pilotlight_cold_starts_total", _) => function.cold_starts += value,
            ("pilotlight_invocations_total", _) => {
                function.calls += value;
                if labels.get("outcome") != Some(&"success") {
                    function.failed += value;
                }
            }
            ("pilotlight_invocation_duration_seconds_bucket", _) => {
                if let Some(bound) = bound() {
                    function.durations.add(bound, value);
                }
            }
            _ => {}
        }
    }

    /// What has been counted since an earlier look; gauges as they are now. After a restart a
    /// gateway counts from zero: what it had counted before is left out.
    pub(super) fn since(&self, earlier: &Samples) -> Samples {
        let mut between = self.clone();
        for (name, function) in &mut between.functions {
            if let Some(earlier) = earlier.functions.get(name) {
                let more = |now: f64, then: f64| (now - then).max(0.0);
                function.calls = more(function.calls, earlier.calls);
                function.failed = more(function.failed, earlier.failed);
                function.cold_starts = more(function.cold_starts, earlier.cold_starts);
                function.durations = function.durations.since(&earlier.durations);
            }
        }
        for (name, phase) in &mut between.phases {
            if let Some(earlier) = earlier.phases.get(name) {
                *phase = phase.since(earlier);
            }
        }
        between
    }
}

impl Histogram {
    fn add(&mut self, bound: f64, count: f64) {
        match self.0.iter_mut().find(|(known, _)| *known == bound) {
            Some((_, sum)) => *sum += count,
            None => self.0.push((bound, count)),
        }
    }

    fn since(&self, earlier: &Histogram) -> Histogram {
        let before = |bound: f64| {
            let mut known = earlier.0.iter();
            known
                .find(|(other, _)| *other == bound)
                .map_or(0.0, |(_, count)| *count)
        };
        let counts = self.0.iter();
        Histogram(
            counts
                .map(|(bound, count)| (*bound, (count - before(*bound)).max(0.0)))
                .collect(),
        )
    }

    /// Seconds that this share of the calls took at most, as near as the bounds tell; `None` if
    /// there was no call.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let (_, total) = *self.0.last()?;
        if total <= 0.0 {
            return None;
        }
        let wanted = share * total;
        let (mut low, mut below) = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= wanted {
                let within = count - below;
                let part = match within > 0.0 {
                    true => (wanted - below) / within,
                    false => 1.0,
                };
                // Beyond the last bound nothing is known but that.
                return Some(match bound.is_finite() {
                    true => low + (bound - low) * part,
                    false => low,
                });
            }
            (low, below) = (*bound, *count);
        }
        None
    }
}

/// `name{label="value",…} number`; `None` for anything else. The values hold no quotes.
fn sample(line: &str) -> Option<(&str, BTreeMap<&str, &str>, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.strip_suffix('}')?.split_once('{')?;
    let labels = labels.split("\",").map(|label| {
        let (name, value) = label.split_once("=\"")?;
        Some((name, value.trim_end_matches('"')))
    });
    Some((name, labels.collect::<Option<_>>()?, value.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# TYPE pilotlight_queued gauge
pilotlight_queued{function="a"} 2
pilotlight_instances{function="a",state="idle"} 3
pilotlight_instances{function="a",state="busy"} 1
pilotlight_invocations_total{function="a",outcome="success"} 8
pilotlight_invocations_total{function="a",outcome="throttled"} 2
pilotlight_cold_starts_total{function="a"} 4
pilotlight_invocation_duration_seconds_bucket{le="0.001",function="a"} 5
pilotlight_invocation_duration_seconds_bucket{le="0.0025",function="a"} 9
pilotlight_invocation_duration_seconds_bucket{le="+Inf",function="a"} 10
pilotlight_cold_start_phase_seconds_bucket{le="0.01",phase="init"} 4
pilotlight_cold_start_phase_seconds_bucket{le="+Inf",phase="init"} 4
# EOF
"#;

    #[test]
    fn the_samples_of_gateways_are_summed() {
        let one = Samples::read(TEXT);
        let a = &one.functions["a"];
        assert_eq!((a.queued, a.idle, a.busy), (2.0, 3.0, 1.0));
        assert_eq!((a.calls, a.failed, a.cold_starts), (10.0, 2.0, 4.0));
        let two = Samples::read(&TEXT.repeat(2));
        assert_eq!(two.functions["a"].calls, 20.0);
        assert_eq!(two.functions["a"].durations.quantile(0.5), Some(0.001));
    }

    #[test]
    fn a_quantile_lies_between_the_bounds_and_beyond_them_is_the_last() {
        let durations = &Samples::read(TEXT).functions["a"].durations;
        assert_eq!(durations.quantile(0.25), Some(0.0005));
        assert_eq!(durations.quantile(0.9), Some(0.0025));
        assert_eq!(durations.quantile(0.99), Some(0.0025));
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn between_two_looks_counters_are_differences_and_a_restart_counts_as_nothing() {
        let one = Samples::read(TEXT);
        let nothing = one.since(&one);
        let a = &nothing.functions["a"];
        assert_eq!((a.calls, a.idle), (0.0, 3.0));
        assert_eq!(a.durations.quantile(0.5), None);
        let restarted = Samples::default().since(&one);
        assert!(restarted.functions.is_empty());
        assert_eq!(one.since(&Samples::default()), one);
    }
}
