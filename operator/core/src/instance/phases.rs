//! The durations of a cold start, phase by phase, in the format of `Server-Timing`.
//!
//! The gateway measures the wait until an instance started and the time until it was up; the supervisor
//! measures the phases inside the instance. Each sends its part to the other in a header, for the
//! response, the metrics and the REPORT line.

use std::fmt;
use std::time::Duration;

/// A part of an invocation. Each follows the one before it; all but `Run` and `Respond` belong to cold starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The wait until an instance started for the call, since starts are paced.
    Queue,
    /// The time until the gateway had the code of a claim.
    Fetch,
    /// The time until the instance's pod or process was up.
    Start,
    /// The time until an instance of a warm pool was claimed; replaces `Start`.
    Claim,
    /// The time until the code of a claim was unpacked.
    Unpack,
    /// The runtime's start and the code outside the handler.
    Init,
    /// The handler.
    Run,
    /// The way of the answer to the gateway.
    Respond,
}

impl Phase {
    /// In the order in which they come.
    pub const ALL: [Phase; 8] = [
        Phase::Queue,
        Phase::Fetch,
        Phase::Start,
        Phase::Claim,
        Phase::Unpack,
        Phase::Init,
        Phase::Run,
        Phase::Respond,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Queue => "queue",
            Phase::Fetch => "fetch",
            Phase::Start => "start",
            Phase::Claim => "claim",
            Phase::Unpack => "unpack",
            Phase::Init => "init",
            Phase::Run => "run",
            Phase::Respond => "respond",
        }
    }
}

/// Durations in the order of the phases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Phases(Vec<(Phase, Duration)>);

impl Phases {
    pub fn of(phases: impl IntoIterator<Item = (Phase, Duration)>) -> Self {
        Phases(phases.into_iter().collect())
    }

    /// Reads a text and skips the parts it does not understand, since the other side may be newer.
    pub fn read(text: &str) -> Self {
        let mut phases = Phases::default();
        for part in text.split(',') {
            let read = || {
                let (name, milliseconds) = part.trim().split_once(";dur=")?;
                let phase = Phase::ALL
                    .into_iter()
                    .find(|phase| phase.as_str() == name)?;
                let seconds = milliseconds.parse::<f64>().ok()? / 1000.0;
                Some((phase, Duration::try_from_secs_f64(seconds).ok()?))
            };
            if let Some((phase, duration)) = read()
                && phases.get(phase).is_none()
            {
                phases.0.push((phase, duration));
            }
        }
        phases
    }

    pub fn add(&mut self, phase: Phase, duration: Option<Duration>) {
        self.0.extend(duration.map(|duration| (phase, duration)));
    }

    pub fn get(&self, phase: Phase) -> Option<Duration> {
        let mut known = self.0.iter();
        let (_, duration) = known.find(|(known, _)| *known == phase)?;
        Some(*duration)
    }

    pub fn iter(&self) -> impl Iterator<Item = (Phase, Duration)> {
        self.0.iter().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// `queue;dur=0.21, claim;dur=3.40`, in milliseconds.
impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (phase, duration)) in self.iter().enumerate() {
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
    fn known_phases_read_back_as_written_and_all_other_text_is_skipped() {
        let text = "queue;dur=0.21, claim;dur=3.40";
        let sent = format!(
            "{text},Evil\tname;dur=1, thaw;dur=2, init;dur=soon, unpack;dur=-1, claim;dur=9, y"
        );
        let mut phases = Phases::read(&sent);
        assert_eq!(phases.to_string(), text);
        assert_eq!(phases.get(Phase::Claim), Some(Duration::from_micros(3400)));
        phases.add(Phase::Unpack, None);
        phases.add(Phase::Init, Some(Duration::from_micros(8400)));
        assert_eq!(phases.to_string(), format!("{text}, init;dur=8.40"));
        assert!(Phases::read("init").is_empty());
    }
}
