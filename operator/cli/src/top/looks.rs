//! What lies between two looks at the gateways' state, and the quantiles of a histogram.
//!
//! `top` reads the state (`pilotlight_wire::state`); it counts from the start of each gateway. Pure.

use pilotlight_wire::state::{Durations, FunctionSummary, State};

/// What has been counted since an earlier look; instances and queues as they are now. A gateway that was
/// restarted counts from zero: what it had counted before is left out.
pub(super) fn since(now: &State, earlier: &State) -> State {
    let mut between = now.clone();
    for function in &mut between.functions {
        let mut known = earlier.functions.iter();
        if let Some(earlier) = known.find(|known| known.key() == function.key()) {
            subtract(function, earlier);
        }
    }
    for (name, phase) in &mut between.phases {
        if let Some(earlier) = earlier.phases.get(name) {
            subtract_durations(phase, earlier);
        }
    }
    between
}

fn subtract(function: &mut FunctionSummary, earlier: &FunctionSummary) {
    let (totals, before) = (&mut function.totals, &earlier.totals);
    for (count, before) in [
        (&mut totals.invocations, before.invocations),
        (&mut totals.failed, before.failed),
        (&mut totals.errors, before.errors),
        (&mut totals.throttles, before.throttles),
        (&mut totals.cold_starts, before.cold_starts),
    ] {
        *count = count.saturating_sub(before);
    }
    subtract_durations(&mut function.durations, &earlier.durations);
}

fn subtract_durations(durations: &mut Durations, earlier: &Durations) {
    if durations.bounds == earlier.bounds {
        let counts = durations.counts.iter_mut().zip(&earlier.counts);
        counts.for_each(|(count, before)| *count = count.saturating_sub(*before));
    }
}

/// The seconds that this share of the invocations took at most, as near as the bounds tell; `None` if there was
/// no invocation.
pub(super) fn quantile(durations: &Durations, share: f64) -> Option<f64> {
    let total: u64 = durations.counts.iter().sum();
    if total == 0 {
        return None;
    }
    let wanted = share * total as f64;
    let (mut low, mut below) = (0.0, 0.0);
    for (bound, count) in durations.bounds.iter().zip(&durations.counts) {
        let within = *count as f64;
        if below + within >= wanted {
            let part = match within > 0.0 {
                true => (wanted - below) / within,
                false => 1.0,
            };
            return Some(low + (bound - low) * part);
        }
        (low, below) = (*bound, below + within);
    }
    // Beyond the last bound, that is all there is to know.
    Some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{
        "functions": [{
            "namespace": "local", "name": "a", "qualifier": "$LATEST", "revision": "r",
            "instances": {"idle": 3, "busy": 1}, "queued": 2,
            "totals": {"invocations": 10, "failed": 2, "coldStarts": 4},
            "durations": {"bounds": [0.001, 0.0025], "counts": [5, 4, 1]}
        }],
        "phases": {"init": {"bounds": [0.01], "counts": [4, 0]}}
    }"#;

    fn state() -> State {
        serde_json::from_str(JSON).expect("a state")
    }

    #[test]
    fn a_quantile_lies_between_the_bounds_and_beyond_them_is_the_last() {
        let durations = &state().functions[0].durations;
        assert_eq!(quantile(durations, 0.25), Some(0.0005));
        assert_eq!(quantile(durations, 0.9), Some(0.0025));
        assert_eq!(quantile(durations, 0.99), Some(0.0025));
        assert_eq!(quantile(&Durations::default(), 0.5), None);
    }

    #[test]
    fn between_two_looks_counters_are_differences_and_a_restart_counts_as_nothing() {
        let one = state();
        let nothing = since(&one, &one);
        let a = &nothing.functions[0];
        assert_eq!((a.totals.invocations, a.instances.idle), (0, 3));
        assert_eq!(quantile(&a.durations, 0.5), None);
        assert_eq!(quantile(&nothing.phases["init"], 0.5), None);
        let mut restarted = one.clone();
        restarted.functions[0].totals.invocations = 3;
        assert_eq!(since(&restarted, &one).functions[0].totals.invocations, 0);
        assert_eq!(since(&one, &State::default()), one);
    }
}
