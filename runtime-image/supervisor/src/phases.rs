//! What a cold start took, part by part, as `Server-Timing` has it (`pilotlight_core::wire::PHASES`).
//!
//! Reads what the gateway sends with the first lease, and writes what its answer brings of this
//! side. `platform_log` words them in REPORT; `worker` knows what unpacking and init took.

use std::fmt;
use std::time::Duration;

use hyper::header::HeaderValue;

/// More parts, or longer names, no gateway sends.
const COUNT_LIMIT: usize = 8;
const NAME_LIMIT: usize = 16;

/// In their order: names of small letters, and how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Phases(Vec<(String, Duration)>);

impl Phases {
    /// What of a header is understood, if anything.
    pub(crate) fn read(header: &HeaderValue) -> Option<Self> {
        let parts = header.to_str().unwrap_or("").split(',');
        let phases = parts.filter_map(|part| {
            let (name, millis) = part.trim().split_once(";dur=")?;
            let is_name = (1..=NAME_LIMIT).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_lowercase());
            let seconds = millis.parse::<f64>().ok()? / 1000.0;
            let duration = Duration::try_from_secs_f64(seconds).ok()?;
            is_name.then(|| (name.to_owned(), duration))
        });
        let phases: Vec<_> = phases.take(COUNT_LIMIT).collect();
        (!phases.is_empty()).then_some(Phases(phases))
    }

    pub(crate) fn add(&mut self, name: &str, duration: Option<Duration>) {
        self.0
            .extend(duration.map(|duration| (name.to_owned(), duration)));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Duration)> {
        self.0
            .iter()
            .map(|(name, duration)| (name.as_str(), *duration))
    }

    /// `None` if there is none.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let header = HeaderValue::try_from(self.to_string());
        (!self.0.is_empty()).then(|| header.expect("names and numbers are ASCII"))
    }
}

impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, duration)) in self.iter().enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            let millis = duration.as_secs_f64() * 1e3;
            write!(f, "{separator}{name};dur={millis:.2}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_understood_reads_back_as_written_and_the_rest_is_left_out() {
        let sent = "queue;dur=0.21, claim;dur=3.4,Evil\tname;dur=1, init;dur=soon, x;dur=-1, y";
        let read = |text| Phases::read(&HeaderValue::from_static(text));
        assert_eq!(read("init"), None);
        let mut phases = read(sent).expect("two");
        assert_eq!(phases.to_string(), "queue;dur=0.21, claim;dur=3.40");
        phases.add("unpack", None);
        phases.add("init", Some(Duration::from_micros(8400)));
        let told = phases.header().expect("three");
        assert_eq!(told, "queue;dur=0.21, claim;dur=3.40, init;dur=8.40");
        assert_eq!(Phases::default().header(), None);
    }
}
