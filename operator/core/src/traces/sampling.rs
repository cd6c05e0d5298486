//! Which traces are kept: a ratio of all from their beginning (head), and errors and slow calls at their end (tail).
//!
//! `head` decides before the call runs, and the function sees the decision; a caller that has decided is followed. `keeps` decides
//! when the call has ended: until then its spans are held by the call alone, and nowhere else. The same trace has the same
//! head decision at every gateway, because it follows from the trace's id.

use std::str::FromStr;
use std::time::Duration;

use super::ids::TraceId;

/// The values of [`TraceId::random_part`].
const RANGE: u64 = 1 << 56;

/// The share of traces that are kept, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    /// Of [`RANGE`].
    below: u64,
}

/// A text that is no [`Ratio`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a number from 0 (no trace) to 1 (all)")]
pub struct InvalidRatio;

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Of the traces about which no caller has decided.
    pub ratio: Ratio,
    /// Keep each call that ends in an error.
    pub errors: bool,
    /// Keep each call that takes at least this long.
    pub slow: Option<Duration>,
}

impl Ratio {
    pub const ALL: Ratio = Ratio { below: RANGE };
    pub const NONE: Ratio = Ratio { below: 0 };
}

impl FromStr for Ratio {
    type Err = InvalidRatio;

    fn from_str(text: &str) -> Result<Self, InvalidRatio> {
        let ratio: f64 = text.parse().map_err(|_| InvalidRatio)?;
        match (0.0..=1.0).contains(&ratio) {
            true => Ok(Ratio {
                below: (ratio * RANGE as f64) as u64,
            }),
            false => Err(InvalidRatio),
        }
    }
}

impl Sampling {
    /// Whether the trace is kept whatever becomes of the call. `decision`: the caller's.
    pub fn head(&self, trace: TraceId, decision: Option<bool>) -> bool {
        decision.unwrap_or_else(|| trace.random_part() < self.ratio.below)
    }

    /// Whether the spans of a call that has ended are kept. `is_sampled`: the decision of [`Sampling::head`].
    pub fn keeps(&self, is_sampled: bool, is_error: bool, took: Duration) -> bool {
        is_sampled || (is_error && self.errors) || self.slow.is_some_and(|slow| took >= slow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(ratio: &str) -> Sampling {
        Sampling {
            ratio: ratio.parse().expect("a ratio"),
            errors: true,
            slow: Some(Duration::from_secs(1)),
        }
    }

    fn traces() -> impl Iterator<Item = TraceId> {
        (1..=1000_u64).filter_map(|number| {
            let mut bytes = [7; 16];
            let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            bytes[8..].copy_from_slice(&spread.to_be_bytes());
            TraceId::of_bytes(bytes)
        })
    }

    #[test]
    fn a_ratio_of_the_traces_is_kept_and_a_larger_one_keeps_these_too() {
        let kept = |ratio| {
            let sampling = sampling(ratio);
            Vec::from_iter(traces().filter(move |trace| sampling.head(*trace, None)))
        };
        assert_eq!((kept("0").len(), kept("1").len()), (0, 1000));
        let (few, more) = (kept("0.1"), kept("0.5"));
        assert!((80..120).contains(&few.len()) && (450..550).contains(&more.len()));
        assert!(few.iter().all(|trace| more.contains(trace)));
        assert_eq!("1".parse(), Ok(Ratio::ALL));
        assert_eq!("0.0".parse(), Ok(Ratio::NONE));
        for bad in ["", "-0.1", "1.1", "NaN", "half", "inf"] {
            assert_eq!(bad.parse::<Ratio>(), Err(InvalidRatio), "{bad}");
        }
    }

    #[test]
    fn a_caller_that_has_decided_is_followed() {
        for trace in traces().take(10) {
            assert!(sampling("0").head(trace, Some(true)));
            assert!(!sampling("1").head(trace, Some(false)));
        }
    }

    #[test]
    fn errors_and_slow_calls_are_kept_at_their_end() {
        let (short, long) = (Duration::from_millis(999), Duration::from_secs(1));
        let all = sampling("0");
        assert!(all.keeps(true, false, short));
        assert!(!all.keeps(false, false, short));
        assert!(all.keeps(false, true, short) && all.keeps(false, false, long));
        let none = Sampling {
            errors: false,
            slow: None,
            ..all
        };
        assert!(!none.keeps(false, true, long) && none.keeps(true, false, short));
    }
}
