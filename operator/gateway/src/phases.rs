//! What a cold start took, phase by phase.
//!
//! `driver` knows how long the call had waited before an instance was begun for it, `instance` how
//! long that took to come up, the supervisor what it took inside. Told to the supervisor for its
//! REPORT line, to the caller as `Server-Timing`, and to `metrics`.

use std::fmt;
use std::time::Duration;

use http::HeaderValue;
use prometheus_client::encoding::EncodeLabelValue;

/// A part of a cold start; one follows the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "label values are in snake case")]
pub(crate) enum Phase {
    /// Until an instance was begun for the call: starts are paced.
    queue,
    /// Until the instance's pod or process was up.
    start,
    /// Until a waiting instance was the function's; in the place of `start`.
    claim,
    /// Until the code was on the disk, where the claim brings it.
    unpack,
    /// The runtime's start and the code outside the handler.
    init,
}

pub(crate) const PHASES: [Phase; 5] = [
    Phase::queue,
    Phase::start,
    Phase::claim,
    Phase::unpack,
    Phase::init,
];

impl Phase {
    fn as_str(self) -> &'static str {
        match self {
            Phase::queue => "queue",
            Phase::start => "start",
            Phase::claim => "claim",
            Phase::unpack => "unpack",
            Phase::init => "init",
        }
    }
}

/// In their order. Reads and writes the form of `Server-Timing`: `queue;dur=0.21, claim;dur=3.40`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Phases(Vec<(Phase, Duration)>);

impl Phases {
    pub(crate) fn of(phases: impl IntoIterator<Item = (Phase, Duration)>) -> Self {
        Phases(phases.into_iter().collect())
    }

    /// What of a header is understood: a supervisor may be newer.
    pub(crate) fn read(header: Option<&HeaderValue>) -> Self {
        let text = header.and_then(|value| value.to_str().ok()).unwrap_or("");
        let phases = text.split(',').filter_map(|part| {
            let (name, duration) = part.trim().split_once(";dur=")?;
            let phase = PHASES.into_iter().find(|phase| phase.as_str() == name)?;
            let seconds = duration.parse::<f64>().ok()? / 1000.0;
            Some((phase, Duration::try_from_secs_f64(seconds).ok()?))
        });
        Phases(phases.collect())
    }

    pub(crate) fn then(mut self, later: Phases) -> Self {
        self.0.extend(later.0);
        self
    }

    pub(crate) fn get(&self, phase: Phase) -> Option<Duration> {
        let mut known = self.0.iter();
        let (_, duration) = known.find(|(known, _)| *known == phase)?;
        Some(*duration)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Phase, Duration)> {
        self.0.iter().copied()
    }

    pub(crate) fn header(&self) -> HeaderValue {
        HeaderValue::try_from(self.to_string()).expect("names and numbers")
    }
}

impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (phase, duration)) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            let milliseconds = duration.as_secs_f64() * 1000.0;
            write!(f, "{separator}{};dur={milliseconds:.2}", phase.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_read_back_as_written_and_what_is_unknown_is_left_out() {
        let text = "queue;dur=0.21, claim;dur=3.40, unpack;dur=1.02, init;dur=8.40";
        let header = HeaderValue::from_static(text);
        let phases = Phases::read(Some(&header));
        assert_eq!(phases.to_string(), text);
        assert_eq!(phases.get(Phase::claim), Some(Duration::from_micros(3400)));
        let newer = HeaderValue::from_static("thaw;dur=1, init;dur=2, unpack;dur=soon");
        assert_eq!(Phases::read(Some(&newer)).to_string(), "init;dur=2.00");
        assert_eq!(Phases::read(None), Phases::default());
    }
}
